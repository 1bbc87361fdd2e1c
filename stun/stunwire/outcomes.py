"""TraversalOutcome: how one attempt to reach a peer ended, as an SDK reports it and a relay counts it.

The initiator alone reports, so that an attempt counts once. A record holds classes and a duration: no
addresses, no keys, no names, no free text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations_with_replacement
from typing import Any, TypeVar

from stunwire.errors import DecodeError

OUTCOME_VERSION = 1
"""The version of the record's form; another one is refused."""
MAX_OUTCOME_SIZE = 4096
"""Bytes of a record as JSON at most; the longest valid one takes less."""
MAX_DURATION_MS = 3_600_000


class Outcome(StrEnum):
    """How an attempt ended, or one method within it."""

    CONNECTED = "connected"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """The application gave up first; for one method: another one was there before it was done.

    It says nothing of the network, so success rates leave it out.
    """


class TraversalMethod(StrEnum):
    """How a path was made. Where the two ends differ, what it took: relayed before reflexive before host."""

    HOST = "host"
    SRFLX = "srflx"
    PRFLX = "prflx"
    PORTMAP = "portmap"
    """A port mapping asked of the router: PCP, NAT-PMP or UPnP."""
    PREDICTED = "predicted"
    """A guessed port of a symmetric NAT, by sequence or by birthday."""
    TCP = "tcp"
    """ICE-TCP (RFC 6544) without a relay."""
    RELAY_UDP = "relay_udp"
    RELAY_TCP = "relay_tcp"
    RELAY_TLS = "relay_tls"
    RELAY_DTLS = "relay_dtls"
    TCP_RELAY = "tcp_relay"
    """A relay that meets the peer over TCP (RFC 6062), whatever carries the way to it."""
    HTTP = "http"
    """TURN over WebSocket."""
    PROXY = "proxy"
    """A relay reached through an HTTP or SOCKS5 proxy."""
    ONION = "onion"
    NONE = "none"
    """No path: the attempt did not connect."""


class PathFamily(StrEnum):
    """The address family of the selected pair; of a relayed one, that of the relayed address."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"
    NONE = "none"
    """No path, or one that shows no addresses (onion)."""


class NatClass(StrEnum):
    """What a NAT lets a peer do. Five classes, so 15 pairs; `of_nat_type` maps the eight types onto them."""

    OPEN = "open"
    """No NAT, or one whose mapping and filtering depend on nobody: anybody reaches what it tells."""
    RESTRICTED = "restricted"
    """The same mapping for everybody, but only those get in who were sent to."""
    SYMMETRIC = "symmetric"
    """A mapping for each peer, so its address cannot be told beforehand."""
    BLOCKED = "blocked"
    """No UDP passes."""
    UNKNOWN = "unknown"

    @classmethod
    def of_nat_type(cls, nat_type: str) -> NatClass:
        """The class of a NAT type by its name ("full_cone", "port_restricted"); ValueError for others."""
        try:
            return _CLASS_OF_NAT_TYPE[nat_type]
        except KeyError:
            choices = ", ".join(_CLASS_OF_NAT_TYPE)
            raise ValueError(f"{nat_type!r} is no NAT type: use one of {choices}") from None


_CLASS_OF_NAT_TYPE = {
    "open_internet": NatClass.OPEN,
    "full_cone": NatClass.OPEN,
    "firewall": NatClass.RESTRICTED,
    "address_restricted": NatClass.RESTRICTED,
    "port_restricted": NatClass.RESTRICTED,
    "symmetric": NatClass.SYMMETRIC,
    "blocked": NatClass.BLOCKED,
    "unknown": NatClass.UNKNOWN,
}


def nat_pair(one: NatClass, other: NatClass) -> str:
    """The unordered pair, in the order of the classes: ("symmetric", "open") is "open-symmetric"."""
    first, second = sorted((one, other), key=list(NatClass).index)
    return f"{first}-{second}"


NAT_PAIRS = tuple(nat_pair(one, other) for one, other in combinations_with_replacement(NatClass, 2))
"""The 15 values of `nat_pair`."""


@dataclass(frozen=True, slots=True)
class MethodAttempt:
    """One method that was tried, and how that ended."""

    method: TraversalMethod
    outcome: Outcome
    family: PathFamily = PathFamily.NONE
    """Of the addresses tried; NONE where the families were not told apart."""


@dataclass(frozen=True, slots=True)
class TraversalOutcome:
    """The record. ValueError, naming the field, for one that contradicts itself."""

    outcome: Outcome
    method: TraversalMethod
    """Of the path in use when the attempt counted as connected; NONE for any other outcome."""
    family: PathFamily
    duration_ms: int
    """From the call to the outcome, in milliseconds."""
    nat: NatClass = NatClass.UNKNOWN
    """The initiator's own."""
    peer_nat: NatClass = NatClass.UNKNOWN
    attempts: tuple[MethodAttempt, ...] = field(default=())
    """What was tried, in any order, each method once a family. Holds the method of the path as CONNECTED."""

    def __post_init__(self) -> None:
        fault = _contradiction(self)
        if fault is not None:
            raise ValueError(": ".join(fault))

    @property
    def nat_pair(self) -> str:
        """One of NAT_PAIRS."""
        return nat_pair(self.nat, self.peer_nat)

    def as_json(self) -> str:
        """Compact JSON; `from_json` reads it."""
        record = {
            "version": OUTCOME_VERSION,
            "outcome": self.outcome,
            "method": self.method,
            "family": self.family,
            "duration_ms": self.duration_ms,
            "nat": self.nat,
            "peer_nat": self.peer_nat,
            "attempts": [
                {"method": tried.method, "outcome": tried.outcome, "family": tried.family}
                for tried in self.attempts
            ],
        }
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> TraversalOutcome:
        """Reads a record; DecodeError, whose `place` is the field, for anything but a valid one."""
        if len(text) > MAX_OUTCOME_SIZE:
            raise DecodeError("record", f"longer than {MAX_OUTCOME_SIZE} bytes")
        try:
            value = json.loads(text, object_pairs_hook=_unique)
        except DecodeError:
            raise
        except (ValueError, RecursionError):
            raise DecodeError("record", "not JSON") from None
        record = _fields(value, _RECORD, "record")
        version = record["version"]
        if type(version) is not int or version != OUTCOME_VERSION:
            raise DecodeError("version", f"must be {OUTCOME_VERSION}")
        attempts = record["attempts"]
        if not isinstance(attempts, list):
            raise DecodeError("attempts", "must be a list")
        members = {
            "outcome": _member(Outcome, record["outcome"], "outcome"),
            "method": _member(TraversalMethod, record["method"], "method"),
            "family": _member(PathFamily, record["family"], "family"),
            "duration_ms": record["duration_ms"],
            "nat": _member(NatClass, record["nat"], "nat"),
            "peer_nat": _member(NatClass, record["peer_nat"], "peer_nat"),
            "attempts": tuple(_attempt(item) for item in attempts),
        }
        try:
            return cls(**members)
        except ValueError as error:
            place, _, reason = str(error).partition(": ")
            raise DecodeError(place, reason) from None


