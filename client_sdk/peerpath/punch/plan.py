"""PunchPlan: what two peers tell each other before they punch through a hard NAT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

from stunwire import TransportAddress

from peerpath.nat.behaviour import Dependence, NatBehaviour
from peerpath.predict.pattern import Pattern, PortPattern, pattern_of
from peerpath.predict.sampling import Sampled
from peerpath.punch.limits import PunchLimits

VERSION = 1

_MAX_PORTS = 32
_MAX_SOCKETS, _MAX_PROBES = 4096, 65536
_MAX_ROUND_TRIP = 10.0


class PlanError(ValueError):
    """A document of the peer that is no plan; the message says which part."""


@dataclass(frozen=True, slots=True)
class PunchPlan:
    """One side's NAT as it was a moment ago."""

    host: str | None
    """The public address; None where no server could be asked."""
    mapping: Dependence
    port: int | None = None
    """Of the socket that this side will send from, if its mapping is endpoint-independent."""
    ports: tuple[int, ...] = ()
    """External ports in the order in which they were given out, if it is not."""
    sockets: int = 256
    """How many this side opens at most."""
    probes: int = 2048
    """Guesses that it makes at most."""
    rate: float = 150.0
    """Packets a second that it sends at most."""
    round_trip: float | None = None
    """Seconds from this side to the nearest server and back."""
    reason: str = ""
    """Why this side can't take part; empty if it can."""

    @classmethod
    def made_of(
        cls, sampled: Sampled | None, behaviour: NatBehaviour | None, limits: PunchLimits
    ) -> PunchPlan:
        """From samples, None where there was no server for them, and what else is known of the NAT."""
        ours = cls(
            None,
            Dependence.UNKNOWN,
            sockets=limits.sockets,
            probes=limits.probes,
            rate=limits.rate,
        )
        if sampled is None:
            return replace(ours, reason="no STUN server of this family is known")
        if not sampled.samples:
            return replace(ours, reason="no STUN server answered")
        mapping = sampled.mapping
        if mapping is Dependence.UNKNOWN and behaviour is not None:
            mapping = behaviour.mapping
        is_easy = mapping is Dependence.ENDPOINT_INDEPENDENT
        return replace(
            ours,
            host=sampled.samples[-1].mapped.host,
            mapping=mapping,
            port=sampled.samples[0].mapped.port if is_easy else None,
            ports=() if is_easy else sampled.ports,
            round_trip=sampled.round_trip,
        )

    @property
    def address(self) -> TransportAddress | None:
        """Where this side is reached whoever sends, once it has sent there: that of an easy NAT."""
        if self.host is None or self.port is None or self.mapping is not Dependence.ENDPOINT_INDEPENDENT:
            return None
        return TransportAddress(self.host, self.port)

    @property
    def is_easy(self) -> bool:
        return self.address is not None

    @property
    def pattern(self) -> PortPattern:
        return PortPattern(Pattern.CONSTANT) if self.is_easy else pattern_of(self.ports)

    def as_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "host": self.host,
            "mapping": self.mapping.value,
            "port": self.port,
            "ports": list(self.ports),
            "sockets": self.sockets,
            "probes": self.probes,
            "rate": self.rate,
            "roundTrip": self.round_trip,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, document: object) -> PunchPlan:
        """The inverse; what is not known is ignored. PlanError names the part that is missing or wrong."""
        if not isinstance(document, Mapping):
            raise PlanError("plan: an object is wanted")
        if document.get("version") != VERSION:
            raise PlanError(f"version: {VERSION} is the only one that is known here")
        try:
            mapping = Dependence(document.get("mapping"))  # type: ignore[arg-type]
        except ValueError:
            raise PlanError("mapping: this is no word of RFC 4787") from None
        ports = document.get("ports", [])
        if not isinstance(ports, list) or len(ports) > _MAX_PORTS:
            raise PlanError(f"ports: a list of {_MAX_PORTS} at most is wanted")
        round_trip, reason = document.get("roundTrip"), document.get("reason", "")
        return cls(
            _host(document.get("host")),
            mapping,
            None if document.get("port") is None else _whole("port", document["port"], 1, 65535),
            tuple(_whole("ports", port, 1, 65535) for port in ports),
            _whole("sockets", document.get("sockets"), 1, _MAX_SOCKETS),
            _whole("probes", document.get("probes"), 1, _MAX_PROBES),
            _number("rate", document.get("rate"), 1, 10_000),
            None if round_trip is None else _number("roundTrip", round_trip, 0, _MAX_ROUND_TRIP),
            reason[:200] if isinstance(reason, str) else "",
        )


def _host(value: object) -> str | None:
    if value is None:
        return None
    try:
        return str(ip_address(value)) if isinstance(value, str) else _refuse_host()
    except ValueError:
        return _refuse_host()


def _refuse_host() -> str:
    raise PlanError("host: a numeric address is wanted")


def _whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise PlanError(f"{name}: a whole number from {low} to {high} is wanted")
    return value


def _number(name: str, value: object, low: float, high: float) -> float:
    # A NaN is in no range.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise PlanError(f"{name}: a number from {low:g} to {high:g} is wanted")
    return float(value)
