"""Does a STUN or TURN server do its work? Step by step, each with its time."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from stunwire import StunUri, TransportAddress, parse_uri

from peerpath.errors import PeerpathError, ServerError
from peerpath.net.addresses import join_host_port
from peerpath.net.resolving import Resolver
from peerpath.stun.binding import BindingAnswer
from peerpath.stun.sockets import BindingFailed, StunSocket, ask_over_stream
from peerpath.turn import LongTermCredentials, Output, PeerData, PermissionInstalled, PermissionRefused
from peerpath.turn.carriers import RelayUri
from peerpath.turn.connection import TurnConnection, TurnRefused, allocate
from peerpath.turn.tunnel import TunnelUri

_TUNNELS = ("ws:", "wss:")
_STEP_SECONDS = 8.0
_ROUND_TRIPS = 5
_RETRANSMIT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class CheckedStep:
    """One thing that was tried, and how long it took; `detail` is what came out, or the reason."""

    name: str
    ok: bool
    ms: float
    detail: str


async def check_server(
    uri: str,
    username: str | None = None,
    password: str | None = None,
    *,
    authority: str | None = None,
    on_step: Callable[[CheckedStep], None],
) -> None:
    """Tells `on_step` of every step, and stops at the first that fails.

    Without credentials a TURN server is only seen to ask for them. `authority` is a PEM file of certificates
    to trust. ValueError for a URI that cannot be parsed, or credentials that cannot be sent.
    """
    parsed = TunnelUri.parse(uri) if uri.strip().lower().startswith(_TUNNELS) else parse_uri(uri)
    if parsed.secure and parsed.transport == "udp":
        raise ValueError(f"{uri}: DTLS is not spoken here, use ?transport=tcp")
    tls = ssl.create_default_context(cafile=authority) if parsed.secure else None
    check = _Check(parsed, tls)
    steps: list[tuple[str, Callable[[], Awaitable[_Finding]]]] = [("Name", check.resolve)]
    if not isinstance(parsed, TunnelUri):
        steps.append(("Binding", check.binding))
    if not isinstance(parsed, StunUri):
        if username is None or password is None:
            steps.append(("Allocate without credentials", check.challenge))
        else:
            check.credentials = LongTermCredentials(username, password)
            steps += [("Allocate", check.allocate), ("Relayed round trip", check.relay)]
    try:
        for name, work in steps:
            step = await _timed(name, work)
            on_step(step)
            if not step.ok:
                return
    finally:
        await check.close()


@dataclass(frozen=True, slots=True)
class _Finding:
    detail: str
    ms: float | None = None
    """Where the step measured better than its own duration."""


async def _timed(name: str, work: Callable[[], Awaitable[_Finding]]) -> CheckedStep:
    started = time.perf_counter()

    def elapsed() -> float:
        return round((time.perf_counter() - started) * 1000, 2)

    try:
        async with asyncio.timeout(_STEP_SECONDS):
            finding = await work()
        return CheckedStep(name, True, elapsed() if finding.ms is None else finding.ms, finding.detail)
    except TimeoutError:
        return CheckedStep(name, False, elapsed(), f"nothing came within {_STEP_SECONDS:g} s")
    except ServerError as error:
        return CheckedStep(name, False, elapsed(), error.reason)
    except (PeerpathError, OSError) as error:
        return CheckedStep(name, False, elapsed(), str(error))


class _Check:
    """The steps, and what one leaves for the next."""

    def __init__(self, uri: StunUri | RelayUri, tls: ssl.SSLContext | None) -> None:
        self._uri = uri
        self._tls = tls
        self.credentials: LongTermCredentials | None = None
        self._address = TransportAddress("", 0)
        self._near: _Relayed | None = None
        self._far: _Relayed | None = None

    async def resolve(self) -> _Finding:
        """IPv4 first: the other family is asked for by an address in the URI."""
        found = await Resolver().addresses(self._uri.host, self._uri.port)
        found.sort(key=lambda address: ":" in address.host)
        self._address = found[0]
        return _Finding(", ".join(join_host_port(address) for address in found))

    async def binding(self) -> _Finding:
        assert not isinstance(self._uri, TunnelUri)
        if self._uri.transport == "udp":
            socket = await StunSocket.open(("::" if ":" in self._address.host else "0.0.0.0", 0))
            try:
                result = await socket.ask(self._address)
            finally:
                socket.close()
        else:
            result, _ = await ask_over_stream(self._address, tls=self._tls, server_name=self._uri.host)
        if not isinstance(result, BindingAnswer):
            raise BindingFailed(str(self._uri), result)
        software = f", {result.software}" if result.software else ""
        other = f", second address {join_host_port(result.other)}" if result.other else ""
        ms = None if result.round_trip is None else round(result.round_trip * 1000, 2)
        return _Finding(f"we are {join_host_port(result.mapped)}{other}{software}", ms)

    async def challenge(self) -> _Finding:
        """A server that relays for strangers is a find for every attacker, so that is a failure."""
        try:
            relayed = await self._allocate(None)
        except TurnRefused as refused:
            if refused.code == 401:
                return _Finding("it asks for credentials, as it should")
            raise
        await relayed.close()
        raise ServerError(str(self._uri), "it relays for anybody, without credentials")

    async def allocate(self) -> _Finding:
        self._near = _Relayed()
        self._near.connection = await self._allocate(self._near.heard)
        client = self._near.connection.client
        where = ", ".join(join_host_port(address) for address in client.relayed)
        return _Finding(f"relayed address {where}")

    async def relay(self) -> _Finding:
        """From one allocation of ours to another one and back: every server lets its own addresses talk."""
        assert self._near is not None
        assert self._near.connection is not None
        self._far = _Relayed(echo=True)
        self._far.connection = await self._allocate(self._far.heard)
        near, far = self._near.connection, self._far.connection
        there, back = far.client.relayed[0], near.client.relayed[0]
        far.permit([back])
        near.permit([there])
        await self._far.permitted()
        await self._near.permitted()
        times = [await self._near.round_trip(there, number) for number in range(_ROUND_TRIPS)]
        best = min(times)
        return _Finding(
            f"{join_host_port(back)} to {join_host_port(there)} and back, best of {len(times)}", best
        )

    async def close(self) -> None:
        for end in (self._near, self._far):
            if end is not None and end.connection is not None:
                await end.connection.close()

    async def _allocate(self, heard: Callable[[Output], None] | None) -> TurnConnection:
        assert not isinstance(self._uri, StunUri)
        # Without credentials of the caller's any will do: only the answer to the first request counts.
        credentials = self.credentials or LongTermCredentials("nobody", "none")
        return await allocate(
            self._uri, self._address, credentials, heard, tls=self._tls, patience=_STEP_SECONDS
        )


class _Relayed:
    """One allocation, and what came through it."""

    def __init__(self, *, echo: bool = False) -> None:
        self.connection: TurnConnection | None = None
        self._echo = echo
        self._permission: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._replies: asyncio.Queue[bytes] = asyncio.Queue()

    def heard(self, output: Output) -> None:
        if isinstance(output, PeerData):
            if self._echo and self.connection is not None:
                self.connection.send(output.peer, output.data)
            else:
                self._replies.put_nowait(output.data)
        elif isinstance(output, PermissionInstalled) and not self._permission.done():
            self._permission.set_result(None)
        elif isinstance(output, PermissionRefused) and not self._permission.done():
            reason = f"permission for {output.host} refused ({output.code})"
            self._permission.set_exception(ServerError("server", reason))
            self._permission.exception()  # asyncio complains of those that nobody looks at

    async def permitted(self) -> None:
        await self._permission

    async def round_trip(self, there: TransportAddress, number: int) -> float:
        """Milliseconds to the far end and back; sent again where nothing comes."""
        assert self.connection is not None
        data = f"peerpath check {number}".encode()
        while True:
            sent_at = time.perf_counter()
            self.connection.send(there, data)
            try:
                async with asyncio.timeout(_RETRANSMIT_SECONDS):
                    while await self._replies.get() != data:
                        pass
                return round((time.perf_counter() - sent_at) * 1000, 2)
            except TimeoutError:
                continue
