"""SimHost: one peer, running the real agent, gatherer and TURN client."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peerpath.ice import (
    AgentOptions,
    CandidateFound,
    DataReceived,
    GatheringComplete,
    Output,
    Pacer,
    PairSelected,
    Path,
    PermissionNeeded,
    Role,
    StateChanged,
    Transmit,
)
from peerpath.ice.relays import needs_channel
from peerpath.ice.servers import GatheringServer, ServerReport
from peerpath.ice.stack import IceStack
from peerpath.turn import outputs as turn
from peerpath.turn.client import TurnClient
from peerpath.turn.credentials import LongTermCredentials
from stunwire import TransportAddress

from sim.network import Packet, Realm
from sim.relay import PASSWORD, USERNAME, SimRelay
from sim.world import Alarm, World

CREDENTIALS = LongTermCredentials(USERNAME, PASSWORD)
Signal = Callable[[Callable[["SimHost"], None]], None]


class SimHost:
    """One interface with one socket. What it has to tell the peer goes to `signal`."""

    def __init__(
        self,
        world: World,
        realm: Realm,
        host: str,
        role: Role,
        *,
        options: AgentOptions | None = None,
        port: int = 5000,
    ) -> None:
        self.world = world
        self.stack = IceStack(role, options=options, pacer=Pacer(), random=world.random)
        self.base = TransportAddress(host, port)
        self.signal: Signal | None = None
        self.selections: list[tuple[float, Path]] = []
        self.received: list[tuple[float, bytes]] = []
        self.states: list[tuple[float, StateChanged]] = []
        self.stream: StreamRelay | None = None
        self.sent = 0
        self._realm = realm
        self._alarm = Alarm(world, self._on_timer)
        self._hosts = [host]
        realm.attach(host, self._receive)

    # -- what a scenario does with it -------------------------------------------------------------------

    def gather(self, relays: Sequence[SimRelay], *, stun_only: bool = False, over_tcp: bool = False) -> None:
        """Begins to gather from these servers; `over_tcp` asks for a relay over a connection as well."""
        now = self.world.now
        self.do(self.stack.add_base(self.base, now))
        for index, relay in enumerate(relays):
            credentials = None if stun_only else CREDENTIALS
            server = GatheringServer(f"sim {index}", relay.address, credentials, index)
            self.do(self.stack.add_server(server, now))
        if over_tcp:
            self.stream = StreamRelay(self, relays[0])
        self.do(self.stack.no_more_servers(now))

    def move(self, realm: Realm, host: str) -> None:
        """To another network: the old interface goes down, a new one comes up."""
        old, self._hosts = self.base, [host]
        self._realm.detach(old.host)
        self._realm = realm
        self.base = TransportAddress(host, old.port)
        realm.attach(host, self._receive)
        self.do(self.stack.remove_base(old, "the interface is gone", self.world.now))
        self.do(self.stack.add_base(self.base, self.world.now))

    def restart(self) -> None:
        self.do(self.stack.restart(self.world.now))
        self.tell_description()

    def tell_description(self) -> None:
        description = self.stack.description
        self._signal(lambda peer: peer.hear_description(description))

    def hear_description(self, description: object) -> None:
        ufrag = self.stack.agent.credentials.ufrag
        self.do(self.stack.set_remote(description, self.world.now))
        if self.stack.agent.credentials.ufrag != ufrag:
            self.tell_description()

    def send(self, data: bytes) -> None:
        self.do(self.stack.send(data, self.world.now))

    @property
    def path(self) -> Path | None:
        return self.stack.agent.path

    @property
    def first_path_at(self) -> float | None:
        return self.selections[0][0] if self.selections else None

    # -- what a driver does -----------------------------------------------------------------------------

    def do(self, outputs: Sequence[Output]) -> None:
        now = self.world.now
        for output in outputs:
            if isinstance(output, Transmit):
                if self.stream is not None and output.local == self.stream.relayed:
                    self.stream.send(output.remote, output.data)
                elif output.local == self.base:
                    self.sent += 1
                    self._realm.send(Packet(output.local, output.remote, output.data))
            elif isinstance(output, PermissionNeeded):
                assert self.stream is not None
                self.stream.permit(output.peer)
            elif isinstance(output, CandidateFound):
                candidate = output.candidate.candidate
                self._signal(
                    lambda peer, c=candidate: peer.do(peer.stack.add_remote_candidate(c, peer.world.now))
                )
            elif isinstance(output, GatheringComplete):
                self._signal(lambda peer: peer.do(peer.stack.end_of_remote_candidates(peer.world.now)))
            elif isinstance(output, PairSelected):
                self.selections.append((now, output.path))
            elif isinstance(output, DataReceived):
                self.received.append((now, output.data))
            elif isinstance(output, StateChanged):
                self.states.append((now, output))
        self._alarm.set(self.stack.next_deadline())

    def _signal(self, message: Callable[[SimHost], None]) -> None:
        if self.signal is not None:
            self.signal(message)

    def _receive(self, packet: Packet) -> None:
        if packet.destination == self.base:
            self.do(self.stack.receive(packet.data, packet.destination, packet.source, self.world.now))

    def _on_timer(self) -> None:
        self.do(self.stack.handle_timeout(self.world.now))


class StreamRelay:
    """A relayed address over TCP, as a driver would have it: for networks that let no UDP out."""

    def __init__(self, host: SimHost, relay: SimRelay) -> None:
        self._host = host
        self._relay = relay
        self.relayed: TransportAddress | None = None
        self._client = TurnClient(CREDENTIALS, reliable=True)
        self._alarm = Alarm(host.world, self._on_timer)
        now = host.world.now
        self._report: ServerReport = host.stack.gatherer.expect_relay("sim over TCP", "tcp", now)
        # The port stands for the NAT's: what matters is that the connection gets through.
        source = TransportAddress("198.51.100.77", 40_000 + id(self) % 20_000)
        self._write = relay.connect(source, self._received)
        self._do(self._client.start(now))

    def permit(self, peer: TransportAddress) -> None:
        now = self._host.world.now
        assert self.relayed is not None
        if needs_channel(self.relayed, peer):
            self._do(self._client.bind(peer, now))
        else:
            self._do(self._client.permit([peer], now))

    def send(self, peer: TransportAddress, data: bytes) -> None:
        self._do(self._client.send(peer, data, self._host.world.now))

    def _received(self, frame: bytes) -> None:
        self._do(self._client.receive(frame, self._host.world.now))

    def _on_timer(self) -> None:
        self._do(self._client.handle_timeout(self._host.world.now))

    def _do(self, outputs: Sequence[turn.Output]) -> None:
        stack, now = self._host.stack, self._host.world.now
        for output in outputs:
            if isinstance(output, turn.Transmit):
                self._write(output.data)
            elif isinstance(output, turn.Allocated):
                self.relayed = output.relayed[0]
                self._host.do(
                    stack.add_relay(
                        self._report, output.relayed, output.mapped, self._relay.address.host, 0, now
                    )
                )
            elif isinstance(output, turn.PeerData):
                self._host.do(stack.receive(output.data, self.relayed, output.peer, now))
        self._alarm.set(self._client.next_deadline())
