"""HolePunch on a little internet: both get through or neither thinks so, whatever gets lost."""

import itertools

import pytest
from peerpath.nat.behaviour import NatBehaviour
from peerpath.nat.compatibility import can_connect_directly
from peerpath.punch.hole_punch import HolePunch, Punched, SendTo
from stunwire import USE_CANDIDATE, Message, MessageClass, Method, TransportAddress
from unit.sdk.little_internet import AD, APD, EI, Internet, Nat, StunServer

PATIENCE = 10.0


class Peer:
    def __init__(self, internet, host, nat, public):
        internet.host(host, nat, public if nat.mapping is not None else None)
        self.internet, self.nat = internet, nat
        self.address = TransportAddress(host, 40000)
        self.public_host = public if nat.mapping is not None else host
        self.punched = None
        self.core = None
        internet.socket(self.address, self._received)

    def known_as(self, server):
        """The address that a STUN server sees, which is what the other side is told."""
        return self.nat.outward(self.address, server, self.public_host)

    def start(self, peer, password=None):
        self.core = HolePunch(peer, password=password)
        self._carry_out(self.core.start(self.internet.now))

    def _received(self, data, source):
        if self.core is not None:
            self._carry_out(self.core.receive(data, source, self.internet.now))

    def _timer(self):
        deadline = self.core.next_deadline()
        if deadline is not None and deadline <= self.internet.now:
            self._carry_out(self.core.handle_timeout(self.internet.now))

    def _carry_out(self, outputs):
        for output in outputs:
            if isinstance(output, SendTo):
                # Who is through has closed his socket.
                if self.punched is None:
                    self.internet.send(self.address, output.to, output.data)
            else:
                self.punched = output
                self.core.next_deadline = lambda: None
                self.core.receive = lambda data, source, now: []
        deadline = self.core.next_deadline()
        if deadline is not None:
            self.internet.at(deadline, self._timer)


def meet(nat_a, nat_b, *, loss=0.0, seed=1, late=0.0, passwords=(None, None)):
    internet = Internet(loss, seed)
    server = StunServer(internet, "198.51.100.1").address
    a = Peer(internet, "192.168.1.1", nat_a, "203.0.113.1")
    b = Peer(internet, "192.168.2.2", nat_b, "203.0.113.2")
    known_a, known_b = a.known_as(server), b.known_as(server)
    a.start(known_b, passwords[0])
    internet.at(late, lambda: b.start(known_a, passwords[1]))
    internet.run(PATIENCE, lambda: a.punched is not None and b.punched is not None)
    return a, b, internet


RULES = {
    "open": (None, EI, "preserved"),
    "firewall": (None, APD, "preserved"),
    "full cone": (EI, EI, "random"),
    "address restricted": (EI, AD, "random"),
    "port restricted": (EI, APD, "preserved"),
    "address dependent": (AD, AD, "random"),
    "symmetric": (APD, APD, "random"),
}
PAIRS = list(itertools.product(RULES, repeat=2))


def behaviour(kind):
    mapping, filtering, _ = RULES[kind]
    return NatBehaviour(mapping or EI, filtering, mapping is not None)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_it_gets_through_exactly_where_the_rules_let_it(first, second):
    a, b, internet = meet(Nat(*RULES[first]), Nat(*RULES[second]))

    expected = can_connect_directly(behaviour(first), behaviour(second))
    assert (a.punched is not None, b.punched is not None) == (expected, expected)
    if expected:
        assert internet.now < 2.0
        assert a.punched.remote.host == b.public_host
        assert a.punched.round_trip == pytest.approx(0.04)


@pytest.mark.parametrize("seed", range(20))
def test_with_a_third_of_all_packets_lost_both_still_agree(seed):
    nat = RULES["port restricted"]
    a, b, _ = meet(Nat(*nat), Nat(*nat), loss=0.33, seed=seed)

    assert a.punched is not None
    assert b.punched is not None


@pytest.mark.parametrize("late", [0.5, 2.0, 5.0])
def test_one_may_begin_later(late):
    nat = RULES["port restricted"]
    a, b, internet = meet(Nat(*nat), Nat(*nat), late=late)

    assert a.punched is not None
    assert b.punched is not None
    assert internet.now < late + 0.5


def test_one_way_is_not_enough():
    a, b, _ = meet(Nat(None), Nat(EI, EI, blocks_udp=True))

    assert a.punched is None
    assert b.punched is None


def test_a_password_that_both_know():
    nat = RULES["port restricted"]
    a, b, _ = meet(Nat(*nat), Nat(*nat), passwords=("secret", "secret"))
    assert isinstance(a.punched, Punched)
    assert isinstance(b.punched, Punched)


def test_a_password_that_only_one_knows():
    a, b, _ = meet(Nat(None), Nat(None), passwords=("secret", None))
    assert a.punched is None
    assert b.punched is None


PEER = TransportAddress("203.0.113.2", 40000)


def begun():
    punch = HolePunch(PEER)
    [probe] = punch.start(0)
    return punch, Message.decode(probe.data)


def test_strangers_are_ignored():
    punch, request = begun()
    stranger = TransportAddress("203.0.113.66", 40000)
    answer = Message.success_to(request).encode(fingerprint=True)

    assert punch.receive(answer, stranger, 0.1) == []
    assert (
        punch.receive(Message(MessageClass.REQUEST, Method.BINDING).encode(fingerprint=True), stranger, 0.1)
        == []
    )


def test_an_answer_to_nothing_proves_nothing():
    punch, request = begun()
    other = Message(MessageClass.SUCCESS_RESPONSE, Method.BINDING)

    assert punch.receive(other.encode(fingerprint=True), PEER, 0.1) == []
    assert punch.receive(Message.success_to(request).encode(), PEER, 0.1) == []  # no FINGERPRINT
    assert punch.receive(b"application data", PEER, 0.1) == []


def test_an_ack_alone_is_not_yet_a_hole():
    punch, request = begun()
    outputs = punch.receive(Message.success_to(request).encode(fingerprint=True), PEER, 0.1)

    # It goes on with requests that say so, until the peer says the same.
    assert [USE_CANDIDATE in Message.decode(output.data) for output in outputs] == [True]
    assert not punch.punched


def test_probes_slow_down():
    punch, _ = begun()
    moments = []
    while (now := punch.next_deadline()) < 20:
        moments.append(now)
        punch.handle_timeout(now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]

    assert gaps == sorted(gaps)
    assert gaps[-1] == pytest.approx(1.0)
    assert len(moments) < 30
