"""PathMtu: how large the packets of one path may be (RFC 8899, as RFC 9000 section 14.3 has it)."""

from __future__ import annotations

LARGEST_PAYLOAD = 1452
"""Bytes of UDP payload in an IPv6 packet of 1500 bytes."""
_SIZES = (LARGEST_PAYLOAD, 1392, 1332, 1272)
"""What is tried, the commonest first: Ethernet, and what tunnels leave of it."""
_TRIES = 3
"""Probes of one size that may be lost (RFC 8899 section 5.1.2, MAX_PROBES)."""
_BLACK_HOLE = 3
"""Losses in a row of packets larger than the base, none of which arrived, that say that none will."""


class PathMtu:
    """Tells which size to use and which to probe; is told what became of both. Bytes of UDP payload.

    It begins with `base`, which every path has to carry. What a path has refused is not tried again on it.
    """

    def __init__(self, base: int) -> None:
        self.base = self.size = base
        self._path = 0
        self._untried: list[int] = []
        self._tries = 0
        self._is_probing = False
        self._losses = 0

    def begin(self, largest: int) -> None:
        """Another path, which may carry up to `largest`: nothing is known of it."""
        self.size = self.base
        self._path += 1
        self._untried = [size for size in _SIZES if self.base < size <= largest]
        self._tries = self._losses = 0
        self._is_probing = False

    @property
    def wanted(self) -> int | None:
        """The size of a probe that may leave now; None while one is under way, and at the end."""
        return None if self._is_probing or not self._untried else self._untried[0]

    def probe(self) -> tuple[int, int]:
        """A probe of the `wanted` size leaves: what to hand to `probed` when its fate is known."""
        self._is_probing = True
        return self._path, self._untried[0]

    def probed(self, path: int, size: int, arrived: bool) -> None:
        """A probe arrived, or is lost."""
        if path != self._path or not self._is_probing:
            return
        self._is_probing = False
        if arrived:
            self.size, self._untried = size, []
            return
        self._tries += 1
        if self._tries == _TRIES:
            self._tries = 0
            del self._untried[0]

    def arrived(self) -> None:
        """A packet larger than the base arrived."""
        self._losses = 0

    def lost(self) -> None:
        """Packets larger than the base were lost, those that were sent together at once.

        The path may have changed where nobody sees it, and carry them no more (RFC 8899 section 4.3).
        """
        self._losses += 1
        if self._losses == _BLACK_HOLE:
            self.size = self.base
