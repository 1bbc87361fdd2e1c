"""What a gateway tells all of its network when it has rebooted: an epoch, in either protocol's words.

A gateway that speaks both may announce itself in the newer one alone.
"""

from __future__ import annotations

import struct


def epoch_announced(data: bytes) -> int | None:
    """Seconds of the gateway's clock; None if this is no announcement."""
    if len(data) >= 24:
        # RFC 6887 section 14.1: a successful response to ANNOUNCE, which nobody has asked.
        version, opcode, result, epoch = struct.unpack_from("!BBxB4xI", data)
        return epoch if (version, opcode, result) == (2, 0x80, 0) else None
    if len(data) >= 12:
        # RFC 6886 section 3.2.1: a response to the question for the public address.
        version, opcode, result, epoch = struct.unpack_from("!BBHI", data)
        return epoch if (version, opcode, result) == (0, 128, 0) else None
    return None
