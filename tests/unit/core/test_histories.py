"""Random histories: several clients, slow directories and planes, lost answers, late timers, beside a model.

The model tells an allocation's life in the words of RFC 8656. After each step the server's answers, what the
plane was told to move, the leases and the tables must be what the model says.
"""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from stunwire import (
    ADDITIONAL_ADDRESS_FAMILY,
    ADDRESS_ERROR_CODE,
    CHANNEL_NUMBER,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AddressFamily,
    Method,
)
from turnrelay.core.addresses import FiveTuple, PeerAddress, RelayedAddress
from turnrelay.core.limits import Limits
from turnrelay.core.outputs import (
    ChannelFlow,
    CloseRelay,
    FetchKey,
    Flow,
    Grant,
    OpenRelay,
    Output,
    PermissionFlow,
    Reply,
    Revoke,
    SendToPeer,
)
from unit.core.turn_client import (
    ELSEWHERE,
    HERE,
    OTHER_PEER,
    PEER,
    PEER6,
    SAME_HOST,
    SHA256,
    STREAM,
    Client,
    accepted,
    only,
    peer,
    refused,
    reply,
)

IPV4, IPV6 = AddressFamily.IPV4, AddressFamily.IPV6
PATHS = [HERE, ELSEWHERE, STREAM]
USERS = ["alice", "bob"]
OWNERS = {HERE: "alice", ELSEWHERE: "bob", STREAM: "alice"}
"""Who is at home on a path; others ask there too."""
PER_ACCOUNT = 3
MOST_PERMISSIONS = 3
PEERS = [PEER, SAME_HOST, OTHER_PEER, PEER6, peer("2001:db8::6", 1), peer("203.0.113.7", 0)]
NUMBERS = [0x4000, 0x4001, 0x4FFF]
MOMENTS = [0.25, 1, 16, 29.75, 30, 40, 100, 150]
AGES = [240, 299.75, 300, 599.75, 600, 900]
TIMERS = ["punctual", "late", "too late"]

paths = st.sampled_from(PATHS)
lifetimes = st.sampled_from([None, 1, 700, 3600, 5000])
slow = st.sampled_from([False, False, False, True])
"""Whether directory and plane take their time, so that other things happen first."""


def family_of(address: PeerAddress | RelayedAddress) -> AddressFamily:
    return IPV6 if ":" in address.host else IPV4


@dataclass
class Channel:
    """A binding (section 12), and until when its data may pass: while its peer is permitted and fair."""

    peer: PeerAddress
    expires_at: float
    passes_until: float = 0.0


@dataclass
class Life:
    """An allocation: what RFC 8656 section 6 lists, each with its time-to-expiry."""

    user: str
    relays: dict[AddressFamily, tuple[RelayedAddress, float]]
    permissions: dict[str, float] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)

    def pass_time(self, now: float) -> None:
        for family in [family for family, (_, expires_at) in self.relays.items() if expires_at <= now]:
            self.lose(family)
        for host in [host for host, expires_at in self.permissions.items() if expires_at <= now]:
            del self.permissions[host]
        # Section 12: five minutes more before number and peer may be bound otherwise.
        for number in [number for number, bound in self.channels.items() if bound.expires_at + 300 <= now]:
            del self.channels[number]

    def lose(self, family: AddressFamily) -> None:
        del self.relays[family]
        of_family = ":" if family is IPV6 else "."
        self.permissions = {host: at for host, at in self.permissions.items() if of_family not in host}
        self.channels = {
            number: bound for number, bound in self.channels.items() if family_of(bound.peer) is not family
        }

    def flows(self, path: FiveTuple, now: float) -> set[Flow]:
        """What may pass at `now`."""
        flows: set[Flow] = set()
        for host in self.permissions:
            relay, _ = self.relays[IPV6 if ":" in host else IPV4]
            flows.add(PermissionFlow(path, relay, host))
        for number, bound in self.channels.items():
            if bound.passes_until > now and bound.peer.host in self.permissions:
                flows.add(ChannelFlow(path, self.relays[family_of(bound.peer)][0], number, bound.peer))
        return flows


