"""ChannelData, the four-byte framing of relayed data (RFC 8656 section 12.4)."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from stunwire.errors import DecodeError

# RFC 8656 section 12: 0x5000 to 0xFFFF are reserved, so that the first byte tells protocols apart.
MIN_CHANNEL = 0x4000
MAX_CHANNEL = 0x4FFF

MAX_CHANNEL_RFC5766 = 0x7FFF
"""The end of the range before RFC 8656 narrowed it. Clients in the field still choose from all of it."""

CHANNEL_HEADER = Struct("!HH")


class ChannelData(NamedTuple):
    """A channel number and the application data that came on it."""

    channel: int
    data: bytes


def encode_channel_data(channel: int, data: bytes | bytearray | memoryview, pad: bool = False) -> bytes:
    """The message for a datagram, or with `pad` for a stream (RFC 8656 section 12.5: a multiple of 4 bytes).

    ValueError for a channel outside 0x4000 to 0x4FFF and for more than 65,535 bytes.
    """
    if not MIN_CHANNEL <= channel <= MAX_CHANNEL:
        raise ValueError(f"channel {channel:#06x} is outside 0x4000 to 0x4FFF")
    size = len(data)
    if size > 0xFFFF:
        raise ValueError(f"{size} bytes, at most 65535 fit ChannelData")
    padding = bytes(-size & 3) if pad else b""
    return b"".join((CHANNEL_HEADER.pack(channel, size), data, padding))


def decode_channel_data(data: bytes | bytearray | memoryview) -> ChannelData:
    """The ChannelData in one datagram or stream frame; what follows its data is padding.

    DecodeError when it is cut off or its channel is outside 0x4000 to 0x4FFF.
    """
    if len(data) < CHANNEL_HEADER.size:
        raise DecodeError("ChannelData", f"{len(data)} bytes, its header takes {CHANNEL_HEADER.size}")
    channel, size = CHANNEL_HEADER.unpack_from(data)
    if not MIN_CHANNEL <= channel <= MAX_CHANNEL:
        raise DecodeError("ChannelData", f"channel {channel:#06x} is outside 0x4000 to 0x4FFF")
    end = CHANNEL_HEADER.size + size
    if end > len(data):
        raise DecodeError("ChannelData", f"length {size} reaches past {len(data)} bytes")
    return ChannelData(channel, bytes(data[CHANNEL_HEADER.size : end]))