_RECORD = frozenset(
    ("version", "outcome", "method", "family", "duration_ms", "nat", "peer_nat", "attempts"),
)
_ATTEMPT = frozenset(("method", "outcome", "family"))

_Member = TypeVar("_Member", bound=StrEnum)


def _contradiction(record: TraversalOutcome) -> tuple[str, str] | None:
    """The field that cannot be, and why."""
    connected = record.outcome is Outcome.CONNECTED
    if type(record.duration_ms) is not int or not 0 <= record.duration_ms <= MAX_DURATION_MS:
        return "duration_ms", f"must be a whole number from 0 to {MAX_DURATION_MS}"
    if connected is (record.method is TraversalMethod.NONE):
        return "method", "must be none, and only then, when the outcome is not connected"
    if not connected and record.family is not PathFamily.NONE:
        return "family", "must be none when the outcome is not connected"
    tries = [(tried.method, tried.family) for tried in record.attempts]
    if any(method is TraversalMethod.NONE for method, _ in tries):
        return "attempts", "none is no method to try"
    if len(set(tries)) != len(tries):
        return "attempts", "names a method twice for one family"
    succeeded = {tried.method for tried in record.attempts if tried.outcome is Outcome.CONNECTED}
    if connected and record.method not in succeeded:
        return "attempts", "must hold the method that connected, as connected"
    return None


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise DecodeError("record", "names a field twice")
    return fields


def _fields(value: object, names: frozenset[str], place: str) -> dict[str, Any]:
    """An object with exactly these fields. What is unknown is not quoted: it may be anything."""
    if not isinstance(value, dict):
        raise DecodeError(place, "must be an object")
    missing = names - value.keys()
    if missing:
        raise DecodeError(min(missing), "is missing")
    if value.keys() != names:
        raise DecodeError(place, f"has a field that is none of {', '.join(sorted(names))}")
    return value


def _member(enum: type[_Member], value: object, place: str) -> _Member:
    if isinstance(value, str) and value in enum.__members__.values():
        return enum(value)
    raise DecodeError(place, f"must be one of {', '.join(enum)}")


def _attempt(value: object) -> MethodAttempt:
    tried = _fields(value, _ATTEMPT, "attempts")
    return MethodAttempt(
        _member(TraversalMethod, tried["method"], "attempts.method"),
        _member(Outcome, tried["outcome"], "attempts.outcome"),
        _member(PathFamily, tried["family"], "attempts.family"),
    )
