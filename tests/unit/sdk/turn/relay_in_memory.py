"""The real server core and the real client core on a cable without a network, on a virtual clock."""

from dataclasses import dataclass, field

import pytest

turnrelay_core = pytest.importorskip("turnrelay.core", reason="the server is not installed here")

from peerpath.turn import LongTermCredentials, Output, Transmit, TurnClient  # noqa: E402
from stunwire import (  # noqa: E402
    AddressFamily,
    PasswordAlgorithm,
    SecurityFeatures,
    TransportAddress,
    long_term_key,
    userhash,
)
from turnrelay.core.addresses import (  # noqa: E402
    ClientAddress,
    FiveTuple,
    PeerAddress,
    RelayedAddress,
    ServerAddress,
    Transport,
)
from turnrelay.core.limits import Limits  # noqa: E402
from turnrelay.core.nonce import NonceAuthority  # noqa: E402
from turnrelay.core.outputs import (  # noqa: E402
    ClosePeer,
    ConnectToPeer,
    Grant,
    JoinPeer,
    LookUpKey,
    OpenRelay,
    Reply,
    Revoke,
    SendToPeer,
)
from turnrelay.core.protocols import Credential, DenyRule, KeyQuery, Lease, Limit  # noqa: E402
from turnrelay.core.server import Server  # noqa: E402

REALM = "relay.test"
CREDENTIALS = LongTermCredentials("alice", "wonderland")
PEER = TransportAddress("8.8.4.4", 4000)
OTHER_PEER = TransportAddress("9.9.9.9", 4001)
DENIED_HOST = "10.0.0.1"
BOTH = (AddressFamily.IPV4, AddressFamily.IPV6)


class _Lease:
    def release(self) -> None:
        pass


@dataclass
class _Policy:
    """Lets everybody in, as long as there is room, to everywhere but 10/8."""

    room: int = 100

    def admits_client(self, host: str) -> bool:
        return True

    def check(self, peer: PeerAddress) -> DenyRule | None:
        return DenyRule.SPECIAL_PURPOSE if peer.host.startswith("10.") else None

    def lease_allocation(self, account: str, client_host: str) -> Lease | Limit:
        return _Lease() if self.room else Limit.ALLOCATIONS_PER_USER

    def allow(self, client_host: str, now: float) -> bool:
        return True


