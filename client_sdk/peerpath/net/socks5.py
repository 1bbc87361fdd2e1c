"""SOCKS5 (RFC 1928), with a user name and a password (RFC 1929) or nothing. Sans-IO."""

from __future__ import annotations

from ipaddress import ip_address

from peerpath.net.addresses import is_numeric
from peerpath.net.negotiation import ProxyRefused

_VERSION = 5
_NO_AUTHENTICATION, _PASSWORD, _NONE_ACCEPTABLE = 0, 2, 0xFF
_PASSWORD_VERSION = 1
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_LONGEST_NAME = 255
_ADDRESS_BYTES = {_IPV4: 4, _IPV6: 16}
# RFC 1928 section 6.
_REASONS = {
    1: "it failed, and does not say why",
    2: "it does not permit this destination",
    3: "it could not reach the destination's network",
    4: "it could not reach the destination",
    5: "the destination refuses the connection",
    6: "the destination is too many hops away",
    7: "it does not connect, or does not understand the request",
    8: "it does not know this kind of address",
}


class Socks5:
    """A `Negotiation` for a connection to `host`, a name or an address. Both secrets are ASCII, up to 255
    bytes, and neither is empty if one is given."""

    def __init__(self, host: str, port: int, username: str = "", password: str = "") -> None:
        self._destination = _address(host) + port.to_bytes(2, "big")
        self._username = username.encode("ascii")
        self._password = password.encode("ascii")
        self._received = b""
        self._answered = self._method_answered

    @property
    def is_done(self) -> bool:
        return self._answered == self._unexpected

    def begin(self) -> bytes:
        methods = [_NO_AUTHENTICATION, _PASSWORD] if self._username else [_NO_AUTHENTICATION]
        return bytes([_VERSION, len(methods), *methods])

    def feed(self, data: bytes) -> bytes:
        if not data:
            raise ProxyRefused("it closed the connection without an answer")
        self._received += data
        return self._answered()

    # -- its answers, in their order ----------------------------------------------------------------------

    def _method_answered(self) -> bytes:
        version, method = self._first_two() or (_VERSION, None)
        if version != _VERSION:
            raise ProxyRefused("what it answers is not SOCKS5")
        if method is None:
            return b""
        self._received = self._received[2:]
        if method == _NO_AUTHENTICATION:
            return self._request()
        if method == _PASSWORD and self._username:
            self._answered = self._password_answered
            secrets = b"".join(bytes([len(each)]) + each for each in (self._username, self._password))
            return bytes([_PASSWORD_VERSION]) + secrets
        if self._username:
            raise ProxyRefused("it takes no user name and password, and nothing else is spoken here")
        raise ProxyRefused("it wants authentication: a user name and a password")

    def _password_answered(self) -> bytes:
        answer = self._first_two()
        if answer is None:
            return b""
        self._received = self._received[2:]
        if answer[0] not in (_PASSWORD_VERSION, _VERSION):  # some repeat the version of SOCKS here
            raise ProxyRefused("what it answers is not SOCKS5")
        if answer[1] != 0:
            raise ProxyRefused("it does not accept the user name and password")
        return self._request()

    def _request(self) -> bytes:
        self._answered = self._connect_answered
        if self._received:
            raise ProxyRefused("what it answers is not SOCKS5")
        return bytes([_VERSION, _CONNECT, 0]) + self._destination

    def _connect_answered(self) -> bytes:
        version, code = self._first_two() or (_VERSION, 0)
        if version != _VERSION:
            raise ProxyRefused("what it answers is not SOCKS5")
        if code != 0:
            raise ProxyRefused(f"it answered {code}: {_REASONS.get(code, 'it refuses the connection')}")
        if len(self._received) < 5:
            return b""
        kind = self._received[3]
        if kind != _NAME and kind not in _ADDRESS_BYTES:
            raise ProxyRefused("what it answers is not SOCKS5")
        size = 1 + self._received[4] if kind == _NAME else _ADDRESS_BYTES[kind]
        missing = 4 + size + 2 - len(self._received)
        if missing < 0:
            raise ProxyRefused("it sent data that nobody asked for")
        if missing == 0:
            self._answered = self._unexpected
        return b""

    def _unexpected(self) -> bytes:
        raise ProxyRefused("it sent data that nobody asked for")

    def _first_two(self) -> tuple[int, int] | None:
        return None if len(self._received) < 2 else (self._received[0], self._received[1])


def _address(host: str) -> bytes:
    if is_numeric(host):
        packed = ip_address(host.partition("%")[0]).packed
        return bytes([_IPV4 if len(packed) == 4 else _IPV6]) + packed
    name = host.encode("ascii")
    if len(name) > _LONGEST_NAME:
        raise ProxyRefused(f"a name of {len(name)} bytes cannot be said to it")
    return bytes([_NAME, len(name)]) + name
