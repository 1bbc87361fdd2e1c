"""EarlyPackets: packets of the link that travel by signaling, as long as there is no path.

The handshake takes two round trips. Begun with the offer, it is over by the time a path is found, and the
first message leaves at once. What signaling carries is sealed, and the link trusts it as little as any path.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

MAX_PACKETS = 12
"""Of one side, in one attempt: a handshake takes two to four, the rest is for those that get lost."""
_MAX_AT_ONCE = 4
_MAX_BYTES = 1500


class EarlyPackets:
    """Those that wait for the next message."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._left = MAX_PACKETS

    def add(self, packet: bytes) -> bool:
        """Whether it will go; if not it is lost, as any packet may be."""
        if not self._left or len(self._waiting) >= _MAX_AT_ONCE:
            return False
        self._left -= 1
        self._waiting.append(packet)
        return True

    def take(self) -> dict[str, Any]:
        """For the body of a message."""
        waiting, self._waiting = self._waiting, []
        return {"link": [base64.b64encode(packet).decode() for packet in waiting]} if waiting else {}

    def __bool__(self) -> bool:
        return bool(self._waiting)


def packets_of(body: Mapping[str, Any]) -> list[bytes]:
    """The packets that came with a message; what is none is left out, as the link would."""
    texts = body.get("link", [])
    if not isinstance(texts, list):
        return []
    packets = []
    for text in texts[:_MAX_AT_ONCE]:
        try:
            packets.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError, TypeError):
            continue
    return [packet for packet in packets if 0 < len(packet) <= _MAX_BYTES]
