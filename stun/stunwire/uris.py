"""stun: and turn: URIs (RFC 7064, RFC 7065)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from socket import AF_INET6, inet_ntop, inet_pton
from typing import Literal

Transport = Literal["udp", "tcp"]

DEFAULT_PORT = 3478
DEFAULT_SECURE_PORT = 5349


class UriError(ValueError):
    """A URI that cannot be used: `place` is the part at fault, `mend` what to write instead."""

    def __init__(self, place: str, mend: str) -> None:
        super().__init__(f"{place}: {mend}")
        self.place = place
        self.mend = mend


@dataclass(frozen=True, slots=True)
class StunUri:
    """`stun:host:port`, or `stuns:` when secure. An IPv6 host has no brackets here."""

    host: str
    port: int
    secure: bool = False
    transport: Transport = "udp"

    @property
    def scheme(self) -> str:
        return "stuns" if self.secure else "stun"

    @classmethod
    def parse(cls, text: str) -> StunUri:
        uri = parse_uri(text)
        if not isinstance(uri, StunUri):
            raise UriError("scheme", f"'{uri.scheme}' where stun or stuns is wanted")
        return uri

    def __str__(self) -> str:
        return f"{self.scheme}:{_authority(self.host, self.port, self.secure)}"


@dataclass(frozen=True, slots=True)
class TurnUri:
    """`turn:host:port?transport=udp`, or `turns:` when secure. An IPv6 host has no brackets here.

    Without a transport in the text, turn means UDP and turns TCP (TLS). `turns` with udp is DTLS (RFC 7350).
    """

    host: str
    port: int
    secure: bool = False
    transport: Transport = "udp"

    @property
    def scheme(self) -> str:
        return "turns" if self.secure else "turn"

    @classmethod
    def parse(cls, text: str) -> TurnUri:
        uri = parse_uri(text)
        if not isinstance(uri, TurnUri):
            raise UriError("scheme", f"'{uri.scheme}' where turn or turns is wanted")
        return uri

    def __str__(self) -> str:
        usual = self.transport == _usual_transport(self.secure)
        query = "" if usual else f"?transport={self.transport}"
        return f"{self.scheme}:{_authority(self.host, self.port, self.secure)}{query}"


def parse_uri(text: str) -> StunUri | TurnUri:
    """The URI in `text`; UriError naming the part at fault."""
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    if not colon or scheme not in ("stun", "stuns", "turn", "turns"):
        raise UriError("scheme", "begin with stun:, stuns:, turn: or turns:")
    if rest.startswith("//"):
        raise UriError("scheme", f"write {scheme}:{rest[2:]}, these URIs have no //")
    secure = scheme.endswith("s")
    authority, question, query = rest.partition("?")
    host, port = _parse_authority(authority, secure)
    if scheme.startswith("turn"):
        return TurnUri(host, port, secure, _parse_query(query) if question else _usual_transport(secure))
    if question:
        raise UriError("query", f"drop ?{query}, {scheme} URIs have none")
    return StunUri(host, port, secure, _usual_transport(secure))


def _usual_transport(secure: bool) -> Transport:
    return "tcp" if secure else "udp"


def _parse_query(query: str) -> Transport:
    # RFC 7065 section 3.1: "transport=" and nothing else.
    match query.lower():
        case "transport=udp":
            return "udp"
        case "transport=tcp":
            return "tcp"
    raise UriError("query", "write ?transport=udp or ?transport=tcp")


_AUTHORITY = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>.*))?", re.DOTALL)
# RFC 1035 section 2.3.4: labels of 63 bytes at most, a name of 253 as it is written.
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_PORT = re.compile(r"[0-9]{1,5}")


def _parse_authority(authority: str, secure: bool) -> tuple[str, int]:
    if "@" in authority:
        raise UriError("host", "drop the part before @, credentials are given separately")
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise UriError("host", "write an IPv6 address in brackets: [2001:db8::1]:3478")
    ipv6, name, port = found["ipv6"], found["name"], found["port"]
    if ipv6 is not None:
        host = _canonical_ipv6(ipv6)
    elif _NAME.fullmatch(name):
        host = name.lower()
    else:
        raise UriError(
            "host", "write a DNS name (international ones as xn--...), an IPv4 or a bracketed IPv6 address"
        )
    if port is None:
        return host, DEFAULT_SECURE_PORT if secure else DEFAULT_PORT
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise UriError("port", "write a number from 1 to 65535 after the colon, or drop the colon")
    return host, int(port)


def _canonical_ipv6(text: str) -> str:
    try:
        return inet_ntop(AF_INET6, inet_pton(AF_INET6, text))
    except (OSError, ValueError):
        raise UriError("host", "write an IPv6 address without scope between the brackets") from None


def _authority(host: str, port: int, secure: bool) -> str:
    bracketed = f"[{host}]" if ":" in host else host
    usual = port == (DEFAULT_SECURE_PORT if secure else DEFAULT_PORT)
    return bracketed if usual else f"{bracketed}:{port}"
