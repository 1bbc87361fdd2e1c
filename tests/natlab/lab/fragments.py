"""Fragments through a box that looks at ports: only the first fragment has them, the others do as it did."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from .packets import adjust, difference

LIFETIME = 5.0  # seconds for which the fragments of one packet are waited for
MOST_PACKETS = 256  # in pieces at one time
MOST_HELD = 64  # fragments that came before the first one of their packet


@dataclasses.dataclass
class Pieces:
    """The fragments of one packet."""

    expires_at: float
    held: list[bytearray] = dataclasses.field(default_factory=list)
    decided: bool = False
    side: str | None = None  # None once decided: the first one was dropped
    addresses: bytes = b""


class FragmentTracker:
    """RFC 4787 REQ-14: fragments are passed, in whichever order they come."""

    def __init__(self) -> None:
        self._packets: dict[bytes, Pieces] = {}

    def pass_on(
        self,
        packet: bytearray,
        now: float,
        decide: Callable[[bytearray, float], list[tuple[str, bytearray]]],
    ) -> list[tuple[str, bytearray]]:
        """`decide` gets the first fragment, which holds the ports; the rest gets the same addresses."""
        # RFC 791: these four tell the packets of one host apart.
        key = bytes(packet[12:20] + packet[4:6] + packet[9:10])
        pieces = self._packets.get(key)
        if pieces is None or pieces.expires_at <= now:
            self._make_room(now)
            pieces = self._packets[key] = Pieces(now + LIFETIME)
        if packet[6] & 0x1F or packet[7]:  # not the first one
            if not pieces.decided:
                if len(pieces.held) < MOST_HELD:
                    pieces.held.append(packet)
                return []
            return self._follow(pieces, packet)
        emissions = decide(packet, now)
        pieces.decided = True
        if emissions:
            pieces.side, first = emissions[0]
            pieces.addresses = bytes(first[12:20])
        for held in pieces.held:
            emissions += self._follow(pieces, held)
        pieces.held.clear()
        return emissions

    @staticmethod
    def _follow(pieces: Pieces, packet: bytearray) -> list[tuple[str, bytearray]]:
        if pieces.side is None:
            return []
        adjust(packet, 10, difference(bytes(packet[12:20]), pieces.addresses))
        packet[12:20] = pieces.addresses
        return [(pieces.side, packet)]

    def _make_room(self, now: float) -> None:
        for key in [key for key, pieces in self._packets.items() if pieces.expires_at <= now]:
            del self._packets[key]
        while len(self._packets) >= MOST_PACKETS:
            del self._packets[next(iter(self._packets))]