@dataclass
class Relay:
    """A server and what its driver would have done: keys looked up, sockets opened, packets sent."""

    families: frozenset[AddressFamily] = frozenset(BOTH)
    features: SecurityFeatures = SecurityFeatures.PASSWORD_ALGORITHMS | SecurityFeatures.USERNAME_ANONYMITY
    nonce_lifetime: int = 3600
    policy: _Policy = field(default_factory=_Policy)
    sockets_left: int = 100
    tcp_relays: bool = False

    def __post_init__(self) -> None:
        self.server = Server(
            realm=REALM,
            nonces=NonceAuthority([b"k" * 32], self.nonce_lifetime, self.features),
            peers=self.policy,
            quotas=self.policy,
            rate_limit=self.policy,
            limits=Limits(nonce_lifetime=self.nonce_lifetime),
            families=self.families,
            tcp_relays=self.tcp_relays,
        )
        keys = {
            algorithm: long_term_key("alice", REALM, "wonderland", algorithm)
            for algorithm in PasswordAlgorithm
        }
        self.credential = Credential("alice", "alice", keys)
        self.sent_to_peers: list[tuple[TransportAddress, bytes]] = []
        self.granted: list[object] = []
        self.revoked: list[object] = []
        self.queries: list[KeyQuery] = []
        self.dialed: list[ConnectToPeer] = []
        self.joined: list[FiveTuple] = []
        self.closed: list[int] = []
        self._port = 50000

    def receive(self, data: bytes, path: FiveTuple, now: float) -> list[bytes]:
        return self._carry_out(self.server.receive(data, path, now), path, now)

    def peers_do(self, outputs: list[object], path: FiveTuple, now: float) -> list[bytes]:
        """What the server makes of something that peers did over TCP."""
        return self._carry_out(outputs, path, now)

    def handle_timeout(self, path: FiveTuple, now: float) -> list[bytes]:
        return self._carry_out(self.server.handle_timeout(now), path, now)

    def _carry_out(self, outputs: list[object], path: FiveTuple, now: float) -> list[bytes]:
        answers: list[bytes] = []
        queue = list(outputs)
        while queue:
            output = queue.pop(0)
            if isinstance(output, Reply):
                answers.append(output.data)
            elif isinstance(output, LookUpKey):
                self.queries.append(output.query)
                known = output.query.username == "alice" or output.query.userhash == userhash("alice", REALM)
                queue += self.server.key_found(output.ticket, [self.credential] if known else [], now)
            elif isinstance(output, OpenRelay):
                queue += self._open(output, now)
            elif isinstance(output, SendToPeer):
                self.sent_to_peers.append((output.peer, output.data))
            elif isinstance(output, Grant):
                self.granted.append(output.flow)
            elif isinstance(output, Revoke):
                self.revoked.append(output.flow)
            elif isinstance(output, ConnectToPeer):
                self.dialed.append(output)
            elif isinstance(output, JoinPeer):
                self.joined.append(output.path)
            elif isinstance(output, ClosePeer):
                self.closed.append(output.connection_id)
        return answers

    def _open(self, output: OpenRelay, now: float) -> list[object]:
        if not self.sockets_left:
            return self.server.relay_failed(output.ticket, now)
        self.sockets_left -= 1
        self._port += 1
        host = "203.0.113.5" if output.family is AddressFamily.IPV4 else "2001:db8::5"
        address = RelayedAddress(TransportAddress(host, self._port))
        return self.server.relay_opened(output.ticket, address, None, now)


class Cable:
    """Client and relay, joined. `outputs` is all that the client said, but for what it transmitted."""

    def __init__(self, relay: Relay, client: TurnClient, *, transport: Transport = Transport.UDP) -> None:
        self.relay, self.client = relay, client
        self.path = FiveTuple(
            transport,
            ServerAddress(TransportAddress("203.0.113.1", 3478)),
            ClientAddress(TransportAddress("192.0.2.7", 41000)),
        )
        self.now = 0.0
        self.outputs: list[Output] = []
        self.transmitted: list[bytes] = []
        self.cut = False

    def do(self, outputs: list[Output]) -> list[Output]:
        """Carries out what the client wants until both are silent; returns what it said meanwhile."""
        said: list[Output] = []
        queue = list(outputs)
        while queue:
            output = queue.pop(0)
            if not isinstance(output, Transmit):
                said.append(output)
                continue
            self.transmitted.append(output.data)
            if not self.cut:
                for answer in self.relay.receive(output.data, self.path, self.now):
                    queue += self.client.receive(answer, self.now)
        self.outputs += said
        return said

    def start(self) -> list[Output]:
        return self.do(self.client.start(self.now))

    def run_until(self, until: float) -> list[Output]:
        """Lets time pass, from deadline to deadline of both."""
        said: list[Output] = []
        while True:
            deadlines = [self.client.next_deadline(), self.relay.server.next_deadline()]
            due = min((moment for moment in deadlines if moment is not None), default=until)
            if due > until:
                self.now = until
                return said
            self.now = max(self.now, due)
            self.relay.handle_timeout(self.path, self.now)
            said += self.do(self.client.handle_timeout(self.now))
            if due == until:
                return said


def joined(relay: Relay | None = None, **options: object) -> Cable:
    """A cable between a relay and a client of alice's."""
    options.setdefault("reliable", False)
    credentials = options.pop("credentials", CREDENTIALS)
    return Cable(relay or Relay(), TurnClient(credentials, **options))
