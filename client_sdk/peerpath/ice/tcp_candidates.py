"""TcpCandidates: connections as paths (RFC 6544), for networks that let no UDP out."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from stunwire import TransportAddress

from peerpath.ice.candidate import DISCARD_PORT, TcpType
from peerpath.ice.outputs import Output
from peerpath.ice.stack import IceStack
from peerpath.ice.tcp_stream import TcpStream
from peerpath.net.addresses import family_of, from_socket, to_socket
from peerpath.net.streams import FrameStream
from peerpath.stun.binding import BindingAnswer, BindingRequests, Send, Settled

_PATIENCE = 12.0
"""Seconds in which a connection must come up."""
_SYN_SECONDS = 3.5
"""One attempt: what is sent at 0, 1 and 3 s."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
_MAX_SERVERS = 3
_MAX_STREAMS = 64
_ATTEMPTS = 5
"""Of connections that end before anything was heard: the peer's relay may learn only now whom to let in."""
_MAX_WAITING = 8
"""Datagrams kept for a connection that is being opened."""

PathKey = tuple[TransportAddress, TransportAddress]
Arrived = Callable[[bytes, TransportAddress, TransportAddress], None]


class TcpCandidates:
    """Three places on each address of this machine: one to connect from, one to be connected to, and one
    from which both sides connect at the same time.

    That last one is how two NATs are passed: each lets in the other's SYN once its own host has sent one. The
    connection to the STUN server, from the same port, stays open so that the NAT keeps the mapping.
    """

    def __init__(self, stack: IceStack, do: Callable[[Sequence[Output]], None], arrived: Arrived) -> None:
        self._stack = stack
        self._do = do
        self._arrived = arrived
        self._loop = asyncio.get_running_loop()
        self._types: dict[TransportAddress, TcpType] = {}
        self._listeners: dict[TransportAddress, asyncio.Server] = {}
        self._streams: dict[PathKey, TcpStream] = {}
        self._opening: dict[PathKey, tuple[asyncio.Task[None], list[bytes]]] = {}
        self._attempts: Counter[PathKey] = Counter()
        self._at_servers: list[FrameStream] = []
        self._seen: dict[str, list[TransportAddress]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __contains__(self, base: TransportAddress) -> bool:
        return base in self._types

    # -- gathering --------------------------------------------------------------------------------------

    async def begin(self, host: str, preference: int) -> TransportAddress | None:
        """The candidates of one address of this machine. Returns where connections are taken."""
        passive = None
        self._add(TransportAddress(host, DISCARD_PORT), TcpType.ACTIVE, preference)
        for tcp_type in (TcpType.PASSIVE, TcpType.SIMULTANEOUS):
            with suppress(OSError):
                base = await self._listen(host)
                self._add(base, tcp_type, preference)
                if tcp_type is TcpType.SIMULTANEOUS:
                    self._spawn(self._ask_servers(base, preference))
                else:
                    passive = base
        return passive

    def seen_as(self, host: str) -> list[TransportAddress] | None:
        """How a server saw a connection from `host`; None while that is being asked, empty if none says."""
        return self._seen.get(host)

    def _add(self, base: TransportAddress, tcp_type: TcpType, preference: int) -> None:
        self._types[base] = tcp_type
        self._do(self._stack.add_tcp_candidate(base, tcp_type, preference, self._loop.time()))

    async def _listen(self, host: str) -> TransportAddress:
        listening = _reusable_socket(host, 0)
        base = from_socket(listening.getsockname())
        self._listeners[base] = await self._loop.create_server(
            lambda: self._stream(base, None), sock=listening
        )
        return base

    async def _ask_servers(self, base: TransportAddress, preference: int) -> None:
        """How a server sees connections from this port; the first that answers is enough."""
        ipv6 = ":" in base.host
        servers = [server for server in self._stack.gatherer.servers if (":" in server.host) == ipv6]
        for server in list(dict.fromkeys(servers))[:_MAX_SERVERS]:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_SYN_SECONDS):
                    mapped = await self._ask(base, server)
                self._seen[base.host] = [mapped]
                if mapped != base:
                    now = self._loop.time()
                    found = (mapped, server.host)
                    self._do(
                        self._stack.add_tcp_candidate(base, TcpType.SIMULTANEOUS, preference, now, found)
                    )
                return
        self._seen[base.host] = []

    async def _ask(self, base: TransportAddress, server: TransportAddress) -> TransportAddress:
        """OSError when the server does not say it."""
        answer: asyncio.Future[BindingAnswer] = self._loop.create_future()
        requests = BindingRequests(reliable=True)

        def on_frame(frame: bytes) -> None:
            for result in requests.receive(frame, server, self._loop.time()):
                if isinstance(result, Settled) and not answer.done():
                    if isinstance(result.result, BindingAnswer):
                        answer.set_result(result.result)
                    else:
                        answer.set_exception(OSError(result.result.reason))

        def on_closed(reason: str) -> None:
            if not answer.done():
                answer.set_exception(OSError(reason))

        made = await self._connected(base, server)
        stream = FrameStream(on_frame, on_closed)
        await self._loop.create_connection(lambda: stream, sock=made)
        self._at_servers.append(stream)
        _, outputs = requests.ask(server, self._loop.time())
        for output in outputs:
            if isinstance(output, Send):
                stream.send(output.data)
        return (await answer).mapped

    # -- sending ----------------------------------------------------------------------------------------

    def send(self, base: TransportAddress, remote: TransportAddress, data: bytes) -> None:
        """One datagram on the connection between the two, which is opened where there is none."""
        key = (base, remote)
        stream = self._streams.get(key)
        if stream is not None:
            stream.send(data)
        elif key in self._opening:
            waiting = self._opening[key][1]
            waiting.append(data)
            del waiting[:-_MAX_WAITING]
        elif self._types.get(base) in (TcpType.ACTIVE, TcpType.SIMULTANEOUS):
            self._attempts[key] = 0
            self._open_soon(key, [data])

    def _open_soon(self, key: PathKey, waiting: list[bytes]) -> None:
        pause = _FIRST_PAUSE * 2 ** self._attempts[key] if self._attempts[key] else 0.0
        self._attempts[key] += 1
        self._opening[key] = (self._loop.create_task(self._open(*key, pause)), waiting)

    async def _open(self, base: TransportAddress, remote: TransportAddress, pause: float) -> None:
        key = (base, remote)
        await asyncio.sleep(pause)
        try:
            async with asyncio.timeout(_PATIENCE):
                made = await self._connect(base, remote)
            await self._loop.create_connection(lambda: self._stream(base, remote), sock=made)
        except (OSError, TimeoutError) as error:
            self._opening.pop(key, None)
            if key not in self._streams:
                reason = getattr(error, "strerror", None) or f"no connection within {_PATIENCE:g} s"
                self._do(self._stack.connection_lost(base, remote, reason, self._loop.time()))

    async def _connect(self, base: TransportAddress, remote: TransportAddress) -> socket.socket:
        """For a simultaneous opening again and again: what is refused is a NAT that is not open yet."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(_SYN_SECONDS):
                    return await self._connected(base, remote)
            except (OSError, TimeoutError):
                if self._types.get(base) is not TcpType.SIMULTANEOUS:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _connected(self, base: TransportAddress, remote: TransportAddress) -> socket.socket:
        port = 0 if base.port == DISCARD_PORT else base.port
        made = _reusable_socket(base.host, port)
        try:
            await self._loop.sock_connect(made, to_socket(remote))
        except BaseException:
            made.close()
            raise
        return made

    # -- connections ------------------------------------------------------------------------------------

    def _stream(self, base: TransportAddress, remote: TransportAddress | None) -> TcpStream:
        """`remote` None for a connection that somebody else has opened: it has to prove itself."""
        accepted = remote is None
        is_check = self._stack.agent.is_check if accepted else None
        return TcpStream(base, remote, self._opened, self._arrived, self._closed, is_check)

    def _opened(self, stream: TcpStream) -> bool:
        """Whether there is room for it."""
        key = (stream.base, stream.remote)
        if key in self._streams or len(self._streams) >= _MAX_STREAMS:
            return False
        self._streams[key] = stream
        opening = self._opening.pop(key, None)
        if opening is not None:
            task, waiting = opening
            if stream.is_accepted:
                task.cancel()
            for data in waiting:
                stream.send(data)
        return True

    def _closed(self, stream: TcpStream, reason: str) -> None:
        key = (stream.base, stream.remote)
        if self._streams.get(key) is stream:
            del self._streams[key]
            may_retry = not stream.is_heard and self._types.get(stream.base) is TcpType.ACTIVE
            if may_retry and self._attempts[key] < _ATTEMPTS:
                self._open_soon(key, stream.unheard)
                return
            self._do(self._stack.connection_lost(stream.base, stream.remote, reason, self._loop.time()))

    def end(self, host: str) -> None:
        """The address is gone from this machine, and its connections with it."""
        for base in [base for base in self._types if base.host == host]:
            del self._types[base]
            listener = self._listeners.pop(base, None)
            if listener is not None:
                listener.close()
            for stream in [stream for stream in self._streams.values() if stream.base == base]:
                stream.close()
            self._do(self._stack.remove_base(base, "the interface is gone", self._loop.time()))

    # -- the end ----------------------------------------------------------------------------------------

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        tasks = [*self._tasks, *(task for task, _ in self._opening.values())]
        self._opening.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            stream.close()
        for at_server in self._at_servers:
            at_server.close()
        for listener in self._listeners.values():
            listener.close()
        self._types.clear()


def _reusable_socket(host: str, port: int) -> socket.socket:
    """Bound, and free for others to be bound there: a listener, and connections to several peers."""
    made = socket.socket(family_of(host), socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(to_socket((host, port)))
    except BaseException:
        made.close()
        raise
    return made
