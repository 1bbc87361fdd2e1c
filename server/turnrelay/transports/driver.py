"""Driver: carries the core's outputs out, and brings it what happens."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import structlog
from stunwire import TransportAddress

from turnrelay.core.addresses import FiveTuple, PeerAddress, RelayedAddress, ServerAddress, Transport
from turnrelay.core.events import Event, RequestAnswered
from turnrelay.core.outputs import (
    AcceptPeer,
    AskForReservation,
    ClosePeer,
    CloseRelay,
    ConnectToPeer,
    FetchKey,
    GiveReservation,
    Grant,
    JoinPeer,
    LookUpKey,
    OpenRelay,
    Output,
    OutputToProcess,
    PassConnection,
    RefuseReservation,
    Reply,
    Revoke,
    SendToPeer,
)
from turnrelay.core.protocols import Credential, KeyQuery, Lease
from turnrelay.core.server import Server
from turnrelay.relay.mover import PacketMover
from turnrelay.relay.plane import ClientLink, NoRelayAddress, Opened, RelayPlane
from turnrelay.relay.tcp_relays import ClientStream, TcpRelays
from turnrelay.transports.key_queue import KeyQueue

_COMPLAINT_SECONDS = 10.0
_FETCHED_AT_ONCE = 16
"""Keys that the user directory is asked for at once; the other requests wait for their turn."""


class UserDirectory(Protocol):
    """Where keys are looked up."""

    def find_now(self, query: KeyQuery, now_unix: float) -> tuple[Credential, ...] | None:
        """The candidates if they can be had without waiting, else None: then `find` is asked."""

    async def find(self, query: KeyQuery, now_unix: float) -> tuple[Credential, ...]: ...


class Endpoint(Protocol):
    """What bytes for clients are handed to: a UDP listener or one stream connection."""

    def reply(self, path: FiveTuple, data: bytes) -> None: ...

    def link(self, path: FiveTuple) -> ClientLink: ...

    def release(self, path: FiveTuple) -> None: ...


class MovableStream(Protocol):
    """A TCP or TLS connection of a client."""

    def hand_over(self) -> socket.socket | None:
        """What another process is to serve from now on, which the caller owns; None for a connection that
        cannot be handed over, which is closed."""


class OtherProcesses(Protocol):
    """The way to the other processes of the relay."""

    def tell(self, output: OutputToProcess, sock: socket.socket | None = None) -> None:
        """Sends it to the process that it names, with the socket's descriptor, and closes the socket."""


Observer = Callable[[Event], None]
"""Told of every event but the answers, of which there are many."""
Answered = Callable[[RequestAnswered, float], None]
"""Told of every response with the seconds since its request was read."""


