"""ChannelData (RFC 8656 section 12.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stunwire import (
    MAX_CHANNEL,
    MIN_CHANNEL,
    ChannelData,
    DecodeError,
    decode_channel_data,
    encode_channel_data,
)

channels = st.integers(MIN_CHANNEL, MAX_CHANNEL)


def test_range():
    assert (MIN_CHANNEL, MAX_CHANNEL) == (0x4000, 0x4FFF)


@pytest.mark.parametrize(
    ("channel", "data", "pad", "expected"),
    [
        (0x4000, b"", False, "40000000"),
        (0x4000, b"", True, "40000000"),
        (0x4001, b"abcd", True, "4001000461626364"),
        (0x4FFF, b"abcde", False, "4fff00056162636465"),
        (0x4FFF, b"abcde", True, "4fff00056162636465000000"),
    ],
)
def test_exact_bytes(channel, data, pad, expected):
    assert encode_channel_data(channel, data, pad).hex() == expected
    assert decode_channel_data(bytes.fromhex(expected)) == ChannelData(channel, data)


@given(channels, st.binary(max_size=2000), st.booleans(), st.binary(max_size=9))
def test_round_trip_whatever_follows(channel, data, pad, trailing):
    # RFC 8656 section 12.5: padding over UDP is allowed, so bytes behind the data say nothing.
    received = decode_channel_data(encode_channel_data(channel, data, pad) + trailing)
    assert received == ChannelData(channel, data)


@given(channels, st.binary(max_size=100), st.data())
def test_cut_off_anywhere(channel, data, draw):
    whole = encode_channel_data(channel, data)
    cut = draw.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(DecodeError, match="ChannelData") as caught:
        decode_channel_data(whole[:cut])
    assert caught.value.header is None


@pytest.mark.parametrize("channel", [0, 0x0001, 0x3FFF, 0x5000, 0x7FFF, 0xFFFF])
def test_channels_outside_the_range(channel):
    with pytest.raises(DecodeError, match="outside"):
        decode_channel_data(channel.to_bytes(2, "big") + bytes(2))
    with pytest.raises(ValueError, match="outside") as caught:
        encode_channel_data(channel, b"")
    assert not isinstance(caught.value, DecodeError)


@pytest.mark.parametrize("container", [bytearray, memoryview])
def test_any_buffer(container):
    data = encode_channel_data(0x4000, container(b"abc"))
    received = decode_channel_data(container(data))
    assert received == ChannelData(0x4000, b"abc")
    assert type(received.data) is bytes


def test_largest():
    assert decode_channel_data(encode_channel_data(0x4000, bytes(65_535))).data == bytes(65_535)
    with pytest.raises(ValueError, match="65536 bytes"):
        encode_channel_data(0x4000, bytes(65_536))
