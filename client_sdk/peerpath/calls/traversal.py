"""Traversal: dial a key, talk, survive. What a chat client uses of this package."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Any, Literal, Self, get_args

from pydantic import SecretStr, ValidationError

from peerpath.arguments import require_positive
from peerpath.calls.attempt_limit import AttemptLimit
from peerpath.calls.audit import AuditLog, OnAudit
from peerpath.calls.channels import OwnChannel
from peerpath.calls.decision import Authorize, refuse_everybody
from peerpath.calls.dialer import Dialer
from peerpath.calls.kit import CallKit, CallOptions
from peerpath.calls.listener import Listener
from peerpath.calls.outcome_reporter import OutcomeReporter
from peerpath.calls.reception import Reception
from peerpath.connection import Connection, ConnectionOptions
from peerpath.errors import SettingsError, TraversalError
from peerpath.fallbacks import Fallback
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.from_settings import endpoint_from, relay_options, servers_from
from peerpath.ice.relay_plan import plan
from peerpath.ice.role import Role
from peerpath.identity import Identity, PublicKey
from peerpath.nat.behaviour import NatBehaviour
from peerpath.nat.discoverer import discover_behaviour
from peerpath.net.way_out import dial_for
from peerpath.plan import Policy
from peerpath.settings import Settings, TurnServerSettings, in_our_words
from peerpath.signaling import Rendezvous, ReplayGuard, Signaling
from peerpath.stun.servers import StunServer

Privacy = Literal["full", "relay_only"]

_log = logging.getLogger("peerpath")


class Traversal:
    """This device as one identity, with its servers and its policy.

        async with Traversal(identity, ["stun:a", "turn:b"], username="u", password="p") as nat:
            async with nat.connect(peer_key, signaling=rendezvous, timeout=15) as connection:
                await connection.send(b"hello")

        async with Traversal(identity, servers, authorize=Contacts([alice])) as nat:
            async with nat.listen(rendezvous) as calls:
                async for connection in calls: ...

    `servers` are `stun:`, `turn:`, `turns:` and `wss:` URIs, or TurnServerSettings where their credentials
    differ; they are used beside those of `settings`. `privacy="relay_only"` shows no peer an address of this
    machine.
    `authorize` decides who may call, and refuses everybody unless it is given. `audit` is told of every
    attempt, without addresses unless `audit_addresses`. `outcomes` reports to the operator of a relay how
    calls went, which nobody is told otherwise.

    SettingsError, a ValueError, for an argument that cannot be used, naming it. A connection that outlives
    the Traversal is closed with it.
    """

    def __init__(
        self,
        identity: Identity,
        servers: Sequence[str | StunServer | TurnServerSettings] = (),
        *,
        username: str = "",
        password: str = "",
        settings: Settings | None = None,
        authorize: Authorize = refuse_everybody,
        privacy: Privacy = "full",
        audit: OnAudit | None = None,
        audit_addresses: bool = False,
        outcomes: OutcomeReporter | None = None,
        options: CallOptions | None = None,
        connection: ConnectionOptions | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.identity = identity
        self._own_settings = settings or Settings.load()
        self.settings = _with_servers(self._own_settings, servers, username, password)
        self.behaviour = NatBehaviour()
        """What is in front of this machine; found out in the background."""
        self._privacy = _checked(privacy)
        self._wall = wall_clock
        self._outcomes = outcomes
        options = options or CallOptions()
        self._kit = CallKit(
            identity,
            self._endpoint,
            authorize,
            AuditLog(audit, addresses=audit_addresses, on_error=_complain),
            lambda: self.behaviour,
            self._policy,
            options,
            connection or ConnectionOptions(),
            ReplayGuard(),
            AttemptLimit(options.attempts_per_minute, options.attempts_burst),
        )
        self._dialers: set[Dialer] = set()
        self._receptions: set[Reception] = set()
        self._discovering: asyncio.Task[None] | None = None

    # -- calls ------------------------------------------------------------------------------------------

    def connect(
        self,
        peer: PublicKey | str,
        signaling: Any,
        *,
        timeout: float | None = None,
        privacy: Privacy | None = None,
    ) -> Connecting:
        """Dials `peer`: await the result, or use it with `async with`, which closes the connection.

        `signaling` is a Rendezvous, or a channel to this peer with `send(bytes)` and `recv()`.
        CallRefused when the peer does not want to talk, CallError (a TraversalError) with everything that
        was tried when there is no connection within `timeout` seconds. The connection survives changes of
        network, and is made again if it breaks, for as long as CallOptions says.
        """
        key = PublicKey.parse(peer) if isinstance(peer, str) else peer
        within = self._kit.options.timeout if timeout is None else timeout
        require_positive("timeout", within)
        chosen = self._privacy if privacy is None else _checked(privacy)
        return Connecting(lambda: self._dial(key, signaling, within, chosen))

    def listen(self, signaling: Any) -> Listener:
        """Takes calls by a Rendezvous or a channel; use it with `async with`.

        Several may be open at one `signaling`, at the same time or one after the other.
        """
        return Listener(lambda: self._reception(signaling))

    async def accept(self, signaling: Signaling, *, within: float | None = None) -> Connection:
        """One call by one channel. TimeoutError if none was made and allowed within so many seconds."""
        async with self.listen(signaling) as calls:
            return await asyncio.wait_for(calls.accept(), within)

    def _reception(self, source: Any) -> Reception:
        """The one that reads `source`: two readers would take each other's messages."""
        for known in self._receptions:
            if known.source is source:
                return known
        made = Reception(self._kit, source, self._receptions.discard, wall=self._wall)
        self._receptions.add(made)
        return made

    async def _dial(self, peer: PublicKey, signaling: Any, within: float, privacy: Privacy) -> Connection:
        if peer == self.identity.public_key:
            raise ValueError("that is this side's own key: there is nobody else to talk to")

        async def open_channel() -> Signaling:
            open_one = getattr(signaling, "channel", None)
            if open_one is None:
                given: Signaling = signaling
                return given
            channel = open_one(peer)
            return OwnChannel(channel, channel.close)

        dialer = Dialer(
            self._kit,
            peer,
            open_channel,
            self._dialers.discard,
            relay_only=privacy == "relay_only",
            wall=self._wall,
        )
        self._dialers.add(dialer)
        try:
            connection = await dialer.connect(within)
        except BaseException:
            self._dialers.discard(dialer)
            raise
        finally:
            # With onion_only nothing leaves but to Tor, reports to an operator neither.
            outcomes = None if self.settings.onion_only else self._outcomes
            if outcomes is not None and dialer.outcome is not None:
                outcomes.report(dialer.record(self.behaviour.nat_type))
        return connection

    def rendezvous(self, url: str, **more: Any) -> Rendezvous:
        """Our place at a rendezvous, through the proxy or Tor where the settings want that.

        `more` goes to Rendezvous as it is. SettingsError for a proxy in the environment that cannot be read.
        """
        return Rendezvous(url, self.identity, dial=dial_for(url, self.settings), **more)

    # -- servers ----------------------------------------------------------------------------------------

    def use_servers(
        self,
        servers: Sequence[str | StunServer | TurnServerSettings],
        *,
        username: str = "",
        password: str = "",
    ) -> None:
        """These take the place of the servers that this was made with: for credentials that end.

        They count from the next attempt on, also where a connection that there is looks for another path or
        is made again; what it uses now it keeps, for a relay ends no allocation because its credential has
        ended. SettingsError as when this was made.
        """
        self.settings = _with_servers(self._own_settings, servers, username, password)

    def _endpoint(self, role: Role, *, relay_only: bool, peer: PublicKey) -> IceEndpoint:
        settings = self.settings
        if relay_only or self._privacy == "relay_only":
            settings = settings.model_copy(update={"relay_only": True})
        return endpoint_from(role, settings, isolation=peer.raw)

    def _policy(self, is_trusted: bool) -> Policy:
        settings = self.settings
        if self._privacy == "relay_only":
            settings = settings.model_copy(update={"relay_only": True})
        # What the ladder will climb, so that the two never say different things.
        stages = plan(servers_from(settings), relay_options(settings))
        has = {stage.fallback for stage in stages if not stage.is_empty}
        return Policy.of(
            settings,
            has_turn=Fallback.TURN in has,
            has_tunnel=Fallback.HTTP_TUNNEL in has,
            has_proxy=Fallback.PROXY in has,
            has_onion=Fallback.ONION in has,
            is_trusted=is_trusted,
        )

    async def _discover(self) -> None:
        """Finds out what kind of NAT this is. Nobody waits for it."""
        servers = [*self.settings.primary_servers, *self.settings.backup_stun_servers]
        with suppress(TraversalError, OSError):
            discovery = await discover_behaviour(servers)
            self.behaviour = discovery.behaviour

    # -- the end ----------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Closes every connection and listener, and gives everything back."""
        if self._discovering is not None:
            self._discovering.cancel()
            await asyncio.gather(self._discovering, return_exceptions=True)
        calls = [dialer.close() for dialer in list(self._dialers)]
        calls += [reception.close() for reception in list(self._receptions)]
        await asyncio.gather(*calls, return_exceptions=True)
        self._dialers.clear()
        self._receptions.clear()
        if self._outcomes is not None:
            await self._outcomes.close()

    async def __aenter__(self) -> Self:
        hides = self.settings.relay_only or self.settings.onion_only
        is_asked = self.settings.automatic and not hides and self._privacy == "full"
        if is_asked and (self.settings.names_stun_servers or self.settings.turn_servers):
            self._discovering = asyncio.get_running_loop().create_task(self._discover())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Connecting:
    """A call on its way: await it, or use it with `async with`."""

    def __init__(self, dial: Callable[[], Any]) -> None:
        self._dial = dial
        self._connection: Connection | None = None

    def __await__(self) -> Generator[Any, None, Connection]:
        result: Generator[Any, None, Connection] = self._dial().__await__()
        return result

    async def __aenter__(self) -> Connection:
        self._connection = await self
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await self._connection.close()


