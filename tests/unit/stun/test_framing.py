"""Frames out of streams: the same whatever the cuts, errors at once, buffers bounded, time linear."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stunwire import (
    DATA,
    DecodeError,
    Message,
    MessageClass,
    Method,
    Rfc4571Framer,
    StreamFramer,
    encode_channel_data,
    frame_rfc4571,
)

STUN = Message(MessageClass.INDICATION, Method.SEND).add(DATA, b"hello").encode()

stun_frames = st.binary(max_size=60).map(
    lambda data: Message(MessageClass.INDICATION, Method.SEND).add(DATA, data).encode()
)
channel_frames = st.builds(encode_channel_data, st.integers(0x4000, 0x4FFF), st.binary(max_size=60))
frames = st.lists(st.one_of(stun_frames, channel_frames), max_size=8)


def padded(frame: bytes) -> bytes:
    return frame + bytes(-len(frame) % 4)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[low:high] for low, high in pairwise(edges)]


def feed(framer, parts):
    """Every frame, and whether the stream failed."""
    received = []
    try:
        for part in parts:
            received += framer.feed(part)
        received += framer.feed(b"")
    except DecodeError:
        return received, True
    return received, False


class TestStreamFramer:
    @given(frames, st.lists(st.integers(0, 1 << 16), max_size=20))
    def test_frames_do_not_depend_on_cuts(self, sent, cuts):
        stream = b"".join(map(padded, sent))
        assert feed(StreamFramer(), pieces(stream, cuts)) == (sent, False)

    @given(frames, st.binary(max_size=40), st.lists(st.integers(0, 1 << 16), max_size=20))
    def test_neither_do_failures(self, sent, garbage, cuts):
        stream = b"".join(map(padded, sent)) + garbage
        whole = feed(StreamFramer(), [stream])
        assert feed(StreamFramer(), pieces(stream, cuts)) == whole
        assert feed(StreamFramer(), [stream[i : i + 1] for i in range(len(stream))]) == whole
        assert whole[0][: len(sent)] == sent

    def test_padding_is_waited_for_and_stripped(self):
        framer = StreamFramer()
        frame = encode_channel_data(0x4000, b"abcde")
        assert framer.feed(frame) == []
        assert framer.feed(b"\xff\xff") == []
        assert framer.feed(b"\xff" + STUN) == [frame, STUN]

    def test_any_buffer(self):
        for container in (bytearray, memoryview):
            framer = StreamFramer()
            assert framer.feed(container(STUN[:7])) == []
            [frame] = framer.feed(container(STUN[7:]))
            assert frame == STUN
            assert type(frame) is bytes

    def test_caller_may_reuse_its_buffer(self):
        framer, buffer = StreamFramer(), bytearray(STUN[:10])
        framer.feed(buffer)
        buffer[:] = bytes(10)
        assert framer.feed(STUN[10:]) == [STUN]

    @pytest.mark.parametrize(
        "beginning",
        [
            b"\x80",
            b"\xff",
            b"G" + b"ET ",  # 0x47 is a channel; the text runs on as its length
            b"\x16\x03\x01\x02",  # TLS on the plain port: length 0x0102 is no multiple of 4
            b"\x00\x01\x00\x01",
            b"\x00\x01\x00\x00\x22",
            b"\x00\x01\x00\x00\x21\x13",
            b"\x00\x01\x00\x00\x21\x12\xa4\x43",
        ],
    )
    def test_failure_comes_with_the_first_impossible_byte(self, beginning):
        framer = StreamFramer()
        assert framer.feed(beginning[:-1]) == []
        if beginning.startswith(b"G"):
            assert framer.feed(beginning[-1:]) == []
            return
        with pytest.raises(DecodeError, match="stream") as caught:
            framer.feed(beginning[-1:])
        assert caught.value.header is None
        with pytest.raises(DecodeError):
            framer.feed(STUN)

    @pytest.mark.parametrize("channel", [0x4000, 0x4FFF, 0x5000, 0x7FFF])
    def test_channels_of_rfc_5766_are_framed(self, channel):
        # Whether they may be bound is for the server to say.
        frame = channel.to_bytes(2, "big") + b"\0\3abc"
        assert StreamFramer().feed(frame + b"\0" + STUN) == [frame, STUN]

    def test_good_frames_before_a_failure_are_not_lost(self):
        framer = StreamFramer()
        assert not framer.failed
        assert framer.feed(STUN + b"\xff") == [STUN]
        assert framer.failed
        with pytest.raises(DecodeError):
            framer.feed(b"")

    def test_largest_frames(self):
        for frame in (
            Message(MessageClass.INDICATION, Method.SEND).add(DATA, bytes(65_528)).encode(),
            encode_channel_data(0x4000, bytes(65_535)),
        ):
            stream = padded(frame) * 2
            assert feed(StreamFramer(), pieces(stream, [1, 3, 70_000, 90_000])) == ([frame, frame], False)

    @pytest.mark.parametrize("step", [1, 1 << 20])
    def test_linear_time(self, step):
        # 1 MB of tiny frames at once, and large frames byte by byte: a quadratic framer takes minutes.
        frame = encode_channel_data(0x4000, bytes(4) if step > 1 else bytes(65_532))
        stream = frame * ((1 << 20) // len(frame))
        framer, count, began = StreamFramer(), 0, time.perf_counter()
        for start in range(0, len(stream), step):
            count += len(framer.feed(stream[start : start + step]))
        assert count == len(stream) // len(frame)
        assert time.perf_counter() - began < 5


class TestRfc4571Framer:
    @given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(0, 1 << 16), max_size=20))
    def test_frames_do_not_depend_on_cuts(self, sent, cuts):
        stream = b"".join(map(frame_rfc4571, sent))
        assert feed(Rfc4571Framer(), pieces(stream, cuts)) == (sent, False)

    def test_null_packet(self):
        assert Rfc4571Framer().feed(b"\0\0\0\0") == [b"", b""]

    def test_exact_bytes(self):
        assert frame_rfc4571(b"abc") == b"\0\3abc"
        assert frame_rfc4571(memoryview(bytearray(b"abc"))) == b"\0\3abc"

    def test_largest(self):
        assert Rfc4571Framer().feed(frame_rfc4571(bytes(65_535))) == [bytes(65_535)]
        with pytest.raises(ValueError, match="65536 bytes"):
            frame_rfc4571(bytes(65_536))

    def test_linear_time(self):
        stream = frame_rfc4571(bytes(65_535)) * 8
        framer, count, began = Rfc4571Framer(), 0, time.perf_counter()
        for start in range(len(stream)):
            count += len(framer.feed(stream[start : start + 1]))
        assert count == 8
        assert time.perf_counter() - began < 5
