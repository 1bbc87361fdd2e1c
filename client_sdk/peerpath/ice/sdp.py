"""ICE in SDP: candidate lines and the attributes beside them (RFC 8839 section 5, RFC 8840)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from stunwire import TransportAddress

from peerpath.ice.candidate import Candidate, CandidateType
from peerpath.ice.credentials import Credentials
from peerpath.ice.description import Description

MAX_LINE = 1024
"""Characters; an honest candidate line has about 150."""
MAX_LINES = 500

_FOUNDATION = re.compile(r"[A-Za-z0-9+/]{1,32}")
_NAME = re.compile(r"[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,8}")
_ATTRIBUTE = re.compile(r"a=([a-z-]+)(?::(.*))?")


class SdpError(ValueError):
    """Text of the peer that is no SDP of ICE; the message says which part."""


def format_candidate(candidate: Candidate) -> str:
    """The value of a=candidate, from "candidate:" on, as browsers put it into JSON too."""
    parts = [
        f"candidate:{candidate.foundation}",
        str(candidate.component),
        candidate.transport,
        str(candidate.priority),
        candidate.address.host,
        str(candidate.address.port),
        "typ",
        candidate.type.value,
    ]
    related = candidate.related
    if candidate.type is not CandidateType.HOST:
        # Section 5.1: for all but host candidates it must be there; what is private is unspecified.
        if related is None:
            related = TransportAddress("::" if candidate.is_ipv6 else "0.0.0.0", 9)
        parts += ["raddr", related.host, "rport", str(related.port)]
    for name, value in candidate.extensions:
        parts += [name, value]
    if candidate.ufrag is not None:
        parts += ["ufrag", candidate.ufrag]
    return " ".join(parts)


def parse_candidate(line: str) -> Candidate:
    """A candidate line, with or without "a=". SdpError for one that breaks the grammar of RFC 8839.

    Host names other than those of multicast DNS are refused: nothing here resolves them.
    """
    if len(line) > MAX_LINE:
        raise SdpError(f"candidate: a line of {len(line)} characters")
    text = line.strip().removeprefix("a=")
    if not text.startswith("candidate:"):
        raise SdpError("candidate: the line does not begin with candidate:")
    fields = text.removeprefix("candidate:").split()
    if len(fields) < 8 or fields[6] != "typ" or len(fields) % 2:
        raise SdpError("candidate: fields are missing")
    foundation, component, transport, priority, host, port, _, kind = fields[:8]
    if not _FOUNDATION.fullmatch(foundation):
        raise SdpError("candidate: the foundation is not 1 to 32 letters, digits, + and /")
    try:
        candidate_type = CandidateType(kind)
    except ValueError:
        raise SdpError("candidate: unknown type") from None
    extensions = dict(zip(fields[8::2], fields[9::2], strict=True))
    related_host, related_port = extensions.pop("raddr", None), extensions.pop("rport", None)
    related = None
    if related_host is not None and related_port is not None:
        related = TransportAddress(_host(related_host), _number("rport", related_port, 0, 65535))
    ufrag = extensions.pop("ufrag", None)
    return Candidate(
        candidate_type,
        TransportAddress(_host(host), _number("port", port, 0, 65535)),
        _number("priority", priority, 1, 2**31 - 1),
        foundation,
        _number("component", component, 1, 256),
        transport.lower(),
        related,
        ufrag,
        tuple(extensions.items()),
    )


def format_description(description: Description) -> list[str]:
    """The lines of a media section that concern ICE, without line ends."""
    lines = ["a=ice-lite"] if description.lite else []
    lines.append(f"a=ice-ufrag:{description.credentials.ufrag}")
    lines.append(f"a=ice-pwd:{description.credentials.password}")
    if description.options:
        lines.append("a=ice-options:" + " ".join(sorted(description.options)))
    lines += ["a=" + format_candidate(candidate) for candidate in description.candidates]
    if description.end_of_candidates:
        lines.append("a=end-of-candidates")
    return lines


def parse_description(text: str | Iterable[str]) -> tuple[Description, list[SdpError]]:
    """The ICE part of one media section, and the candidate lines that could not be read.

    A broken candidate is no reason to refuse the others (RFC 8839 section 5.1). SdpError when ufrag or
    password are missing or broken.
    """
    lines = text.splitlines() if isinstance(text, str) else list(text)
    if len(lines) > MAX_LINES:
        raise SdpError(f"{len(lines)} lines, at most {MAX_LINES} are read")
    values: dict[str, str] = {}
    candidates: list[Candidate] = []
    errors: list[SdpError] = []
    for line in lines:
        match = _ATTRIBUTE.fullmatch(line.strip())
        if match is None:
            continue
        name, value = match[1], match[2] or ""
        if name == "candidate":
            try:
                candidates.append(parse_candidate(line))
            except SdpError as error:
                errors.append(error)
        else:
            values.setdefault(name, value)
    try:
        credentials = Credentials(values["ice-ufrag"], values["ice-pwd"])
    except KeyError as error:
        raise SdpError(f"a={error.args[0]} is missing") from None
    except ValueError as error:
        raise SdpError(str(error)) from None
    description = Description(
        credentials,
        tuple(candidates),
        "ice-lite" in values,
        frozenset(values.get("ice-options", "").split()),
        "end-of-candidates" in values,
    )
    return description, errors


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if _NAME.fullmatch(text) and text.lower().endswith(".local"):
            return text.lower()
    raise SdpError("candidate: neither an IP address nor a .local name")


def _number(name: str, text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high):
        raise SdpError(f"candidate: {name} is not a number from {low} to {high}")
    return int(text)