def _checked(privacy: Privacy) -> Privacy:
    """A slip of the pen must not show addresses."""
    if privacy not in get_args(Privacy):
        choices = " or ".join(f'"{choice}"' for choice in get_args(Privacy))
        raise SettingsError("privacy", f"write {choices}, not {privacy!r}")
    return privacy


def _with_servers(
    settings: Settings,
    servers: Sequence[str | StunServer | TurnServerSettings],
    username: str,
    password: str,
) -> Settings:
    if isinstance(servers, str):
        raise SettingsError("servers", f"write a list, [{servers!r}], not one string")
    stun, turn = list(settings.custom_stun_servers), list(settings.turn_servers)
    for given in servers:
        server = _server(given, username, password)
        if isinstance(server, TurnServerSettings):
            turn.append(server)
        else:
            stun.append(server)
    return settings.model_copy(update={"custom_stun_servers": tuple(stun), "turn_servers": tuple(turn)})


def _server(
    given: str | StunServer | TurnServerSettings, username: str, password: str
) -> StunServer | TurnServerSettings:
    if isinstance(given, TurnServerSettings | StunServer):
        return given
    if not isinstance(given, str):
        raise SettingsError("servers", f"{given!r} is no server: write stun:host or turn:host")
    scheme, _, rest = given.strip().lower().partition("?")[0].partition(":")
    try:
        if scheme in ("turn", "turns", "ws", "wss"):
            return TurnServerSettings(uri=given, username=username, password=SecretStr(password))
        is_scheme = rest.startswith("//") or (scheme.isalpha() and rest[:1].isalpha() and ":" not in rest)
        if is_scheme and scheme not in ("stun", "stuns"):
            raise SettingsError("servers", f"{given}: begin with stun:, stuns:, turn:, turns: or wss://")
        return StunServer.parse(given)
    except ValidationError as error:
        reason = in_our_words(error).reason
        raise SettingsError("servers", reason if given in reason else f"{given}: {reason}") from None
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError("servers", str(error)) from None


def _complain(error: Exception) -> None:
    _log.error("the audit callback failed: %s", error, exc_info=error)
