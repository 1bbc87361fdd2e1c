"""The message session alone: against a model, on links that die anywhere, and against peers that cheat."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from peerpath.connection.frames import (
    Close,
    FrameReader,
    Hello,
    Message,
    ProtocolViolation,
    Taken,
    message_head,
)
from peerpath.connection.messages import MessageSession, SessionUnknown
from peerpath.connection.options import ConnectionOptions

SMALL = ConnectionOptions(max_message=40, window_bytes=100, window_messages=8, acknowledge_after=0.02)


class TwoSessions(RuleBasedStateMachine):
    """The model: two lists that grow. A link is two byte queues that lose everything when it dies."""

    def __init__(self):
        super().__init__()
        self.sessions = [MessageSession(SMALL), MessageSession(SMALL)]
        self.put = [[], []]
        self.taken = [[], []]
        self.wires = [b"", b""]
        self.linked = False
        self.now = 0.0

    @rule(side=st.integers(0, 1), size=st.integers(0, 40))
    def write(self, side, size):
        if self.sessions[side].has_room(size):
            message = bytes([len(self.put[side]) % 251]) * size
            assert self.sessions[side].put(message) == len(self.put[side])
            self.put[side].append(message)

    @rule(side=st.integers(0, 1))
    def read(self, side):
        if self.sessions[side].waiting:
            self.taken[side].append(self.sessions[side].take(self.now))

    @rule()
    def new_link(self):
        self.linked = True
        self.wires = [b"", b""]
        for session in self.sessions:
            session.link_up()

    @rule()
    def lose_link(self):
        self.linked = False
        self.wires = [b"", b""]
        for session in self.sessions:
            session.link_down()

    @precondition(lambda self: self.linked)
    @rule(side=st.integers(0, 1), room=st.integers(0, 120))
    def send(self, side, room):
        data = self.sessions[side].to_send(room, self.now)
        assert len(data) <= room
        self.wires[side] += data

    @precondition(lambda self: self.linked)
    @rule(side=st.integers(0, 1), size=st.integers(1, 90))
    def arrive(self, side, size):
        data, self.wires[side] = self.wires[side][:size], self.wires[side][size:]
        self.sessions[1 - side].receive(data)

    @rule()
    def wait(self):
        self.now += 0.03

    @invariant()
    def everything_arrives_once_in_order_and_little_is_held(self):
        for side in (0, 1):
            there = self.taken[1 - side]
            assert there == self.put[side][: len(there)]
            session = self.sessions[side]
            assert session.queued <= 8
            assert session.waiting <= 8
            assert session.queued_bytes <= 100
            assert session.waiting_bytes <= 100
            assert session.taken_by_peer <= len(there)
            assert session.queued == len(self.put[side]) - session.taken_by_peer

    def teardown(self):
        """However it went: one link that lives long enough brings all of it."""
        self.new_link()
        for _ in range(60):
            self.wait()
            for side in (0, 1):
                self.send(side, 120)
                self.arrive(side, 120)
                while self.sessions[side].waiting:
                    self.read(side)
        for side in (0, 1):
            assert self.taken[1 - side] == self.put[side]
            assert self.sessions[side].queued == 0


TestTwoSessions = TwoSessions.TestCase
TestTwoSessions.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def hello(known=bytes(16), session=b"s" * 16, received=0, taken=0, **changes) -> bytes:
    limits = {"window_bytes": 100, "window_messages": 8, "max_message": 40} | changes
    return Hello(session, known, received, taken, **limits).encode()


def session_with_peer() -> MessageSession:
    session = MessageSession(SMALL)
    session.link_up()
    session.receive(hello())
    session.to_send(1000, 0.0)
    return session


def framed(payload: bytes) -> bytes:
    return message_head(len(payload)) + payload


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x09", "no frame of type 9"),
        (b"\x00", "no frame of type 0"),
        (hello(), "HELLO was said twice"),
        (message_head(41), "at most 40 were agreed"),
        (message_head(0xFFFFFFFF), "at most 40 were agreed"),
        (b"\x04\xff\xff", "at most 1024 were agreed"),
        (framed(bytes(40)) * 3, "more than the window allows"),
        (framed(b"") * 9, "more than the window allows"),
        (Taken(1).encode(), "took messages that were never sent"),
        (Close("").encode() + framed(b"x"), "a message came after CLOSE"),
    ],
)
def test_a_peer_that_breaks_the_rules_is_found_out(data, words):
    with pytest.raises(ProtocolViolation, match=words):
        session_with_peer().receive(data)


@pytest.mark.parametrize("data", [framed(b"x"), Taken(0).encode(), Close("").encode()])
def test_nothing_comes_before_hello(data):
    session = MessageSession(SMALL)
    session.link_up()
    with pytest.raises(ProtocolViolation, match="first frame of a link has to be HELLO"):
        session.receive(data)


@pytest.mark.parametrize(("received", "taken"), [(3, 0), (2, 3), (0, 1), (1, 0)])
def test_a_peer_cannot_claim_what_was_never_sent_or_unsay_what_it_took(received, taken):
    session = session_with_peer()
    session.put(b"one")
    session.put(b"two")
    session.to_send(1000, 0.0)
    session.receive(Taken(1).encode())
    session.link_up()
    with pytest.raises(ProtocolViolation, match="never sent, or has lost some"):
        session.receive(hello(session.session_id, received=received, taken=taken))


def test_another_peer_session_is_the_end():
    session = session_with_peer()
    session.link_up()
    with pytest.raises(SessionUnknown, match="was started anew") as caught:
        session.receive(hello(session=b"t" * 16))
    assert caught.value.fatal


def test_a_peer_that_knows_an_earlier_start_of_this_side_costs_a_new_one_nothing():
    session = MessageSession(SMALL)
    session.link_up()
    with pytest.raises(SessionUnknown, match="connect again") as caught:
        session.receive(hello(known=b"u" * 16))
    assert not caught.value.fatal
    session.link_up()
    session.receive(hello(session=b"t" * 16))
    assert session.is_resumed


def test_what_was_put_before_the_peer_told_its_window_waits_for_it():
    session = MessageSession(SMALL)
    for _ in range(4):
        session.put(bytes(20))
    session.link_up()
    session.receive(hello(window_bytes=45))
    sent = list(FrameReader(40).feed(session.to_send(1000, 0.0)))
    assert sent[1:] == [Message(bytes(20))] * 2
    session.receive(Taken(1).encode())
    assert session.to_send(1000, 0.0) == framed(bytes(20))
    assert not session.has_room(1)


def test_of_a_peer_that_counts_fewer_messages_no_more_are_under_way():
    session = MessageSession(SMALL)
    for _ in range(4):
        session.put(b"x")
    session.link_up()
    session.receive(hello(window_messages=3))
    assert list(FrameReader(40).feed(session.to_send(1000, 0.0)))[1:] == [Message(b"x")] * 3


def test_what_was_received_is_not_sent_again_and_what_was_not_is():
    session = session_with_peer()
    for payload in (b"one", b"two", b"three"):
        session.put(payload)
    assert session.to_send(1000, 0.0) == framed(b"one") + framed(b"two") + framed(b"three")
    session.link_up()
    session.receive(hello(session.session_id, received=2, taken=1))
    assert list(FrameReader(40).feed(session.to_send(1000, 0.0)))[1:] == [Message(b"three")]
    assert session.queued == 2


def test_that_messages_were_taken_waits_for_company_but_not_for_long():
    session = session_with_peer()
    session.receive(framed(b"x"))
    session.take(1.0)
    assert session.next_deadline() == 1.02
    assert session.to_send(1000, 1.01) == b""
    assert session.to_send(1000, 1.02) == Taken(1).encode()
    session.receive(framed(b"y"))
    session.take(2.0)
    session.put(b"company")
    assert session.to_send(1000, 2.0) == Taken(2).encode() + framed(b"company")


def test_a_quarter_of_a_window_is_told_at_once():
    session = session_with_peer()
    session.receive(framed(bytes(30)))
    session.take(1.0)
    assert session.to_send(1000, 1.0) == Taken(1).encode()


def test_frames_come_back_however_the_bytes_are_cut():
    data = hello() + framed(b"x" * 40) + Taken(7).encode() + framed(b"") + Close("gut, dann: tschüß").encode()
    whole = list(FrameReader(40).feed(data))
    assert len(whole) == 5
    for size in range(1, 30):
        reader = FrameReader(40)
        cut = [data[at : at + size] for at in range(0, len(data), size)]
        assert [frame for part in cut for frame in reader.feed(part)] == whole
