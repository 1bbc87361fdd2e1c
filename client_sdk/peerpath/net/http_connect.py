"""HTTP CONNECT (RFC 9110 section 9.3.6): the request, and what the answer means. Sans-IO.

python-socks takes the first piece that comes for the whole answer, and proxies send theirs in several.
"""

from __future__ import annotations

import base64
import re

_LONGEST_ANSWER = 16 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?")
_WANTED_SCHEME = re.compile(rb"(?im)^proxy-authenticate:[ \t]*([A-Za-z-]+)")
_REASONS = {
    403: "it does not permit this destination",
    405: "it does not permit CONNECT",
    502: "it could not reach the destination",
    503: "it could not reach the destination",
    504: "it could not reach the destination in time",
}


class ConnectRefused(Exception):
    """The answer is no, or is no answer; the message says why in words that a person can act on."""


def connect_request(host: str, port: int, username: str = "", password: str = "") -> bytes:
    """Asks for a connection to `host`, a name or an address; as `username` by Basic (RFC 7617) if given."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if username:
        token = base64.b64encode(f"{username}:{password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {token}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


class ConnectAnswer:
    """Is fed what the proxy sends until it is complete."""

    def __init__(self, *, has_credentials: bool) -> None:
        self._has_credentials = has_credentials
        self._received = b""

    def feed(self, data: bytes) -> bool:
        """Whether the connection is there now; False: more is to come. ConnectRefused otherwise."""
        if not data:
            raise ConnectRefused("it closed the connection without an answer")
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            if len(self._received) > _LONGEST_ANSWER:
                raise ConnectRefused(f"its answer is longer than {_LONGEST_ANSWER} bytes")
            # Told by the first bytes, so that nobody waits for the end of what is no HTTP at all.
            if not b"HTTP/1.".startswith(head[:7]):
                raise ConnectRefused("what it answers is not HTTP")
            return False
        status_line, _, headers = head.partition(b"\r\n")
        status = _STATUS_LINE.fullmatch(status_line)
        if status is None:
            raise ConnectRefused("what it answers is not HTTP")
        code = int(status[1])
        if not 200 <= code < 300:
            raise ConnectRefused(self._reason(code, headers))
        if rest:
            # On all that goes through here the client speaks first.
            raise ConnectRefused("it sent data that nobody asked for")
        return True

    def _reason(self, code: int, headers: bytes) -> str:
        if code != 407:
            return f"it answered {code}: {_REASONS.get(code, 'it refuses the connection')}"
        wanted = _WANTED_SCHEME.findall(headers)
        schemes = ", ".join(sorted({scheme.decode() for scheme in wanted}))
        if wanted and not any(scheme.lower() == b"basic" for scheme in wanted):
            return f"it answered 407: it wants {schemes} authentication, and only Basic is spoken here"
        if self._has_credentials:
            return "it answered 407: it does not accept the user name and password"
        return "it answered 407: it wants a user name and a password"
