"""Rendezvous: signaling through a relay's /v1/rendezvous, by which peers find each other's keys."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterator, Callable
from enum import Enum
from types import TracebackType
from typing import Self

from stunwire.rendezvous import PATH, Result
from yarl import URL

from peerpath.identity import Identity, PublicKey
from peerpath.net.dialing import Dial, dial_host
from peerpath.net.waits import Waits
from peerpath.signaling.channel import MAX_MESSAGE_BYTES, SignalingClosed, SignalingError
from peerpath.signaling.envelope import Route
from peerpath.signaling.mailbox import Mailbox
from peerpath.signaling.rendezvous_link import LinkLost, RendezvousError, RendezvousLink

MIN_BACKOFF = 1.0
MAX_BACKOFF = 60.0
SEND_TIMEOUT = 15.0
RESULT_TIMEOUT = 3.0
"""How long the server may take to say what became of a message, longer on a slow way. A network that was
changed underneath shows here first: TCP itself would go on trying for minutes."""
_RETRY_SECONDS = 0.5
_ATTEMPTS_PER_CHANNEL = 16
_MAX_CHANNELS = 1024

_log = logging.getLogger("peerpath")


class PeerAbsent(RendezvousError):
    """The peer has no device at this rendezvous now."""


class RendezvousState(Enum):
    """Where a Rendezvous stands."""

    CONNECTING = "connecting"
    REGISTERED = "registered"
    WAITING = "waiting"
    """For the next try to connect."""
    CLOSED = "closed"


OnState = Callable[[RendezvousState, str], None]
"""Called with each new state, and for WAITING with the reason in words."""


class Rendezvous:
    """Our place at one rendezvous server.

    async with Rendezvous("wss://relay.example.org", identity) as rendezvous:
        channel = rendezvous.channel(peer)                 # to dial
        async for peer, channel in rendezvous.incoming():  # to be dialed
            ...

    The server sees which keys talk, when and how much, and can drop messages; what they say is sealed. The
    key that `incoming` gives is the server's word: compare it with `Answering.peer`, which is proved.

    A connection that is lost is made again, after 1 s at first and up to 60 s later. `patient` enters
    although the server is not to be had at first; otherwise entering raises the RendezvousError.
    """

    def __init__(
        self,
        url: str,
        identity: Identity,
        *,
        tls: ssl.SSLContext | None = None,
        dial: Dial = dial_host,
        on_state: OnState | None = None,
        patient: bool = False,
        send_timeout: float = SEND_TIMEOUT,
    ) -> None:
        """`url` is ws:// or wss://, http:// or https://, the path may be left out. `dial` is the way to the
        server where that is not the direct one: `peerpath.net.way_out.dial_for` knows it. It has
        limits of time of its own.
        """
        self._url = _read_url(url)
        self._identity = identity
        self._tls = tls
        self._dial = dial
        self._on_state = on_state
        self._patient = patient
        self._send_timeout = send_timeout
        self._state = RendezvousState.CONNECTING
        self._changed = asyncio.Event()
        self._link: RendezvousLink | None = None
        self._failure = "not connected yet"
        self._abandoned = False
        self._running: asyncio.Task[None] | None = None
        self._routes: dict[tuple[PublicKey, bytes], RendezvousChannel] = {}
        self._incoming: Mailbox[tuple[PublicKey, RendezvousChannel]] = Mailbox()

    @property
    def state(self) -> RendezvousState:
        """Where it stands now."""
        return self._state

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        if not self._patient:
            try:
                await self._settled()
            except BaseException:
                await self.close()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leaves the server, and ends every channel."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self._incoming.close("the rendezvous was left")
        for channel in list(self._routes.values()):
            channel.close()

    def channel(self, peer: PublicKey) -> RendezvousChannel:
        """A channel to a peer, for attempts to dial it. Its messages are envelopes of Dialing."""
        return RendezvousChannel(self, peer)

    async def incoming(self) -> AsyncIterator[tuple[PublicKey, RendezvousChannel]]:
        """Each attempt of somebody to reach us, with the channel that its offer can be read from."""
        while True:
            try:
                yield await self._incoming.get()
            except SignalingClosed:
                return

    # -- for the channels ---------------------------------------------------------------------------------

    def _route(self, peer: PublicKey, attempt: bytes, channel: RendezvousChannel) -> None:
        if (peer, attempt) not in self._routes and len(self._routes) >= _MAX_CHANNELS:
            raise RendezvousError(
                f"{_MAX_CHANNELS} attempts are open; close their channels when they are over"
            )
        self._routes[peer, attempt] = channel

    def _forget(self, peer: PublicKey, attempt: bytes) -> None:
        self._routes.pop((peer, attempt), None)

    async def _send(self, peer: PublicKey, message: bytes) -> None:
        try:
            async with asyncio.timeout(self._send_timeout):
                while True:
                    if await self._sent(peer, message):
                        return
                    await asyncio.sleep(_RETRY_SECONDS)
        except TimeoutError:
            raise RendezvousError(
                f"the message could not be delivered within {self._send_timeout:g} s: {self._failure}"
            ) from None

    async def _sent(self, peer: PublicKey, message: bytes) -> bool:
        """False if it is worth another try."""
        link = await self._registered()
        # However slow the way is: of a silent server there must be time left for another link.
        patience = min(Waits(answer=RESULT_TIMEOUT).for_answer(link.round_trip), self._send_timeout / 2)
        try:
            async with asyncio.timeout(patience):
                result = await link.deliver(peer, message)
        except TimeoutError:
            self._failure = f"{self._url}: does not answer any more"
            link.abandon()
            self._abandoned = True
            return False
        except LinkLost:
            return False  # it may have arrived, and then the envelope is known at the second arrival
        if result is Result.ABSENT:
            raise PeerAbsent(f"{peer} is not at {self._url} now")
        if result is not Result.DELIVERED:
            self._failure = f"{self._url}: {_LATER[result]}"
        return result is Result.DELIVERED

    async def _registered(self) -> RendezvousLink:
        while self._link is None:
            if self._state is RendezvousState.CLOSED:
                raise SignalingClosed("the rendezvous was left")
            await self._changed.wait()
        return self._link

    # -- staying connected --------------------------------------------------------------------------------

    async def _settled(self) -> None:
        """Waits for the first registration; RendezvousError if it fails."""
        while self._state is not RendezvousState.REGISTERED:
            if self._state is not RendezvousState.CONNECTING:
                raise RendezvousError(self._failure)
            await self._changed.wait()

    async def _run(self) -> None:
        try:
            await self._stay_connected()
        except Exception as error:  # a mistake, ours or of a callback: nobody waits for what will not come
            self._failure = f"{self._url}: {type(error).__name__}: {error}"
            _log.error("the rendezvous has ended: %s", self._failure, exc_info=error)
            self._incoming.close(self._failure)
            for channel in self._routes.values():
                channel._inbox.close(self._failure)
        finally:
            self._become(RendezvousState.CLOSED)

    async def _stay_connected(self) -> None:
        backoff, clock = MIN_BACKOFF, asyncio.get_running_loop().time
        while True:
            self._become(RendezvousState.CONNECTING)
            started = clock()
            try:
                await self._use(await self._connect())
            except RendezvousError as error:
                self._failure = str(error)
                if isinstance(error, LinkLost) and error.replaced:
                    # At once would only push out the next one, and so on in a circle.
                    backoff = MAX_BACKOFF
                elif self._abandoned or clock() - started > MAX_BACKOFF:
                    backoff = MIN_BACKOFF
            if self._abandoned:
                # The network has changed, the server is as well as before: there is nothing to wait for.
                self._abandoned = False
                continue
            self._become(RendezvousState.WAITING, self._failure)
            # Half of it by chance: after a restart of the server its clients do not come all at once.
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(backoff * 2, MAX_BACKOFF)

    async def _connect(self) -> RendezvousLink:
        return await RendezvousLink.connect(self._url, self._identity, self._tls, self._dial)

    async def _use(self, link: RendezvousLink) -> None:
        self._link = link
        try:
            self._become(RendezvousState.REGISTERED)
            await link.run(self._receive)
        finally:
            self._link = None
            await link.close()

    def _receive(self, peer: PublicKey, message: bytes) -> None:
        try:
            route = Route.of(message)
        except SignalingError:
            return
        channel = self._routes.get((peer, route.attempt))
        if channel is None:
            # What is no offer belongs to an attempt that is over here, or to another device of ours.
            if not route.is_offer or len(self._routes) >= _MAX_CHANNELS:
                return
            channel = RendezvousChannel(self, peer)
            if not self._incoming.offer((peer, channel)):
                return
            channel._join(route.attempt)
        channel._inbox.offer(message)

    def _become(self, state: RendezvousState, reason: str = "") -> None:
        if state is self._state:
            return
        self._state = state
        self._changed.set()
        self._changed = asyncio.Event()
        if self._on_state is not None:
            self._on_state(state, reason)


class RendezvousChannel:
    """A channel to one peer, for one attempt or several after each other. `close` it when they are over."""

    trickle = True

    def __init__(self, rendezvous: Rendezvous, peer: PublicKey) -> None:
        self.peer = peer
        self._rendezvous = rendezvous
        self._attempts: list[bytes] = []
        self._inbox: Mailbox[bytes] = Mailbox()
        self._closed = False

    async def send(self, message: bytes) -> None:
        """Sends an envelope, waiting while the server is away; it has been passed on when this returns.

        PeerAbsent if the peer is not there, RendezvousError if the server is away for too long,
        SignalingClosed after `close`.
        """
        if self._closed:
            raise SignalingClosed("the channel was closed")
        if len(message) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(message)} bytes, {MAX_MESSAGE_BYTES} are the most")
        try:
            self._join(Route.of(message).attempt)
        except SignalingError as error:
            raise ValueError(f"a rendezvous carries envelopes alone: {error}") from error
        await self._rendezvous._send(self.peer, message)

    async def recv(self) -> bytes:
        """The next message of the attempts of this channel; SignalingClosed once no more will come."""
        return await self._inbox.get()

    def close(self) -> None:
        """Takes no more messages of its attempts."""
        self._closed = True
        for attempt in self._attempts:
            self._rendezvous._forget(self.peer, attempt)
        self._attempts.clear()
        self._inbox.close("the channel was closed")

    def _join(self, attempt: bytes) -> None:
        """Messages of this attempt come here from now on."""
        if attempt in self._attempts:
            return
        self._rendezvous._route(self.peer, attempt, self)
        self._attempts.append(attempt)
        if len(self._attempts) > _ATTEMPTS_PER_CHANNEL:
            self._rendezvous._forget(self.peer, self._attempts.pop(0))


_LATER = {
    Result.THROTTLED: "we send more than it takes",
    Result.CONGESTED: "the peer does not read what it has got",
}


def _read_url(text: str) -> URL:
    url = URL(text)
    schemes = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
    if url.scheme not in schemes or not url.host:
        raise ValueError(f"{text!r} is no address of a rendezvous, which looks like wss://relay.example.org")
    if url.user is not None or url.query_string or url.fragment:
        raise ValueError(f"{text!r}: an address of a rendezvous has no user, query or fragment")
    url = url.with_scheme(schemes[url.scheme])
    return url.with_path(PATH) if url.path in ("", "/") else url
