"""HTTP CONNECT (RFC 9110 section 9.3.6): the request, and what the answer means. Sans-IO."""

from __future__ import annotations

import base64
import re

from peerpath.net.negotiation import ProxyRefused

_LONGEST_ANSWER = 16 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?")
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}(?: [^\r\n]*)?(?:\r\n|\Z)")
_WANTED = re.compile(rb"(?im)^proxy-authenticate:(.*)$")
_QUOTED = re.compile(rb'"[^"]*"')
# A list of challenges (RFC 9110 section 11.6.1): what begins one, and is no parameter of the one before.
_SCHEME = re.compile(rb"(?:^|,)[ \t]*([A-Za-z][A-Za-z-]*)(?=[ \t]+[^=,\s]|[ \t\r]*(?:,|$))")
_REASONS = {
    403: "it does not permit this destination",
    405: "it does not permit CONNECT",
    502: "it could not reach the destination",
    503: "it could not reach the destination",
    504: "it could not reach the destination in time",
}


def connect_request(host: str, port: int, username: str = "", password: str = "") -> bytes:
    """Asks for a connection to `host`, a name or an address; as `username` by Basic (RFC 7617) if given."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if username:
        token = base64.b64encode(f"{username}:{password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {token}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


class HttpConnect:
    """A `Negotiation` for a connection to `host`, a name or an address; as `username` by Basic if given."""

    def __init__(self, host: str, port: int, username: str = "", password: str = "") -> None:
        self._request = connect_request(host, port, username, password)
        self._has_credentials = bool(username)
        self._received = b""
        self._size = 0
        """Bytes received, interim answers included: of those, too, there is an end."""
        self._is_done = False

    @property
    def is_done(self) -> bool:
        return self._is_done

    def begin(self) -> bytes:
        return self._request

    def feed(self, data: bytes) -> bytes:
        if not data:
            raise ProxyRefused("it closed the connection without an answer")
        self._received += data
        self._size += len(data)
        head, end, rest = self._received.partition(b"\r\n\r\n")
        while end and _INTERIM.match(head):
            # RFC 9110 section 15.2: an interim answer, before the one that counts, means nothing here.
            self._received = rest
            head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            if self._size > _LONGEST_ANSWER:
                raise ProxyRefused(f"its answer is longer than {_LONGEST_ANSWER} bytes")
            # Told by the first bytes, so that nobody waits for the end of what is no HTTP at all.
            if not b"HTTP/1.".startswith(head[:7]):
                raise ProxyRefused("what it answers is not HTTP")
            return b""
        status_line, _, headers = head.partition(b"\r\n")
        status = _STATUS_LINE.fullmatch(status_line)
        if status is None:
            raise ProxyRefused("what it answers is not HTTP")
        code = int(status[1])
        if not 200 <= code < 300:
            raise ProxyRefused(self._reason(code, headers))
        if rest:
            raise ProxyRefused("it sent data that nobody asked for")
        self._is_done = True
        return b""

    def _reason(self, code: int, headers: bytes) -> str:
        if code != 407:
            return f"it answered {code}: {_REASONS.get(code, 'it refuses the connection')}"
        schemes = {
            scheme.decode()
            for line in _WANTED.findall(headers)
            for scheme in _SCHEME.findall(_QUOTED.sub(b"q", line))
        }
        if schemes and not any(scheme.lower() == "basic" for scheme in schemes):
            wanted = ", ".join(sorted(schemes))
            return f"it answered 407: it wants {wanted} authentication, and only Basic is spoken here"
        if self._has_credentials:
            return "it answered 407: it does not accept the user name and password"
        return "it answered 407: it wants a user name and a password"
