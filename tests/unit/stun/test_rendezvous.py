"""Frames of the rendezvous protocol."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stunwire import DecodeError
from stunwire.rendezvous import (
    MAX_FRAME_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_NUMBER,
    Challenge,
    From,
    Register,
    Registered,
    Result,
    ResultOf,
    To,
    decode_from_client,
    decode_from_server,
    registration_transcript,
)

KEY = bytes(range(32))
FROM_SERVER = [
    Challenge(bytes(32)),
    Registered(b"deviceid"),
    From(KEY, b"m"),
    From(KEY, bytes(MAX_MESSAGE_BYTES)),
    *(ResultOf(MAX_NUMBER, result) for result in Result),
]
FROM_CLIENT = [Register(KEY, bytes(64)), To(0, KEY, b"m"), To(MAX_NUMBER, KEY, bytes(MAX_MESSAGE_BYTES))]


def test_frames_come_back_from_their_bytes():
    assert [decode_from_server(frame.encode()) for frame in FROM_SERVER] == FROM_SERVER
    assert [decode_from_client(frame.encode()) for frame in FROM_CLIENT] == FROM_CLIENT


def test_the_bytes_are_those_that_are_documented():
    assert To(7, KEY, b"hi").encode() == b"\x12\x00\x00\x00\x07" + KEY + b"hi"
    assert ResultOf(7, Result.ABSENT).encode() == b"\x04\x00\x00\x00\x07\x01"
    assert From(KEY, b"hi").encode() == b"\x03" + KEY + b"hi"
    transcript = registration_transcript(bytes(32), "Relay.Example:8443")
    assert transcript == b"turnrelay rendezvous 1 registration\0" + bytes(32) + b"\x00\x12relay.example:8443"


def test_the_longest_frame_has_the_size_that_servers_read():
    assert len(To(0, KEY, bytes(MAX_MESSAGE_BYTES)).encode()) == MAX_FRAME_BYTES


@pytest.mark.parametrize("frame", [*FROM_SERVER, *FROM_CLIENT], ids=lambda frame: type(frame).__name__)
def test_one_side_does_not_take_what_only_the_other_says(frame):
    decode = decode_from_client if frame in FROM_SERVER else decode_from_server
    with pytest.raises(DecodeError, match="of type"):
        decode(frame.encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x11" + bytes(95),
        b"\x11" + bytes(97),
        b"\x12" + bytes(36),
        To(0, KEY, bytes(MAX_MESSAGE_BYTES)).encode() + b"x",
    ],
)
def test_frames_of_a_wrong_length_are_refused(data):
    with pytest.raises(DecodeError):
        decode_from_client(data)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_frame_or_a_decode_error(data):
    for decode in (decode_from_client, decode_from_server):
        try:
            frame = decode(data)
        except DecodeError:
            continue
        assert frame.encode() == data