@dataclass(eq=False)
class Ask:
    """A request that was sent, and may be sent again."""

    client: Client
    method: Method
    pairs: dict[Any, Any]
    peers: list[PeerAddress]
    data: bytes
    sent_at: float
    cancelled: bool = False

    @property
    def path(self) -> FiveTuple:
        return self.client.path

    @property
    def shares(self) -> int:
        """How many allocations it takes from the quota: a reserved port counts as the one it is kept for."""
        return 2 if self.pairs.get(EVEN_PORT) else 1

    @property
    def key(self) -> tuple[FiveTuple, bytes]:
        return self.path, self.data[8:20]


@dataclass(eq=False)
class Opening:
    """An Allocate that waits for its relays."""

    ask: Ask
    lifetime: int
    waiting: int
    opened: dict[AddressFamily, RelayedAddress] = field(default_factory=dict)
    reserved: RelayedAddress | None = None
    cancelled: bool = False


def granted_lifetime(wish: int | None) -> int:
    """Section 7.2."""
    computed = min(wish or 0, 3600)
    return computed if computed > 600 else 600


class Histories(RuleBasedStateMachine):
    def __init__(self, world: Any) -> None:
        super().__init__()
        self.world = world
        world.hold_keys = world.hold_relays = True
        world.quotas.per_account = PER_ACCOUNT
        # The relay's own hosts are denied, as a real policy has it; live relays are reached all the same.
        world.peers.denied_hosts |= {"192.0.2.200", "2001:db8:ffff::200"}
        world.peers.denied.add(SAME_HOST)
        self.now = 1000.0
        self.clients = {
            (path, user): world.client(path, user, algorithm=SHA256 if user == "bob" else None)
            for path in PATHS
            for user in USERS
        }
        self.greeted: dict[Client, float] = {}
        self.lives: dict[FiveTuple, Life] = {}
        self.reservations: dict[bytes, tuple[str, RelayedAddress, float]] = {}
        self.lookups: list[tuple[Ask, FetchKey]] = []
        self.openings: list[tuple[Opening, OpenRelay]] = []
        self.remembered: dict[tuple[FiveTuple, bytes], tuple[Reply, float]] = {}
        self.sent: list[Ask] = []
        self.plane: dict[Flow, float] = {}

    # -- what clients do --------------------------------------------------------------------------------

    @initialize(wishes=st.lists(st.sampled_from(["nothing", "single", "dual"]), min_size=3, max_size=3))
    def begin(self, wishes):
        """Most histories begin with clients that have allocations."""
        for path, wish in zip(PATHS, wishes, strict=True):
            if wish != "nothing":
                additional = {ADDITIONAL_ADDRESS_FAMILY: IPV6} if wish == "dual" else {}
                self.ask(path, OWNERS[path], Method.ALLOCATE, {REQUESTED_TRANSPORT: 17, **additional})

    @rule(path=paths, lifetime=lifetimes, additional=st.sampled_from([None, IPV6]), slow=slow)
    def allocate(self, path, lifetime, additional, slow):
        wish = {REQUESTED_TRANSPORT: 17, LIFETIME: lifetime, ADDITIONAL_ADDRESS_FAMILY: additional}
        self.ask(path, OWNERS[path], Method.ALLOCATE, wish, slow=slow)

    @rule(path=paths, lifetime=lifetimes, slow=slow)
    def allocate_a_pair(self, path, lifetime, slow):
        wish = {REQUESTED_TRANSPORT: 17, LIFETIME: lifetime, EVEN_PORT: True}
        self.ask(path, OWNERS[path], Method.ALLOCATE, wish, slow=slow)

    @rule(
        path=paths,
        user=st.sampled_from(USERS),
        transport=st.sampled_from([17, 17, 6, None]),
        family=st.sampled_from([None, None, IPV4, IPV6, 3]),
        additional=st.sampled_from([None, None, IPV6, IPV4]),
        even=st.sampled_from([None, None, False, True]),
        slow=slow,
    )
    def allocate_oddly(self, path, user, transport, family, additional, even, slow):
        wish = {
            REQUESTED_TRANSPORT: transport,
            REQUESTED_ADDRESS_FAMILY: family,
            ADDITIONAL_ADDRESS_FAMILY: additional,
            EVEN_PORT: even,
        }
        self.ask(path, user, Method.ALLOCATE, wish, slow=slow)

    @precondition(lambda self: self.reservations)
    @rule(path=paths, user=st.sampled_from(USERS), number=st.integers(0, 3), slow=slow)
    def allocate_reserved(self, path, user, number, slow):
        tokens = [*self.reservations, *self.reservations, b"no token"]
        wish = {REQUESTED_TRANSPORT: 17, RESERVATION_TOKEN: tokens[number % len(tokens)]}
        self.ask(path, user, Method.ALLOCATE, wish, slow=slow)

    @rule(path=paths, lifetime=lifetimes, family=st.sampled_from([None, None, IPV4, IPV6]))
    def refresh(self, path, lifetime, family):
        self.ask(path, OWNERS[path], Method.REFRESH, {LIFETIME: lifetime, REQUESTED_ADDRESS_FAMILY: family})

    @rule(path=paths, how=st.sampled_from([None, IPV4, IPV6, "disconnect"]))
    def leave(self, path, how):
        if how == "disconnect":
            self.disconnect()
        else:
            self.ask(path, OWNERS[path], Method.REFRESH, {LIFETIME: 0, REQUESTED_ADDRESS_FAMILY: how})

    @rule(path=paths, numbers=st.lists(st.integers(0, 9), min_size=1, max_size=3))
    def create_permission(self, path, numbers):
        self.ask(path, OWNERS[path], Method.CREATE_PERMISSION, {}, [self.peer(number) for number in numbers])

    @rule(path=paths, channel=st.sampled_from(NUMBERS), number=st.integers(0, 9))
    def channel_bind(self, path, channel, number):
        self.ask(path, OWNERS[path], Method.CHANNEL_BIND, {CHANNEL_NUMBER: channel}, [self.peer(number)])

    @precondition(lambda self: any(life.channels for life in self.lives.values()))
    @rule(number=st.integers(0, 9), again=st.booleans())
    def bind_again(self, number, again):
        """Refreshes a binding, or tries its peer with another number."""
        bound = [
            (path, channel, each.peer)
            for path, life in self.lives.items()
            for channel, each in life.channels.items()
        ]
        path, channel, address = bound[number % len(bound)]
        wish = {CHANNEL_NUMBER: channel if again else channel ^ 1}
        self.ask(path, OWNERS[path], Method.CHANNEL_BIND, wish, [address])

    @rule(path=paths, user=st.sampled_from(USERS), what=st.integers(0, 4), slow=slow)
    def ask_amiss(self, path, user, what, slow):
        """Something is missing, or the allocation is not the asking user's."""
        method, wish, peers = [
            (Method.CREATE_PERMISSION, {}, []),
            (Method.CHANNEL_BIND, {CHANNEL_NUMBER: 0x4000}, []),
            (Method.CHANNEL_BIND, {CHANNEL_NUMBER: 0x3FFF}, [PEER]),
            (Method.CREATE_PERMISSION, {}, [PEER]),
            (Method.REFRESH, {LIFETIME: 0}, []),
        ][what]
        if what > 2 and user == OWNERS[path]:
            return
        self.ask(path, user, method, wish, peers, slow=slow)

    @precondition(lambda self: self.sent)
    @rule(number=st.integers(0, 4))
    def retransmit(self, number):
        """An answer was lost, or is only late."""
        ask = self.sent[-1 - number % min(5, len(self.sent))]
        if ask.cancelled or self.is_blocked(ask.path) or self.now - ask.sent_at > 500:
            return
        outputs = self.world.deliver(ask.data, ask.path, self.now)
        answer, until = self.remembered.get(ask.key, (None, 0.0))
        if answer is not None and self.now < until:
            assert outputs == [answer]
        elif self.is_pending(ask):
            assert outputs == []
        else:
            again = Ask(ask.client, ask.method, ask.pairs, ask.peers, ask.data, ask.sent_at)
            self.received(again, outputs)

    @rule(path=paths, number=st.integers(0, 9))
    def send(self, path, number):
        address = self.peer(number)
        outputs = self.clients[path, "alice"].send(address, b"data", now=self.now)
        life = self.lives.get(path)
        passes = life is not None and address.host in life.permissions and not self.is_denied(address)
        expected = [SendToPeer(life.relays[family_of(address)][0], address, b"data", False)] if passes else []
        assert only(outputs, SendToPeer) == expected
        assert not only(outputs, (Reply, Grant))

    @rule(path=paths, data=st.binary(max_size=40))
    def garbage(self, path, data):
        assert self.world.deliver(data, path, self.now) == []

    def disconnect(self) -> None:
        """The TCP client goes."""
        self.note(self.world.disconnect(STREAM, self.now))
        self.lives.pop(STREAM, None)
        for ask, _ in self.lookups:
            ask.cancelled |= ask.path == STREAM
        for opening, _ in self.openings:
            if opening.ask.path == STREAM:
                opening.cancelled = opening.ask.cancelled = True

    # -- what else happens ------------------------------------------------------------------------------

    @precondition(lambda self: self.lookups)
    @rule(number=st.integers(0, 9))
    def find_key(self, number):
        ask, question = self.lookups.pop(number % len(self.lookups))
        outputs = self.world.look_up(question, self.now)
        if ask.cancelled:
            assert outputs == []
        else:
            self.answered(ask, outputs)

    @precondition(lambda self: self.openings)
    @rule(number=st.integers(0, 9), works=st.sampled_from([True, True, True, False]))
    def open_relay(self, number, works):
        opening, question = self.openings.pop(number % len(self.openings))
        self.world.plane.available = {IPV4, IPV6} if works else set()
        before = self.world.plane.opened.copy()
        outputs = self.world.open(question, self.now)
        opening.waiting -= 1
        if works and not (opening.cancelled and not opening.waiting):
            new = sorted(self.world.plane.opened - before)
            opening.opened[question.family] = new[0]
            opening.reserved = new[1] if question.reserve_next else None
        if opening.waiting:
            assert outputs == []
        elif opening.cancelled:
            assert {type(output) for output in outputs} <= {CloseRelay}
        else:
            self.opened(opening, outputs)

    @rule(seconds=st.sampled_from([*MOMENTS, *MOMENTS, *AGES]), timer=st.sampled_from(TIMERS))
    def wait(self, seconds, timer):
        """The timer goes off when it should, or once for all that was due, or a packet is faster."""
        self.now += seconds
        if timer == "punctual":
            self.note(self.world.sleep(self.now))
        elif timer == "late":
            self.note(self.world.tick(self.now))
        else:
            self.note(self.world.deliver(b"garbage", HERE, self.now))
        for life in self.lives.values():
            life.pass_time(self.now)
        self.lives = {path: life for path, life in self.lives.items() if life.relays}
        self.reservations = {token: held for token, held in self.reservations.items() if held[2] > self.now}

    @rule(number=st.integers(0, 5), denied=st.booleans())
    def change_policy(self, number, denied):
        hosts = self.world.peers.denied_hosts
        (hosts.add if denied else hosts.discard)(PEERS[number].host)

    # -- what must hold ---------------------------------------------------------------------------------

    @invariant()
    def what_passes_is_what_is_permitted(self):
        passing = {flow for flow, expires_at in self.plane.items() if expires_at > self.now}
        permitted = [life.flows(path, self.now) for path, life in self.lives.items()]
        assert passing == set().union(*permitted)

    @invariant()
    def what_is_open_is_what_is_held(self):
        held = {relay for life in self.lives.values() for relay, _ in life.relays.values()}
        held |= {relay for _, relay, _ in self.reservations.values()}
        for opening in {opening for opening, _ in self.openings}:
            held |= {*opening.opened.values(), *([opening.reserved] if opening.reserved else [])}
        assert self.world.plane.opened == held

    @invariant()
    def leases_are_what_lives_or_waits(self):
        assert self.world.quotas.live() == sum(self.held_by(user) for user in USERS)

    @invariant()
    def tables_hold_what_lives_or_waits(self):
        state = self.world.state
        assert state.allocations.keys() == self.lives.keys()
        assert len(state.by_relay) == sum(len(life.relays) for life in self.lives.values())
        assert len(state.pending_requests) == len(self.lookups)
        assert len(state.waiting) == len({ask.key for ask, _ in self.lookups})
        assert len(state.pending_allocations) == len(self.openings)
        assert len(state.allocating) == len({opening.ask.path for opening, _ in self.openings})
        assert state.reservations.keys() == self.reservations.keys()
        for path, life in self.lives.items():
            held = state.allocations[path]
            assert held.permissions.keys() == life.permissions.keys()
            assert held.channels.keys() == life.channels.keys()

    def teardown(self) -> None:
        """The clients go silent: in the end nothing is left."""
        while self.lookups:
            self.find_key(0)
        while self.openings:
            self.open_relay(0, True)
        if len(self.sent) % 2:
            self.note(self.world.shut_down(self.now))
            self.lives.clear()
            self.reservations.clear()
        self.wait(10_000, "punctual")
        self.world.tick(self.now)
        self.what_passes_is_what_is_permitted()
        assert not self.plane
        assert self.world.remnants() == {}

    # -- the model --------------------------------------------------------------------------------------

    def peer(self, number: int) -> PeerAddress:
        """One of PEERS, or a relayed address of another client."""
        if number < len(PEERS):
            return PEERS[number]
        relays = sorted(relay for life in self.lives.values() for relay, _ in life.relays.values())
        return PeerAddress(relays[number % len(relays)]) if relays else PEERS[0]

    def is_denied(self, address: PeerAddress) -> bool:
        live = {relay for life in self.lives.values() for relay, _ in life.relays.values()}
        return RelayedAddress(address) not in live and self.world.peers.check(address) is not None

    def is_pending(self, ask: Ask) -> bool:
        asks = [ask for ask, _ in self.lookups] + [opening.ask for opening, _ in self.openings]
        return any(ask.key == other.key for other in asks)

    def is_blocked(self, path: FiveTuple) -> bool:
        """A connection that closed comes back by the same port once what it left behind is gone."""
        return any(ask.cancelled for ask, _ in self.lookups if ask.path == path) or any(
            opening.cancelled for opening, _ in self.openings if opening.ask.path == path
        )

    def ask(self, path, user, method, wishes, peers=(), slow=False) -> None:
        if self.is_blocked(path):
            return
        client = self.clients[path, user]
        if self.now - self.greeted.get(client, -1e9) > 3000:
            client.greet(self.now)
            self.greeted[client] = self.now
        pairs = {attribute: value for attribute, value in wishes.items() if value is not None}
        data = client.form(method, *pairs.items(), *((XOR_PEER_ADDRESS, address) for address in peers))
        ask = Ask(client, method, pairs, list(peers), data, self.now)
        self.sent.append(ask)
        self.received(ask, self.world.deliver(data, path, self.now))
        while not slow and (self.lookups and self.lookups[-1][0] is ask):
            self.find_key(len(self.lookups) - 1)
        while not slow and (self.openings and self.openings[-1][0].ask is ask):
            self.open_relay(len(self.openings) - 1, True)

    def received(self, ask: Ask, outputs: list[Output]) -> None:
        """The key is known of the user who made the allocation; else it is looked up."""
        life = self.lives.get(ask.path)
        if life is not None and life.user == ask.client.username:
            self.answered(ask, outputs)
        else:
            [question] = outputs
            assert isinstance(question, FetchKey)
            self.lookups.append((ask, question))

    def answered(self, ask: Ask, outputs: list[Output]) -> None:
        """The sender is known: the request is carried out or refused."""
        judge = {
            Method.ALLOCATE: self.judge_allocate,
            Method.REFRESH: self.judge_refresh,
            Method.CREATE_PERMISSION: self.judge_create_permission,
            Method.CHANNEL_BIND: self.judge_channel_bind,
        }[ask.method]
        code = judge(ask)
        if code is not None:
            assert refused(outputs) == code
            assert not only(outputs, (Grant, Revoke, OpenRelay, CloseRelay))
            if ask.method is Method.ALLOCATE:
                self.remember(ask, outputs)
            return
        carry_out = {
            Method.ALLOCATE: self.allocated,
            Method.REFRESH: self.refreshed,
            Method.CREATE_PERMISSION: self.permitted,
            Method.CHANNEL_BIND: self.bound,
        }[ask.method]
        carry_out(ask, outputs)
        self.note(outputs)

    def judge_allocate(self, ask: Ask) -> int | None:
        """The checks of section 7.2 in their order."""
        wish, user = ask.pairs, ask.client.username
        opening = [opening for opening, _ in self.openings if opening.ask.path == ask.path]
        if ask.path in self.lives or opening:
            return 437
        if REQUESTED_TRANSPORT not in wish:
            return 400
        if wish[REQUESTED_TRANSPORT] != 17:
            return 442
        if RESERVATION_TOKEN in wish:
            holder, _, _ = self.reservations.get(wish[RESERVATION_TOKEN], (None, None, 0))
            if holder != user:
                return 508
        elif REQUESTED_ADDRESS_FAMILY in wish and ADDITIONAL_ADDRESS_FAMILY in wish:
            return 400
        elif wish.get(REQUESTED_ADDRESS_FAMILY, IPV4) not in (IPV4, IPV6):
            return 440
        elif ADDITIONAL_ADDRESS_FAMILY in wish and (
            wish.get(EVEN_PORT) or wish[ADDITIONAL_ADDRESS_FAMILY] == IPV4
        ):
            return 400
        else:
            return 486 if self.held_by(user) + ask.shares > PER_ACCOUNT else None
        return None

    def held_by(self, user: str) -> int:
        waiting = {opening for opening, _ in self.openings}
        lives = sum(life.user == user for life in self.lives.values())
        reserved = sum(holder == user for holder, _, _ in self.reservations.values())
        asked = sum(opening.ask.shares for opening in waiting if opening.ask.client.username == user)
        return lives + reserved + asked

    def allocated(self, ask: Ask, outputs: list[Output]) -> None:
        lifetime = granted_lifetime(ask.pairs.get(LIFETIME))
        if RESERVATION_TOKEN in ask.pairs:
            user, relay, _ = self.reservations.pop(ask.pairs[RESERVATION_TOKEN])
            assert accepted(outputs).get_all(XOR_RELAYED_ADDRESS) == [relay]
            self.lives[ask.path] = Life(user, {family_of(relay): (relay, self.now + lifetime)})
            self.remember(ask, outputs)
            return
        families = [ask.pairs.get(REQUESTED_ADDRESS_FAMILY, IPV4)]
        if ADDITIONAL_ADDRESS_FAMILY in ask.pairs:
            families = [IPV4, IPV6]
        questions = only(outputs, OpenRelay)
        assert [question.family for question in questions] == families
        assert all(question.even_port == (EVEN_PORT in ask.pairs) for question in questions)
        assert all(question.reserve_next == ask.pairs.get(EVEN_PORT, False) for question in questions)
        assert not only(outputs, (Reply, Grant))
        opening = Opening(ask, lifetime, len(questions))
        self.openings += [(opening, question) for question in questions]

    def opened(self, opening: Opening, outputs: list[Output]) -> None:
        ask = opening.ask
        if not opening.opened:
            assert refused(outputs) == 508
        else:
            message = accepted(outputs)
            assert message.get(LIFETIME) == opening.lifetime
            relays = [opening.opened[family] for family in (IPV4, IPV6) if family in opening.opened]
            assert message.get_all(XOR_RELAYED_ADDRESS) == relays
            wanted = 2 if ADDITIONAL_ADDRESS_FAMILY in ask.pairs else 1
            assert len(message.get_all(ADDRESS_ERROR_CODE)) == wanted - len(relays)
            expires_at = self.now + opening.lifetime
            lives = {family: (relay, expires_at) for family, relay in opening.opened.items()}
            self.lives[ask.path] = Life(ask.client.username, lives)
            assert (RESERVATION_TOKEN in message) is (opening.reserved is not None)
            if opening.reserved is not None:
                held = (ask.client.username, opening.reserved, self.now + 30)
                self.reservations[message.get(RESERVATION_TOKEN)] = held
        self.remember(ask, outputs)
        self.note(outputs)

    def judge_other(self, ask: Ask) -> int | None:
        """Section 5."""
        life = self.lives.get(ask.path)
        if life is None:
            return 437
        return None if life.user == ask.client.username else 441

    def judge_refresh(self, ask: Ask) -> int | None:
        code = self.judge_other(ask)
        if code is None:
            family = ask.pairs.get(REQUESTED_ADDRESS_FAMILY)
            if family is not None and family not in self.lives[ask.path].relays:
                return 443
        return code

    def refreshed(self, ask: Ask, outputs: list[Output]) -> None:
        life, wish = self.lives[ask.path], ask.pairs.get(LIFETIME)
        family = ask.pairs.get(REQUESTED_ADDRESS_FAMILY)
        families = list(life.relays) if family is None else [family]
        lifetime = 0 if wish == 0 else granted_lifetime(wish)
        assert accepted(outputs).get(LIFETIME) == lifetime
        for each in families:
            relay, expired_at = life.relays[each]
            if lifetime:
                life.relays[each] = relay, self.now + lifetime
                for host, permitted_until in life.permissions.items():
                    # What would have ended with the allocation goes on.
                    cut_short = permitted_until > min(expired_at, self.now + lifetime)
                    if (":" in host) is (each is IPV6) and cut_short:
                        self.let_channels_pass(life, host)
            else:
                assert CloseRelay(relay) in outputs
                life.lose(each)
        if not lifetime:
            self.remember(ask, outputs)
        if not life.relays:
            del self.lives[ask.path]

    def judge_create_permission(self, ask: Ask) -> int | None:
        """Section 10.2."""
        code = self.judge_other(ask)
        if code is not None:
            return code
        if not ask.peers:
            return 400
        return self.judge_peers(self.lives[ask.path], ask.peers)

    def judge_peers(self, life: Life, peers: list[PeerAddress]) -> int | None:
        if any(family_of(address) not in life.relays for address in peers):
            return 443
        if any(self.is_denied(address) for address in peers):
            return 403
        hosts = life.permissions.keys() | {address.host for address in peers}
        return 508 if len(hosts) > MOST_PERMISSIONS else None

    def permitted(self, ask: Ask, outputs: list[Output]) -> None:
        accepted(outputs)
        life = self.lives[ask.path]
        for address in ask.peers:
            life.permissions[address.host] = self.now + 300
        for address in ask.peers:
            self.let_channels_pass(life, address.host)

    def let_channels_pass(self, life: Life, host: str) -> None:
        """A permission lets the channels of its host go on, but for peers that are denied by now."""
        for bound in life.channels.values():
            if bound.peer.host == host and bound.expires_at > self.now and not self.is_denied(bound.peer):
                _, relay_expires_at = life.relays[family_of(bound.peer)]
                bound.passes_until = min(bound.expires_at, life.permissions[host], relay_expires_at)

    def judge_channel_bind(self, ask: Ask) -> int | None:
        """Section 12.2."""
        code = self.judge_other(ask)
        if code is not None:
            return code
        number = ask.pairs[CHANNEL_NUMBER]
        if not ask.peers or not 0x4000 <= number <= 0x7FFF:
            return 400
        life, [address] = self.lives[ask.path], ask.peers
        if number in life.channels and life.channels[number].peer != address:
            return 400
        if any(bound.peer == address and other != number for other, bound in life.channels.items()):
            return 400
        return self.judge_peers(life, ask.peers)

    def bound(self, ask: Ask, outputs: list[Output]) -> None:
        accepted(outputs)
        life, [address] = self.lives[ask.path], ask.peers
        life.channels[ask.pairs[CHANNEL_NUMBER]] = Channel(address, self.now + 600)
        life.permissions[address.host] = self.now + 300
        self.let_channels_pass(life, address.host)

    def remember(self, ask: Ask, outputs: list[Output]) -> None:
        if ask.path is not STREAM:
            self.remembered[ask.key] = reply(outputs), self.now + 40

    def note(self, outputs: list[Output]) -> None:
        """The plane's part: what it was told may pass, until when."""
        assert len(only(outputs, Reply)) <= 1
        for output in outputs:
            match output:
                case Grant(flow, expires_at):
                    assert self.now < expires_at <= self.now + 300
                    assert flow.relay in self.world.plane.opened
                    self.plane[flow] = expires_at
                case Revoke(flow):
                    self.plane.pop(flow, None)
                case CloseRelay(relay):
                    self.plane = {flow: at for flow, at in self.plane.items() if flow.relay != relay}


def test_random_histories(new_world):
    """A failure prints the shortest history that shows it."""
    limits = Limits(
        permissions_per_allocation=MOST_PERMISSIONS,
        channels_per_allocation=100,  # rarely met: test_channel_bind has it
        requests_burst=1e9,
        remembered_replies=1000,
    )
    run_state_machine_as_test(
        lambda: Histories(new_world(limits=limits)),
        settings=settings(max_examples=150, stateful_step_count=50, deadline=None),
    )
