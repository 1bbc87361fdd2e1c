"""What supervisor and worker tell each other arrives whole, in order, with its descriptors, or not at all."""

import asyncio
import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from turnrelay.workers.channel import Channel
from turnrelay.workers.messages import (
    HEADER,
    VERSION,
    ChannelError,
    Decoder,
    Figures,
    Message,
    Ready,
    Serve,
    Stop,
    Unfit,
    encode,
)


class End:
    """One end, and what came to it."""

    def __init__(self, sock: socket.socket) -> None:
        self.messages: list[Message] = []
        self.descriptors: list[int] = []
        self.lost = asyncio.Event()
        self.channel = Channel(asyncio.get_running_loop(), sock, self._receive, self.lost.set)

    def _receive(self, message: Message, descriptors: list[int]) -> None:
        self.messages.append(message)
        self.descriptors += descriptors

    async def has(self, number: int) -> list[Message]:
        async with asyncio.timeout(10):
            while len(self.messages) < number:
                await asyncio.sleep(0.001)
        return self.messages


def _pair() -> tuple[End, End]:
    ours, theirs = socket.socketpair()
    return End(ours), End(theirs)


@given(st.text(), st.lists(st.integers(1, 40)))
def test_messages_are_found_however_the_stream_is_cut(reason, sizes):
    messages: list[Message] = [Unfit(reason), Stop(), Ready(7), Figures([["a", "b", [["c", "d"]], 1.5]])]
    stream, decoder, found = b"".join(encode(each) for each in messages), Decoder(), []
    for size in (*sizes, len(stream)):
        found += decoder.feed(stream[:size])
        stream = stream[size:]
    assert found == [(each, 0) for each in messages]


def _frame(body: object, version: int = VERSION) -> bytes:
    text = json.dumps(body).encode()
    return HEADER.pack(len(text), version, 0) + text


@pytest.mark.parametrize(
    "frame",
    [
        _frame(["Stop", {}], version=VERSION + 1),
        _frame(["Unheard", {}]),
        _frame(["Ready", {}]),
        _frame(["Ready", {"pid": 1, "more": 2}]),
        _frame(["Ready", 1]),
        _frame("Ready"),
        HEADER.pack(2, VERSION, 0) + b"{]",
        HEADER.pack(2**32 - 1, VERSION, 0),
    ],
)
def test_what_is_no_message_is_an_error(frame):
    with pytest.raises(ChannelError):
        Decoder().feed(frame)


async def test_descriptors_stay_with_their_message():
    ours, theirs = _pair()
    sockets = [socket.socket() for _ in range(3)]
    for number, sock in enumerate(sockets):
        sock.bind(("127.0.0.1", 0))
        ours.channel.send(Serve([["udp", "127.0.0.1", number]], []), [sock])
        ours.channel.send(Stop())
    await theirs.has(6)
    got = [socket.socket(fileno=descriptor) for descriptor in theirs.descriptors]
    assert [sock.getsockname() for sock in got] == [sock.getsockname() for sock in sockets]
    for each in (*got, *sockets):
        each.close()
    ours.channel.close()
    theirs.channel.close()


async def test_more_than_the_socket_holds_waits_and_keeps_its_order():
    ours, theirs = _pair()
    for number in range(50):
        ours.channel.send(Unfit(f"{number}" + "x" * 100_000))
    received = [message.reason.rstrip("x") for message in await theirs.has(50) if isinstance(message, Unfit)]
    assert received == [str(number) for number in range(50)]
    ours.channel.close()
    async with asyncio.timeout(10):
        await theirs.lost.wait()


async def test_the_other_side_is_lost_when_it_says_what_is_no_message():
    ours, theirs = socket.socketpair()
    end = End(ours)
    theirs.sendall(_frame(["Unheard", {}]))
    async with asyncio.timeout(10):
        await end.lost.wait()
    assert theirs.recv(10) == b""
    theirs.close()


async def test_one_who_never_reads_is_given_up():
    ours, theirs = socket.socketpair()
    end = End(ours)
    for _ in range(50):
        end.channel.send(Unfit("x" * 1_000_000))
    async with asyncio.timeout(10):
        await end.lost.wait()
    theirs.close()
