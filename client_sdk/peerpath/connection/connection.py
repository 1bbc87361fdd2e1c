"""Connection: messages, streams and datagrams to one peer, for as long as both want."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from peerpath.connection.driver import LinkDriver
from peerpath.connection.errors import ConnectionClosed, DatagramTooLarge, MessageTooLarge
from peerpath.connection.frames import ProtocolViolation
from peerpath.connection.messages import MessageSession, SessionUnknown
from peerpath.connection.options import ConnectionOptions
from peerpath.connection.path import Path, PathEvent
from peerpath.connection.path_events import PathEvents
from peerpath.connection.report import ConnectionReport
from peerpath.connection.state import ConnectionState
from peerpath.connection.statistics import ConnectionStats
from peerpath.connection.stream_table import StreamTable
from peerpath.connection.streams import Stream
from peerpath.connection.waiting import Signal
from peerpath.identity import PublicKey
from peerpath.quic import (
    CONTROL_STREAM,
    LARGEST_PAYLOAD,
    SMALLEST_PAYLOAD,
    CloseCode,
    DatagramReceived,
    Established,
    LinkClosed,
    LinkOutput,
    SecureLink,
    StreamData,
    StreamReset,
    StreamStopped,
    Transmit,
)

_LINGER_SECONDS = 3.0
"""How long a connection that the peer closed still acknowledges, so that the peer learns of it."""
_NO_LINK = "there is no link to the peer at the moment"


class Connection:
    """A conversation with `peer`. The upper half is the application's, the lower one its link owner's.

    `on_interrupted` is called with the reason when the link ended by itself: a new one is needed then.
    """

    def __init__(
        self,
        peer: PublicKey,
        *,
        options: ConnectionOptions | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.peer = peer
        self.options = options = options or ConnectionOptions()
        self.on_interrupted: Callable[[str], None] | None = None
        self.report = ConnectionReport(peer)
        """What was tried to make this connection, and to keep it."""
        self._loop = loop or asyncio.get_running_loop()
        self._state = ConnectionState.INTERRUPTED
        self._failure: ConnectionClosed | None = None
        self._session = MessageSession(options)
        self._driver: LinkDriver | None = None
        self._streams: StreamTable | None = None
        self._accepted: deque[Stream] = deque()
        self._datagrams: deque[bytes] = deque()
        self._paths = PathEvents(options.path_events)
        self._changed = Signal()
        self._sending = asyncio.Lock()
        self._linger: asyncio.TimerHandle | None = None
        self._began = self._loop.time()
        self._links = self._interruptions = 0
        self._datagrams_sent = self._datagrams_received = self._datagrams_dropped = 0

    # -- messages -------------------------------------------------------------------------------------------

    async def send(self, message: bytes) -> None:
        """Sends a message, reliably and in order; waits while the window is full.

        It arrives once, even if links come and go meanwhile. MessageTooLarge; ConnectionClosed with the
        reason once the connection is closed.
        """
        async with self._sending:
            while True:
                self._require_open()
                if len(message) > self._session.max_message:
                    raise MessageTooLarge(
                        f"a message has at most {self._session.max_message} bytes here, this one "
                        f"{len(message)}: send it on a stream"
                    )
                if self._session.has_room(len(message)):
                    break
                await self._changed.wait()
            self._session.put(bytes(message))
            self._wake()

    async def recv(self) -> bytes:
        """The next message; ConnectionClosed when there will be none (`in_order` if nothing is missing)."""
        while not self._session.waiting:
            if self._failure is not None:
                raise self._failure
            await self._changed.wait()
        message = self._session.take(self._loop.time())
        self._wake()
        return message

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            try:
                message = await self.recv()
            except ConnectionClosed as closed:
                if closed.in_order:
                    return
                raise
            yield message

    async def flush(self) -> None:
        """Returns when the peer's application has taken every message."""
        while self._session.queued:
            self._require_open()
            await self._changed.wait()

    # -- datagrams ------------------------------------------------------------------------------------------

    def send_datagram(self, data: bytes) -> None:
        """Sends at most one packet's worth, without any promise; where there is no link it is lost.

        DatagramTooLarge; ConnectionClosed.
        """
        self._require_open()
        link = self._link
        if link is None or not link.is_established:
            self._datagrams_dropped += 1
            return
        if len(data) > link.datagram_limit:
            raise DatagramTooLarge(len(data), link.datagram_limit)
        self._datagrams_dropped += link.send_datagram(bytes(data), self._loop.time())
        self._datagrams_sent += 1
        self._wake()

    async def recv_datagram(self) -> bytes:
        """The next datagram; ConnectionClosed when there will be none."""
        while not self._datagrams:
            if self._failure is not None:
                raise self._failure
            await self._changed.wait()
        return self._datagrams.popleft()

    # -- streams --------------------------------------------------------------------------------------------

    async def open_stream(self) -> Stream:
        """A new stream, once there is a link; the peer gets it with the first bytes that are written."""
        while True:
            self._require_open()
            if self._streams is not None:
                return self._streams.open()
            await self._changed.wait()

    async def accept_stream(self) -> Stream:
        """The next stream that the peer opened."""
        while not self._accepted:
            self._require_open()
            await self._changed.wait()
        return self._accepted.popleft().taken()

    # -- how it goes ----------------------------------------------------------------------------------------

    @property
    def state(self) -> ConnectionState:
        return self._state

    @property
    def close_reason(self) -> str | None:
        """Why the connection is closed; None while it is not."""
        return self._failure.reason if self._failure is not None else None

    @property
    def path(self) -> Path | None:
        """How packets travel now; None while they do not."""
        return self._paths.path

    @property
    def is_silent(self) -> bool:
        """Whether nothing of the peer has come back for some seconds: it may be gone."""
        return self._paths.is_silent

    def path_events(self) -> AsyncIterator[PathEvent]:
        """The present path, then each change, and when it falls silent. Ends with the connection."""
        return self._paths.events()

    def stats(self) -> ConnectionStats:
        session, link = self._session, self._link
        return ConnectionStats(
            messages_sent=session.taken_by_peer,
            messages_received=session.taken,
            message_bytes_sent=session.bytes_taken_by_peer,
            message_bytes_received=session.bytes_taken,
            messages_queued=session.queued,
            bytes_queued=session.queued_bytes,
            datagrams_sent=self._datagrams_sent,
            datagrams_received=self._datagrams_received,
            datagrams_dropped=self._datagrams_dropped,
            rtt=link.rtt if link is not None else None,
            links=self._links,
            interruptions=self._interruptions,
            seconds=self._loop.time() - self._began,
        )

    async def wait_connected(self) -> None:
        """Returns as soon as the state is CONNECTED; ConnectionClosed if it never will be."""
        while self._state is not ConnectionState.CONNECTED:
            self._require_open()
            await self._changed.wait()

    # -- the end --------------------------------------------------------------------------------------------

    async def close(self, reason: str = "") -> None:
        """Ends the connection: what was sent is delivered first, if that takes `close_timeout` at most.

        The peer's application gets all of it, then the reason.
        """
        if self._failure is not None:
            return
        self._failure = ConnectionClosed(reason or "closed by this side", in_order=True)
        self._session.close(reason)
        self._wake()
        try:
            if self._link is not None:
                async with asyncio.timeout(self.options.close_timeout):
                    while self._is_delivering():
                        await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            self._drop_link(CloseCode.DONE, reason)
            self._end()

    async def wait_released(self) -> None:
        """Returns when a closed connection needs its path no more: the peer knows of the end."""
        while self._driver is not None:
            await self._changed.wait()

    async def wait_closed(self) -> None:
        """Returns when the state is CLOSED, for whatever reason."""
        while self._state is not ConnectionState.CLOSED:
            await self._changed.wait()

    def _is_delivering(self) -> bool:
        link = self._link
        if link is None or link.closed is not None or self._session.peer_closed is not None:
            return False
        return not self._session.is_close_sent or link.unacknowledged(CONTROL_STREAM) > 0

    def _require_open(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _end(self) -> None:
        """CLOSED, once `_failure` says why."""
        self._state = ConnectionState.CLOSED
        self._paths.end()
        self._changed.fire()

    # -- for whoever owns the links -------------------------------------------------------------------------

    def attach(self, link: SecureLink, transmit: Callable[[bytes], None]) -> None:
        """Runs this connection over `link` from now on; one that it ran over before is forgotten."""
        if self._failure is not None:
            raise self._failure
        self._forget_link("another link took its place")
        self._driver = LinkDriver(link, transmit, self._fill, self._heard, self._loop)

    def receive(self, datagram: bytes) -> None:
        """One datagram of the path."""
        if self._driver is not None:
            self._driver.receive(datagram)
            self._progressed()

    def use_path(self, path: Path | None, reason: str = "") -> None:
        """Packets take another path, or there is none. The link is told to probe it at once.

        A silent peer stays silent: that a path was chosen does not mean that anything came by it.
        """
        if self._state is ConnectionState.CLOSED or path is self.path is None:
            return
        self._paths.put(PathEvent(path, reason, self.is_silent))
        if path is not None and self._driver is not None:
            # What wraps packets, a relay's or a tunnel's, has taken its part of the path's size.
            is_bare = path.kind.is_direct and path.transport == "udp"
            largest = LARGEST_PAYLOAD if is_bare else SMALLEST_PAYLOAD
            self._driver.carry(self._driver.link.path_changed(self._loop.time(), largest=largest))
            self._wake()

    def path_silent(self, is_silent: bool) -> None:
        """Nothing of the peer comes back, or something does again."""
        if is_silent is self.is_silent or self._state is ConnectionState.CLOSED:
            return
        if self.path is None:
            self._paths.is_silent = is_silent  # the next path's event tells
            return
        reason = "the peer is silent" if is_silent else "the peer is heard again"
        self._paths.put(PathEvent(self.path, reason, is_silent))

    def probe(self) -> None:
        """Nothing comes back: asks again at once, instead of when the doubled timeout is over."""
        if self._driver is not None:
            self._driver.carry(self._driver.link.path_changed(self._loop.time()))
            self._wake()

    def interrupt(self, reason: str) -> None:
        """The link is dead: sends wait for the next one."""
        self._forget_link(reason)

    def fail(self, reason: str) -> None:
        """There is no hope for another link."""
        if self._failure is None:
            self._failure = ConnectionClosed(reason)
        self._drop_link(CloseCode.DONE, reason)
        self._end()

    @property
    def _link(self) -> SecureLink | None:
        return self._driver.link if self._driver is not None else None

    def _wake(self) -> None:
        if self._driver is not None:
            self._driver.wake()

    def _forget_link(self, reason: str) -> None:
        if self._driver is None:
            return
        self._driver.stop()
        self._driver = None
        self._session.link_down()
        if self._streams is not None:
            self._streams.lost(f"the link of the stream is gone: {reason}")
            self._streams = None
            self._accepted.clear()
        if self._state is ConnectionState.CONNECTED:
            self._state = ConnectionState.INTERRUPTED
            self._interruptions += self._failure is None
        self._changed.fire()

    def _drop_link(self, code: int, reason: str) -> None:
        """Closes the link so that the peer knows, then forgets it."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        driver = self._driver
        if driver is None:
            return
        outputs = driver.link.close(code, reason, self._loop.time())
        driver.carry(output for output in outputs if isinstance(output, Transmit))
        self._forget_link(reason)

    # -- what the link says ---------------------------------------------------------------------------------

    def _heard(self, output: LinkOutput) -> None:
        if isinstance(output, StreamData | StreamReset | StreamStopped):
            if output.stream == CONTROL_STREAM:
                self._control(output)
            elif self._streams is not None:
                self._streams.take(output)
        elif isinstance(output, DatagramReceived):
            self._datagram(output.data)
        elif isinstance(output, Established):
            self._established()
        elif isinstance(output, LinkClosed):
            self._link_closed(output)

    def _established(self) -> None:
        driver = self._driver
        assert driver is not None
        self._links += 1
        self.path_silent(False)
        self._session.link_up()
        self._streams = StreamTable(
            driver.link, self._loop.time, driver.wake, self._accepted.append, self.options.in_flight
        )

    def _control(self, output: StreamData | StreamReset | StreamStopped) -> None:
        link = self._link
        assert link is not None
        try:
            if not isinstance(output, StreamData) or output.end:
                raise ProtocolViolation("the control stream has no end of its own")
            self._session.receive(output.data)
        except ProtocolViolation as violation:
            self._give_up(
                CloseCode.PROTOCOL_VIOLATION, f"the peer broke the protocol: {violation}", fatal=True
            )
            return
        except SessionUnknown as unknown:
            self._give_up(CloseCode.SESSION_UNKNOWN, str(unknown), fatal=unknown.fatal)
            return
        link.consumed(CONTROL_STREAM, len(output.data), self._loop.time())
        if self._session.is_resumed and self._state is ConnectionState.INTERRUPTED:
            self._state = ConnectionState.CONNECTED
        if self._session.peer_closed is not None:
            self._peer_closed(self._session.peer_closed)

    def _give_up(self, code: CloseCode, reason: str, *, fatal: bool) -> None:
        if fatal and self._failure is None:
            self._failure = ConnectionClosed(reason)
        self._drop_link(code, reason)
        if fatal:
            self._end()
        elif self.on_interrupted is not None:
            self.on_interrupted(reason)

    def _peer_closed(self, reason: str) -> None:
        if self._failure is not None:
            return
        self._failure = ConnectionClosed(reason or "closed by the peer", by_peer=True, in_order=True)
        self._end()
        self._linger = self._loop.call_later(_LINGER_SECONDS, self._drop_link, CloseCode.DONE, "")

    def _datagram(self, data: bytes) -> None:
        self._datagrams_received += 1
        if len(self._datagrams) >= self.options.datagrams:
            self._datagrams.popleft()
            self._datagrams_dropped += 1
        self._datagrams.append(data)

    def _link_closed(self, closed: LinkClosed) -> None:
        self._forget_link(closed.reason)
        if self._failure is not None:
            return
        if closed.application and closed.by_peer and closed.code == CloseCode.DONE:
            # The peer gave up before everything was said: another link would find nobody.
            self._failure = ConnectionClosed(closed.reason, by_peer=True)
            self._end()
        elif self.on_interrupted is not None:
            self.on_interrupted(closed.reason)

    def _progressed(self) -> None:
        if self._streams is not None:
            self._streams.progressed()
        self._changed.fire()

    # -- what the link gets ---------------------------------------------------------------------------------

    def _fill(self) -> float | None:
        """Hands messages to QUIC as far as it may hold them; when to come again."""
        link = self._link
        if link is None or not link.is_established:
            return None
        now = self._loop.time()
        data = self._session.to_send(self.options.in_flight - link.unacknowledged(CONTROL_STREAM), now)
        if data:
            link.send_stream(CONTROL_STREAM, data, now)
            self._changed.fire()
        deadline = self._session.next_deadline()
        # What is due and did not leave found no room: it leaves when something is acknowledged.
        return deadline if deadline is None or deadline > now else None
