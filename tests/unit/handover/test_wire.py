"""Messages and descriptors arrive whole, in time, or not at all."""

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from turnrelay.handover.wire import HOLDINGS, OFFER, Wire, WireError, close_all


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_large_message_with_many_descriptors(ends):
    ours, theirs = map(Wire, ends)
    body = os.urandom(1 << 22)
    inode = os.fstat(0).st_ino
    sending = threading.Thread(target=ours.send, args=(HOLDINGS, body, [0] * 450), kwargs={"seconds": 10})
    sending.start()
    kind, received, descriptors = theirs.receive(seconds=10)
    sending.join()
    try:
        assert (kind, received) == (HOLDINGS, body)
        assert [os.fstat(descriptor).st_ino for descriptor in descriptors] == [inode] * 450
        assert not any(os.get_inheritable(descriptor) for descriptor in descriptors)
    finally:
        close_all(descriptors)


def test_messages_keep_their_order_and_descriptors(ends):
    ours, theirs = map(Wire, ends)
    ours.send(OFFER, b"one", [0, 0], seconds=5)
    ours.send(HOLDINGS, b"", seconds=5)
    kind, body, descriptors = theirs.receive(seconds=5)
    close_all(descriptors)
    assert (kind, body, len(descriptors)) == (OFFER, b"one", 2)
    assert theirs.receive(seconds=5) == (HOLDINGS, b"", [])


def test_what_was_said_last_is_heard_of_one_who_is_gone(ends):
    Wire(ends[0]).send(OFFER, b"last words", seconds=5)
    ends[0].close()
    theirs = Wire(ends[1])
    assert theirs.receive(seconds=5)[1] == b"last words"
    with pytest.raises(WireError, match="gone"):
        theirs.receive(seconds=5)
    with pytest.raises(WireError, match="gone"):
        theirs.send(OFFER, seconds=5)


def test_silence_ends_with_the_time_that_was_given(ends):
    began = time.monotonic()
    with pytest.raises(WireError, match="says nothing"):
        Wire(ends[1]).receive(seconds=0.2)
    assert time.monotonic() - began >= 0.2


def test_descriptors_of_a_message_that_breaks_off_are_closed(ends):
    before = open_descriptors()
    ours = Wire(ends[0])
    ours.send(OFFER, b"", [0] * 3, seconds=5)
    whole = ends[1].recv(16)
    ends[0].close()
    other, mine = socket.socketpair()
    with other, mine:
        other.sendall(whole[:12] + (5).to_bytes(4, "big"))
        socket.send_fds(other, [b"\0"], [0, 0, 0])
        other.close()
        with pytest.raises(WireError, match="gone"):
            Wire(mine).receive(seconds=5)
    assert open_descriptors() == before - 1, "the closed end of the first pair"


def test_what_is_no_message_is_refused(ends):
    ends[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(WireError, match="none of ours"):
        Wire(ends[1]).receive(seconds=5)
