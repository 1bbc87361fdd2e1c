"""Listeners: every listening address of the relay, and their comings and goings."""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager

import structlog

from turnrelay.core.addresses import FiveTuple, ServerAddress, Transport
from turnrelay.policy.connection_limits import ConnectionLimits
from turnrelay.transports.driver import Driver, transport_address
from turnrelay.transports.given import GivenStreams
from turnrelay.transports.given_sockets import SHARED, GivenSockets
from turnrelay.transports.interfaces import expand
from turnrelay.transports.listen_faults import listen_fault
from turnrelay.transports.over_http import ClientsOverHttp
from turnrelay.transports.stream import StreamClients, StreamConnection, StreamListener
from turnrelay.transports.tls import TlsContexts
from turnrelay.transports.udp import UdpListener

_IDLE_SWEEP_SECONDS = 10.0


class ListenError(Exception):
    """An address cannot be listened on; says which and why."""

    def __init__(self, message: str, not_there: bool = False) -> None:
        super().__init__(message)
        self.not_there = not_there


@contextmanager
def opening(host: str, port: int, flag: str) -> Iterator[None]:
    """What fails in it, fails for want of that port, which the flag names."""
    try:
        yield
    except OSError as error:
        not_there = error.errno == errno.EADDRNOTAVAIL
        choose = "--listen" if not_there else f"--listen or {flag}"
        raise ListenError(listen_fault(error, host, port, choose), not_there) from error