class Driver:
    """The one place where the core's decisions become actions, all on one event loop."""

    def __init__(
        self,
        server: Server,
        directory: UserDirectory,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        unix_time: Callable[[], float],
        observers: Sequence[Observer] = (),
        answered: Answered | None = None,
        mover: PacketMover | None = None,
    ) -> None:
        self.server = server
        self.mover = mover
        """What UDP listeners are read by, the plane's; None if they read themselves."""
        self.clock = clock
        self._directory = directory
        self._loop = loop
        self._unix_time = unix_time
        self._observers = tuple(observers)
        self._answered = answered
        self._asked_at = clock()
        """When the request that is being worked on was read."""
        self._udp: dict[ServerAddress, Endpoint] = {}
        self._streams: dict[FiveTuple, Endpoint] = {}
        self._tcp: TcpRelays | None = None
        self._others: OtherProcesses | None = None
        self._keys = KeyQueue()
        self._fetching = 0
        self._fetches: set[asyncio.Task[None]] = set()
        self._complain_at = float("-inf")
        """When the user directory may be complained of again."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._plane: RelayPlane | None = None
        self._actions = self._action_of()

    @property
    def plane(self) -> RelayPlane:
        assert self._plane is not None, "use_plane() comes first"
        return self._plane

    def use_plane(self, plane: RelayPlane) -> None:
        """The plane needs the driver for its links, so it comes second."""
        self._plane = plane

    @property
    def tcp(self) -> TcpRelays:
        assert self._tcp is not None, "the core was told that there is none"
        return self._tcp

    def use_tcp_relays(self, tcp: TcpRelays) -> None:
        """What meets peers over TCP, where the core may ask for it."""
        self._tcp = tcp

    @property
    def others(self) -> OtherProcesses:
        assert self._others is not None, "the core was told that there are none"
        return self._others

    def use_others(self, others: OtherProcesses) -> None:
        """What carries to the other processes, where the core may name any."""
        self._others = others

    # -- from the listeners -----------------------------------------------------------------------------

    def receive(self, data: bytes, path: FiveTuple) -> None:
        """A STUN message from a client."""
        self._asked_at = now = self.clock()
        self.carry_out(self.server.receive(data, path, now))

    def disconnected(self, path: FiveTuple) -> None:
        """A stream ended."""
        self._streams.pop(path, None)
        self.carry_out(self.server.disconnected(path, self.clock()))

    # -- from the relayed addresses of TCP ---------------------------------------------------------------

    def peer_connected(self, connection_id: int) -> None:
        self._asked_at = now = self.clock()
        self.carry_out(self.server.peer_connected(connection_id, now))

    def peer_gone(self, connection_id: int) -> None:
        self._asked_at = self.clock()
        self.carry_out(self.server.peer_gone(connection_id))

    def peer_arrived(self, relay: RelayedAddress, peer: PeerAddress, arrival: int) -> None:
        self.carry_out(self.server.peer_arrived(relay, peer, arrival, self.clock()))

    # -- from the other processes of the relay ----------------------------------------------------------

    def reservation_wanted(self, member: int, ticket: int, token: bytes, account: str) -> None:
        self.carry_out(self.server.reservation_wanted(member, ticket, token, account))

    def reservation_came(self, ticket: int, sock: socket.socket, account: str, lease: Lease) -> None:
        """Owns the socket of the relayed address."""
        self._asked_at = now = self.clock()
        relay = self.plane.take_over(sock, account)
        self.carry_out(self.server.reservation_came(ticket, relay, lease, now))

    def reservation_missing(self, ticket: int) -> None:
        self._asked_at = now = self.clock()
        self.carry_out(self.server.reservation_missing(ticket, now))

    def reservation_taken(self, token: bytes) -> None:
        self.carry_out(self.server.reservation_taken(token))

    # -- from those who watch ---------------------------------------------------------------------------

    def end(self, allocation_id: str) -> bool:
        """The operator ends an allocation; False if there is none of that id."""
        outputs = self.server.end(allocation_id, self.clock())
        self.carry_out(outputs)
        return bool(outputs)

    def observe(self, observer: Observer) -> None:
        """Tells another observer from now on."""
        self._observers += (observer,)

    def add_udp(self, address: ServerAddress, endpoint: Endpoint) -> None:
        self._udp[address] = endpoint

    def remove_udp(self, address: ServerAddress) -> None:
        self._udp.pop(address, None)

    def add_stream(self, path: FiveTuple, endpoint: Endpoint) -> None:
        self._streams[path] = endpoint

    def forget_stream(self, path: FiveTuple) -> None:
        """Another process goes on with the connection."""
        self._streams.pop(path, None)

    def has_stream(self, path: FiveTuple) -> bool:
        return path in self._streams

    # -- ClientLinks, for the plane ---------------------------------------------------------------------

    def link(self, path: FiveTuple) -> ClientLink | None:
        endpoint = self._endpoint(path)
        return None if endpoint is None else endpoint.link(path)

    def release(self, path: FiveTuple) -> None:
        endpoint = self._endpoint(path)
        if endpoint is not None:
            endpoint.release(path)

    # -- outputs ----------------------------------------------------------------------------------------

    def carry_out(self, outputs: Sequence[Output]) -> None:
        """Does what the core decided, in its order."""
        self._perform(outputs)
        self._arm()

    def _perform(self, outputs: Sequence[Output]) -> None:
        actions, tell = self._actions, self._tell
        for output in outputs:
            actions.get(type(output), tell)(output)

    def _action_of(self) -> dict[type[Output], Callable[[Any], None]]:
        """What is done about each kind of output; all others are events, for the observers."""
        return {
            Reply: self._reply,
            RequestAnswered: self._count,
            Grant: self._grant,
            Revoke: lambda output: self.plane.revoke(output.flow),
            SendToPeer: lambda output: self.plane.send(*output),
            LookUpKey: self._look_up,
            FetchKey: self._fetch,
            OpenRelay: self._open,
            CloseRelay: self._close_relay,
            ConnectToPeer: lambda output: self.tcp.connect(*output),
            AcceptPeer: lambda output: self.tcp.accept(*output),
            JoinPeer: self._join,
            ClosePeer: lambda output: self.tcp.close_peer(output.connection_id),
            AskForReservation: lambda output: self.others.tell(output),
            RefuseReservation: lambda output: self.others.tell(output),
            GiveReservation: lambda output: self.others.tell(output, self.plane.give_away(output.relay)),
            PassConnection: self._pass,
        }

    def _reply(self, reply: Reply) -> None:
        endpoint = self._endpoint(reply.path)
        if endpoint is not None:
            endpoint.reply(reply.path, reply.data)

    def _count(self, answer: RequestAnswered) -> None:
        if self._answered is not None:
            self._answered(answer, self.clock() - self._asked_at)

    def _tell(self, event: Event) -> None:
        for observe in self._observers:
            observe(event)

    def _grant(self, grant: Grant) -> None:
        self.plane.grant(grant.flow, grant.expires_at)

    def _close_relay(self, output: CloseRelay) -> None:
        if self._tcp is None or not self._tcp.close(output.relay):
            self.plane.close(output.relay)

    def _look_up(self, output: LookUpKey) -> None:
        ticket, query = output
        try:
            candidates = self._directory.find_now(query, self._unix_time())
        except Exception as error:
            self._perform(self._unavailable(ticket, error))
            return
        now = self.clock()
        if candidates is None:
            self._perform(self.server.key_not_at_hand(ticket, now))
        else:
            self._perform(self.server.key_found(ticket, candidates, now))

    def _fetch(self, output: FetchKey) -> None:
        lost = self._keys.add(output, self._asked_at)
        if lost is not None:
            self.server.key_given_up(lost.ticket)
        if self._fetching < _FETCHED_AT_ONCE:
            self._fetching += 1
            task = self._loop.create_task(self._fetch_in_turn())
            self._fetches.add(task)
            task.add_done_callback(self._fetches.discard)

    async def _fetch_in_turn(self) -> None:
        """Until nobody waits. A key may have come meanwhile, so each time the event loop has its turn."""
        try:
            while (taken := self._keys.take()) is not None:
                (ticket, query, _), asked_at = taken
                await self._find(ticket, query, asked_at)
                await asyncio.sleep(0)
        finally:
            self._fetching -= 1

    async def _find(self, ticket: int, query: KeyQuery, asked_at: float) -> None:
        try:
            candidates = await self._directory.find(query, self._unix_time())
        except Exception as error:
            self._asked_at = asked_at
            self.carry_out(self._unavailable(ticket, error))
        else:
            self._asked_at = asked_at
            self.carry_out(self.server.key_found(ticket, candidates, self.clock()))

    def _unavailable(self, ticket: int, error: Exception) -> list[Output]:
        """Whatever the error is, it concerns this request alone, and the core must get its answer. The next
        one is likely the same, and is not told of so soon."""
        now = self.clock()
        if now >= self._complain_at:
            self._complain_at = now + _COMPLAINT_SECONDS
            structlog.get_logger().error("user directory cannot be asked", error=str(error))
        return self.server.key_unavailable(ticket, now)

    def _open(self, request: OpenRelay) -> None:
        try:
            if request.tcp:
                opened = Opened(self.tcp.open(request.account, request.family), None)
            else:
                opened = self.plane.open(
                    request.account,
                    request.family,
                    even_port=request.even_port,
                    reserve_next=request.reserve_next,
                )
        except NoRelayAddress:
            self._perform(self.server.relay_failed(request.ticket, self.clock()))
        else:
            self._perform(
                self.server.relay_opened(request.ticket, opened.relay, opened.reserved, self.clock())
            )

    def _join(self, output: JoinPeer) -> None:
        connection_id, path = output
        stream = self._streams.get(path)
        if stream is None:  # gone already, and nobody will tell again
            self._perform(self.server.disconnected(path, self.clock()))
        else:
            # The core joins TCP and TLS alone, whose endpoints can carry data.
            self.tcp.join(connection_id, cast(ClientStream, stream), path)

    def _pass(self, connection: PassConnection) -> None:
        # The core passes TCP and TLS alone.
        stream = cast(MovableStream | None, self._streams.get(connection.path))
        sock = None if stream is None else stream.hand_over()
        self.disconnected(connection.path)
        if sock is not None:
            self.others.tell(connection, sock)

    def _endpoint(self, path: FiveTuple) -> Endpoint | None:
        if path.transport is Transport.UDP:
            return self._udp.get(path.server)
        return self._streams.get(path)

    # -- time -------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """One timer at the core's next deadline; an earlier one is moved, a later one fires and re-arms."""
        deadline = self.server.next_deadline()
        if deadline is None or deadline >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_later(max(0.0, deadline - self.clock()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self.carry_out(self.server.handle_timeout(self.clock()))

    async def close(self) -> None:
        """Ends every allocation; nothing is answered afterwards."""
        for task in list(self._fetches):
            task.cancel()
        await asyncio.gather(*self._fetches, return_exceptions=True)
        self.carry_out(self.server.shut_down(self.clock()))
        if self._tcp is not None:
            self._tcp.shut_down()
        if self._timer is not None:
            self._timer.cancel()


def transport_address(sockaddr: tuple[str, int] | tuple[str, int, int, int]) -> TransportAddress:
    """The address of a socket tuple; the scope of a link-local address stays with the host."""
    host, port = sockaddr[0], sockaddr[1]
    if len(sockaddr) == 4 and sockaddr[3] and "%" not in host:
        host = f"{host}%{sockaddr[3]}"
    return TransportAddress(host, port)
