"""A server among fakes: the driver's part is played by `World`, which answers every question at once."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest
from stunwire import AddressFamily, PasswordAlgorithm, SecurityFeatures, TransportAddress
from turnrelay.core.addresses import FiveTuple, PeerAddress, RelayedAddress
from turnrelay.core.alternates import Alternates
from turnrelay.core.behaviour_discovery import ServerAddresses
from turnrelay.core.limits import Limits
from turnrelay.core.nonce import NonceAuthority
from turnrelay.core.outputs import CloseRelay, FetchKey, LookUpKey, OpenRelay, Output
from turnrelay.core.protocols import Credential, DenyRule, KeyQuery, Lease, Limit, Processes
from turnrelay.core.server import Server
from turnrelay.core.state import State
from unit.core.turn_client import ELSEWHERE, HERE, SHA256, STREAM, Client

IPV4, IPV6 = AddressFamily.IPV4, AddressFamily.IPV6
RELAY_HOSTS = {IPV4: "192.0.2.200", IPV6: "2001:db8:ffff::200"}
FEATURES = SecurityFeatures.PASSWORD_ALGORITHMS | SecurityFeatures.USERNAME_ANONYMITY


@dataclass
class FakePeers:
    """Denies the hosts and the transport addresses it is told to."""

    denied_hosts: set[str] = field(default_factory=set)
    denied: set[PeerAddress] = field(default_factory=set)
    denied_clients: set[str] = field(default_factory=set)

    def admits_client(self, host: str) -> bool:
        return host not in self.denied_clients

    def check(self, peer: PeerAddress) -> DenyRule | None:
        if peer in self.denied:
            return DenyRule.OWN_PORT
        return DenyRule.SPECIAL_PURPOSE if peer.host in self.denied_hosts else None


@dataclass
class FakeLease:
    account: str
    client_host: str
    releases: int = 0

    def release(self) -> None:
        self.releases += 1


@dataclass
class FakeQuotas:
    """Gives every lease but the next one where `limit` is set, and at most `per_account` at a time."""

    limit: Limit | None = None
    per_account: int = 1000
    leases: list[FakeLease] = field(default_factory=list)

    def lease_allocation(self, account: str, client_host: str) -> Lease | Limit:
        if self.limit is not None:
            return self.limit
        if self.live(account) >= self.per_account:
            return Limit.ALLOCATIONS_PER_USER
        return self.take_over(account, client_host)

    def take_over(self, account: str, client_host: str) -> Lease:
        self.leases.append(FakeLease(account, client_host))
        return self.leases[-1]

    def live(self, account: str | None = None) -> int:
        assert all(lease.releases <= 1 for lease in self.leases), "released twice"
        return sum(not lease.releases for lease in self.leases if account in (None, lease.account))


@dataclass
class FakeRateLimit:
    """Allows `left` more answers; None for as many as are asked."""

    left: int | None = None
    asked: list[str] = field(default_factory=list)

    def allow(self, client_host: str, now: float) -> bool:
        self.asked.append(client_host)
        if self.left is None:
            return True
        self.left -= 1
        return self.left >= 0

    def give_back(self, client_host: str) -> None:
        if self.left is not None:
            self.left += 1


@dataclass
class FakePlane:
    """Hands out relayed addresses, on odd ports unless told otherwise, and sees each closed once."""

    available: set[AddressFamily] = field(default_factory=lambda: {IPV4, IPV6})
    opened: set[RelayedAddress] = field(default_factory=set)
    _pairs: "count[int]" = field(default_factory=lambda: count(50000, 2))

    def open(self, request: OpenRelay) -> tuple[RelayedAddress, RelayedAddress | None] | None:
        if request.family not in self.available:
            return None
        even = next(self._pairs)
        port = even if request.even_port else even + 1
        host = RELAY_HOSTS[request.family]
        relay = RelayedAddress(TransportAddress(host, port))
        reserved = RelayedAddress(TransportAddress(host, port + 1)) if request.reserve_next else None
        self.opened |= {relay} if reserved is None else {relay, reserved}
        return relay, reserved

    def close(self, relay: RelayedAddress) -> None:
        self.opened.remove(relay)


class World:
    """A server and what it depends on.

    Questions are answered at once, unless the test holds them back to answer them itself.
    """

    def __init__(
        self,
        *,
        realm: str = "example.org",
        families: frozenset[AddressFamily] = frozenset({IPV4, IPV6}),
        limits: Limits | None = None,
        features: SecurityFeatures = FEATURES,
        nonce_keys: tuple[bytes, ...] = (b"the nonce key",),
        discovery: ServerAddresses | None = None,
        tcp_relays: bool = False,
        processes: Processes | None = None,
        alternates: Alternates | None = None,
    ) -> None:
        limits = limits or Limits()
        self.realm = realm
        self.peers = FakePeers()
        self.quotas = FakeQuotas()
        self.rate_limit = FakeRateLimit()
        self.plane = FakePlane()
        self.users = {"alice": "wonderland", "bob": "builder", "грета": "тайна"}
        self.accounts: dict[str, str] = {}
        self.removable: set[str] = set()
        self.asked: list[KeyQuery] = []
        self.hold_keys = False
        """Whether no key is in memory, and what comes of it is left to the test."""
        self.hold_relays = False
        self.server = Server(
            realm=realm,
            nonces=NonceAuthority(nonce_keys, limits.nonce_lifetime, features),
            peers=self.peers,
            quotas=self.quotas,
            rate_limit=self.rate_limit,
            limits=limits,
            families=families,
            discovery=discovery,
            tcp_relays=tcp_relays,
            processes=processes,
            alternates=alternates,
        )

    def id_at(self, path: FiveTuple) -> str:
        """The id of the allocation that lives on the path."""
        return self.server.state.allocations[path].allocation_id

    @property
    def state(self) -> State:
        return self.server.state

    def client(self, path: FiveTuple = HERE, username: str = "alice", **how: object) -> Client:
        return Client(self, path, username, self.users.get(username, "?"), **how)

    # -- the driver's part ------------------------------------------------------------------------------

    def deliver(self, data: bytes, path: FiveTuple, now: float) -> list[Output]:
        return self.settle(self.server.receive(data, path, now), now)

    def settle(self, outputs: list[Output], now: float) -> list[Output]:
        """The outputs with those that follow from the answers behind each question."""
        done: list[Output] = []
        for output in outputs:
            if isinstance(output, LookUpKey) and self.hold_keys:
                done += self.server.key_not_at_hand(output.ticket, now)
                continue
            done.append(output)
            if isinstance(output, LookUpKey):
                done += self.look_up(output, now)
            elif isinstance(output, OpenRelay) and not self.hold_relays:
                done += self.open(output, now)
            elif isinstance(output, CloseRelay):
                self.plane.close(output.relay)
        return done

    def look_up(self, question: LookUpKey | FetchKey, now: float) -> list[Output]:
        self.asked.append(question.query)
        return self.settle(self.server.key_found(question.ticket, self.find(question.query), now), now)

    def open(self, question: OpenRelay, now: float) -> list[Output]:
        opened = self.plane.open(question)
        if opened is None:
            return self.settle(self.server.relay_failed(question.ticket, now), now)
        return self.settle(self.server.relay_opened(question.ticket, *opened, now), now)

    def disconnect(self, path: FiveTuple, now: float) -> list[Output]:
        return self.settle(self.server.disconnected(path, now), now)

    def shut_down(self, now: float) -> list[Output]:
        return self.settle(self.server.shut_down(now), now)

    def end(self, allocation_id: str, now: float) -> list[Output]:
        return self.settle(self.server.end(allocation_id, now), now)

    def tick(self, now: float) -> list[Output]:
        return self.settle(self.server.handle_timeout(now), now)

    def sleep(self, until: float) -> list[Output]:
        """Time passes and the timer goes off whenever it should."""
        outputs: list[Output] = []
        while (deadline := self.server.next_deadline()) is not None and deadline <= until:
            outputs += self.tick(deadline)
            following = self.server.next_deadline()
            assert following is None or following > deadline, "what is due is done at once"
        return outputs

    # -- the directory's part ---------------------------------------------------------------------------

    def credential(self, username: str) -> Credential:
        secret = f"{username}:{self.realm}:{self.users[username]}".encode()
        keys = {
            PasswordAlgorithm.MD5: hashlib.md5(secret).digest(),
            PasswordAlgorithm.SHA256: hashlib.sha256(secret).digest(),
        }
        account = self.accounts.get(username, username)
        return Credential(username, account, keys, removable=username in self.removable)

    def find(self, query: KeyQuery) -> tuple[Credential, ...]:
        assert (query.username is None) != (query.userhash is None)
        for username in self.users:
            hashed = hashlib.sha256(f"{username}:{self.realm}".encode()).digest()
            if query.username == username or query.userhash == hashed:
                return (self.credential(username),)
        return ()

    # -- what is left -----------------------------------------------------------------------------------

    def remnants(self) -> dict[str, int]:
        """Every table that still holds something, and what is still open or leased."""
        state = self.state
        tables = {
            "allocations": len(state.allocations),
            "by_relay": len(state.by_relay),
            "pending_requests": len(state.pending_requests),
            "pending_allocations": len(state.pending_allocations),
            "allocating": len(state.allocating),
            "waiting": len(state.waiting),
            "reservations": len(state.reservations),
            "asked_reservations": len(state.asked_reservations),
            "peer_connections": len(state.peer_connections),
            "data_paths": len(state.data_paths),
            "replies": len(state.replies),
            "deadlines": int(self.server.next_deadline() is not None),
            "opened": len(self.plane.opened),
            "leases": self.quotas.live(),
        }
        return {table: size for table, size in tables.items() if size}


@pytest.fixture
def new_world() -> Callable[..., World]:
    return World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def alice(world: World) -> Client:
    """A client of RFC 5389 over UDP, as most are."""
    return world.client()


@pytest.fixture
def modern(world: World) -> Client:
    """A client of RFC 8489: SHA-256 and a hashed user name."""
    return world.client(algorithm=SHA256, anonymous=True)


@pytest.fixture
def bob(world: World) -> Client:
    return world.client(ELSEWHERE, "bob")


@pytest.fixture
def streaming(world: World) -> Client:
    """Alice over TCP."""
    return world.client(STREAM)
