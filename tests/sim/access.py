"""Building what lies between a host and the internet."""

from __future__ import annotations

from collections.abc import Sequence

from sim.nat import Firewall, Nat, NatKind
from sim.network import Impairments, Realm


class Addresses:
    """Hands out addresses: public ones, and private ones that repeat from home to home as they do in life."""

    def __init__(self) -> None:
        self._public = 0

    def public(self) -> str:
        self._public += 1
        return f"198.51.{self._public // 200}.{self._public % 200 + 1}"


class Subscribers(Addresses):
    """What a carrier hands out: addresses of its own realm."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def public(self) -> str:
        self._public += 1
        return f"{self._prefix}{self._public}"


def build_access(
    kinds: Sequence[NatKind], internet: Realm, addresses: Addresses, host: str = "192.168.1.10"
) -> tuple[Realm, str]:
    """The realm that a host behind these boxes attaches to, and the address that it gets there.

    `kinds` has the box nearest to the host first. A firewall leaves the host its public address. `internet`
    may be the inside of a carrier's NAT.
    """
    outside = internet
    for number, kind in enumerate(reversed(kinds)):
        is_innermost = number == len(kinds) - 1
        inside = Realm(internet.world, Impairments())
        if not kind.translates:
            protected = addresses.public()
            Firewall(kind, inside, outside, protected)
            return inside, protected
        external = addresses.public() if outside is internet else f"10.{number}.0.2"
        Nat(kind, inside, outside, external)
        if is_innermost:
            return inside, host
        outside = inside
    return internet, addresses.public()
