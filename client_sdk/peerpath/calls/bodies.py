"""What the sealed messages of one attempt say: JSON objects, read strictly.

| kind | by | says |
|---|---|---|
| offer | dialer | the connection's session, the first route |
| answer | listener | its side of the first route |
| candidates | both | more candidates of a route, perhaps the last ones |
| refuse | listener | why there will be no connection, whether there may be one later, or whether it failed |
| restart | dialer | a further route: an ICE restart with sockets of its own |
| restarted | listener | its side of it |
| please-restart | listener | that it has no path any more |
| punch | both | how its NAT maps just now, for punching: see peerpath.punch.plan |
| link | both | nothing more; as any other, it may carry packets of the link |
| bye | both | that the dialer has given the attempt up, or that the listener's link is gone |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from peerpath.errors import PeerpathError
from peerpath.ice.candidate import Candidate
from peerpath.ice.credentials import Credentials
from peerpath.ice.description import Description
from peerpath.ice.sdp import SdpError, format_candidate, parse_candidate
from peerpath.nat.behaviour import NatType

MAX_CANDIDATES = 100
MAX_ROUTES = 10_000
MAX_REASON = 200

_SESSION = re.compile(r"[0-9a-f]{32}")


class BodyError(PeerpathError):
    """The peer said something that makes no sense; the message says what."""


class Kind(StrEnum):
    OFFER = "offer"
    ANSWER = "answer"
    CANDIDATES = "candidates"
    REFUSE = "refuse"
    RESTART = "restart"
    RESTARTED = "restarted"
    PLEASE_RESTART = "please-restart"
    PUNCH = "punch"
    LINK = "link"
    BYE = "bye"


@dataclass(frozen=True, slots=True)
class RouteBody:
    """One side of a route: of an offer, an answer, a restart or its answer."""

    route: int
    """Counts the routes of one attempt, from 0."""
    description: Description
    nat: NatType = NatType.UNKNOWN

    def as_json(self) -> dict[str, Any]:
        description = self.description
        return {
            "route": self.route,
            "ufrag": description.credentials.ufrag,
            "password": description.credentials.password,
            "options": sorted(description.options),
            "candidates": [format_candidate(candidate) for candidate in description.candidates],
            "complete": description.end_of_candidates,
            "nat": self.nat.value,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> RouteBody:
        options = body.get("options", [])
        if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
            raise BodyError("options: a list of strings is wanted")
        try:
            credentials = Credentials(_text(body, "ufrag"), _text(body, "password"))
        except ValueError as error:
            raise BodyError(f"ICE credentials: {error}") from None
        description = Description(
            credentials,
            _candidates(body),
            False,
            frozenset(options),
            body.get("complete") is True,
        )
        try:
            nat = NatType(body.get("nat", "unknown"))
        except ValueError:
            nat = NatType.UNKNOWN  # a class that this version does not know
        return cls(_route(body), description, nat)


@dataclass(frozen=True, slots=True)
class CandidatesBody:
    route: int
    candidates: tuple[Candidate, ...]
    complete: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "route": self.route,
            "candidates": [format_candidate(candidate) for candidate in self.candidates],
            "complete": self.complete,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> CandidatesBody:
        return cls(_route(body), _candidates(body), body.get("complete") is True)


def session_of(body: Mapping[str, Any]) -> bytes:
    """The session that an offer is for: 16 bytes, the same in each attempt of one connection."""
    text = _text(body, "session")
    if not _SESSION.fullmatch(text):
        raise BodyError("session: 32 hexadecimal digits are wanted")
    return bytes.fromhex(text)


def reason_of(body: Mapping[str, Any], otherwise: str) -> str:
    """What the peer gives as its reason, cut short and without control characters."""
    reason = body.get("reason")
    if not isinstance(reason, str) or not reason:
        return otherwise
    return "".join(character for character in reason[:MAX_REASON] if character.isprintable()) or otherwise


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise BodyError(f"{name}: a string is wanted")
    return value


def _route(body: Mapping[str, Any]) -> int:
    value = body.get("route")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_ROUTES:
        raise BodyError("route: a small number is wanted")
    return value


def _candidates(body: Mapping[str, Any]) -> tuple[Candidate, ...]:
    lines = body.get("candidates", [])
    if not isinstance(lines, list) or len(lines) > MAX_CANDIDATES:
        raise BodyError(f"candidates: a list of {MAX_CANDIDATES} at most is wanted")
    if not all(isinstance(line, str) for line in lines):
        raise BodyError("candidates: a list of strings is wanted")
    try:
        return tuple(parse_candidate(line) for line in lines)
    except SdpError as error:
        raise BodyError(f"candidates: {error}") from None