class Listeners:
    """UDP and TCP (and TLS with a certificate) on every address asked for.

    Wildcards stand for every address of the machine; `follow_interfaces` keeps up with them: a laptop that
    changes its network, a container that gets its address late.
    """

    def __init__(
        self,
        driver: Driver,
        listen: list[str],
        port: int,
        tls_port: int,
        tls: TlsContexts | None,
        limits: ConnectionLimits,
        idle_seconds: float,
        more_udp: Sequence[tuple[str, int]] = (),
    ) -> None:
        """`more_udp` are addresses beyond `listen` on which UDP alone is served."""
        self._driver = driver
        self._listen = listen
        self.port = port
        self.tls_port = tls_port
        self._tls = tls
        self._limits = limits
        self._idle_seconds = idle_seconds
        self._more_udp_addresses = more_udp
        self._more_udp: list[UdpListener] = []
        self._udp: dict[str, UdpListener] = {}
        self._streams: dict[str, list[StreamListener]] = {}
        self._closed: Counter[str] = Counter()
        self._dropped = 0
        self._refused: set[str] = set()
        self._idle_sweep: asyncio.Task[None] | None = None
        self.given = GivenStreams(driver, limits, idle_seconds)
        self._adopted = StreamClients(driver, idle_seconds, Transport.TCP)
        """Connections that came to the process before this one."""
        self.given_sockets = GivenSockets()
        """Sockets to listen on that that one had opened."""
        self.over_http = ClientsOverHttp(driver, limits, idle_seconds, None if tls is None else tls.shared)

    @property
    def ports(self) -> list[int]:
        """The ports that are listened on."""
        ports = [self.port] if self._tls is None else [self.port, self.tls_port]
        return ports + self.over_http.ports

    @property
    def hosts(self) -> list[str]:
        """The addresses that are listened on."""
        return list(self._udp)

    def open(self) -> None:
        """Listens; ListenError names the address that cannot be had."""
        for host in expand(self._listen):
            try:
                self._add(host)
            except ListenError as error:
                # An IPv6 address is not there yet while the system looks for duplicates of it.
                if host in self._listen or not error.not_there:
                    raise
        for host, port in self._more_udp_addresses:
            try:
                self._listen_for_udp_on(host, port)
            except OSError as error:
                choose = "--port or --alternate-ip"
                raise ListenError(listen_fault(error, host, port, choose)) from error
        if not self.hosts:
            raise ListenError("there is no address to listen on; name one with --listen ADDR")
        self._idle_sweep = asyncio.create_task(self._close_idle())

    def close(self) -> None:
        if self._idle_sweep is not None:
            self._idle_sweep.cancel()
        self.over_http.close()
        self.given.close()
        self._adopted.close()
        for host in list(self._udp):
            self._remove(host)
        while self._more_udp:
            self._more_udp.pop().close()
        for stream in self._all_streams():  # those whose UDP is listened on elsewhere
            stream.close()

    # -- to and from another process of this relay --------------------------------------------------------

    def sockets(self) -> list[tuple[str, socket.socket]]:
        """All that is listened on, each with its kind."""
        found = [(Transport.UDP.value, udp.sock) for udp in (*self._udp.values(), *self._more_udp)]
        found += [
            (stream.clients.kind.value, stream.acceptor.sock)
            for stream in self._all_streams()
            if stream.acceptor.sock is not None
        ]
        return found + [(SHARED, sock) for sock in self.over_http.sockets]

    def connections(self) -> list[StreamConnection]:
        """The clients' TCP and TLS connections."""
        clients = [stream.clients for stream in self._all_streams()]
        clients += [self._adopted, *self.over_http.stream_clients()]
        return [connection for each in clients for connection in each.connections]

    @property
    def remaining(self) -> int:
        """Connections that are open or on their way, tunnels included."""
        welcoming = sum(stream.acceptor.welcoming for stream in self._all_streams())
        return len(self.connections()) + welcoming + self.over_http.tunnels()

    def stop_listening(self) -> None:
        """Another process listens; connections of clients that are still here go on."""
        self.over_http.stop_listening()
        for udp in (*self._udp.values(), *self._more_udp):
            self._dropped += udp.receive_drops()
            udp.close()
        self._udp.clear()
        self._more_udp.clear()
        for stream in self._all_streams():
            stream.acceptor.stop_accepting()

    def keep_listening_for(self, servers: Container[ServerAddress]) -> None:
        """Listens on UDP sockets that nobody took, where clients at these addresses have allocations."""
        for sock in self.given_sockets.take_all(Transport.UDP.value):
            if ServerAddress(transport_address(sock.getsockname())) in servers:
                self._more_udp.append(UdpListener(asyncio.get_running_loop(), self._driver, "", 0, sock))
            else:
                sock.close()

    def expect(self, path: FiveTuple, unread: bytes) -> StreamConnection:
        """In the place of a client's TCP connection, which `connect` goes on with."""
        return self._adopted.expect(path, self._limits.take_over(path.client.host), unread)

    async def connect(self, connection: StreamConnection, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
        except OSError as error:
            sock.close()
            connection.connection_lost(error)

    def _all_streams(self) -> list[StreamListener]:
        return [stream for streams in self._streams.values() for stream in streams]

    def use_tls(self, tls: TlsContexts) -> None:
        """Takes another certificate for new connections."""
        self._tls = tls
        for streams in self._streams.values():
            for stream in streams:
                if stream.tls is not None:
                    stream.tls = tls.turn
        self.over_http.use_tls(tls.shared)

    def follow_interfaces(self) -> None:
        """Listens on addresses that the machine got since.

        One that goes keeps its sockets: they cost nothing, and its clients go on when it comes back.
        """
        log = structlog.get_logger()
        for host in [host for host in expand(self._listen) if host not in self.hosts]:
            try:
                self._add(host)
            except ListenError as error:
                if host not in self._refused:
                    log.warning("new address cannot be listened on", error=str(error))
                self._refused.add(host)
            else:
                self._refused.discard(host)
                log.info("listener added for a new address")

    def discarded(self) -> dict[str, int]:
        """What clients sent that is nothing to answer, by reason."""
        counts = self._closed + self.over_http.counts()
        for clients in (self._adopted, *self.given.clients.values()):
            counts += Counter(unbound_channel=clients.unbound, broken_stream=clients.broken)
        for host in self._udp:
            counts += self._counts(host)
        for udp in self._more_udp:
            counts += Counter(unbound_channel=udp.unbound, garbage=udp.garbage)
        return {reason: counts[reason] for reason in _DISCARD_REASONS}

    def receive_drops(self) -> int:
        """Packets of clients that the kernel dropped, since a listening socket's buffer was full."""
        listening = [*self._udp.values(), *self._more_udp]
        return self._dropped + sum(udp.receive_drops() for udp in listening)

    def _add(self, host: str) -> None:
        """Opens what an address is listened on with, all or nothing; raises ListenError."""
        streams: list[StreamListener] = []
        try:
            with opening(host, self.port, "--port"):
                udp = self._open_udp(host, self.port)
                self._udp[host], self._streams[host] = udp, streams
                self.port = udp.address.port  # where any free one was asked for, it is the same for all
                streams.append(self._open_stream(host, self.port, None))
            if self._tls is not None:
                with opening(host, self.tls_port, "--tls-port"):
                    streams.append(self._open_stream(host, self.tls_port, self._tls))
                self.tls_port = streams[-1].acceptor.port
        except ListenError:
            if host in self._udp:
                self._remove(host)
            raise

    def _listen_for_udp_on(self, host: str, port: int) -> None:
        self._more_udp.append(self._open_udp(host, port))

    def _open_udp(self, host: str, port: int) -> UdpListener:
        given = self._given(Transport.UDP, host, port)
        return UdpListener(asyncio.get_running_loop(), self._driver, host, port, given)

    def _open_stream(self, host: str, port: int, tls: TlsContexts | None) -> StreamListener:
        context = None if tls is None else tls.turn
        stream = StreamListener(self._driver, self._limits, self._idle_seconds, context)
        given = self._given(stream.clients.kind, host, port)
        stream.open(asyncio.get_running_loop(), host, port, given)
        return stream

    def _given(self, kind: Transport, host: str, port: int) -> socket.socket | None:
        """The socket to listen on, where somebody else opened it."""
        return self.given_sockets.take(kind.value, host, port)

    def _remove(self, host: str) -> None:
        self._closed += self._counts(host)
        self._dropped += self._udp[host].receive_drops()
        self._udp.pop(host).close()
        for stream in self._streams.pop(host):
            stream.close()

    def _counts(self, host: str) -> Counter[str]:
        udp, streams = self._udp[host], self._streams[host]
        return Counter(
            unbound_channel=udp.unbound + sum(stream.clients.unbound for stream in streams),
            garbage=udp.garbage,
            broken_stream=sum(stream.clients.broken for stream in streams),
            too_many_connections=sum(stream.acceptor.refused for stream in streams),
        )

    async def _close_idle(self) -> None:
        holds = self._driver.server.state.holds
        while True:
            await asyncio.sleep(_IDLE_SWEEP_SECONDS)
            for streams in self._streams.values():
                for stream in streams:
                    stream.clients.close_idle(holds)
            self.given.close_idle(holds)
            self._adopted.close_idle(holds)
            self.over_http.close_idle(holds)


_DISCARD_REASONS = ("unbound_channel", "garbage", "broken_stream", "too_many_connections")
