"""TURN over WebSocket (RFC 6455), for networks that let only HTTP out: one TURN message in each message."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from stunwire import TurnUri, UriError
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from peerpath.net.framings import FramingBroken

DEFAULT_PATH = "/v1/tunnel"

_SUBPROTOCOL = Subprotocol("turn")
_LONGEST_MESSAGE = 65_556  # the longest STUN message
_DEFAULT_PORTS = {"ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class TunnelUri:
    """`wss://host:port/path`, or `ws:` without TLS. An IPv6 host has no brackets here."""

    host: str
    port: int
    secure: bool = True
    path: str = DEFAULT_PATH

    transport = "tcp"

    @property
    def scheme(self) -> str:
        return "wss" if self.secure else "ws"

    @classmethod
    def parse(cls, text: str) -> TunnelUri:
        """UriError naming the part at fault. Without a path it is that of turnrelay, /v1/tunnel."""
        try:
            parts = urlsplit(text.strip())
            port = parts.port
        except ValueError:
            raise UriError("port", "write a number from 1 to 65535 after the colon") from None
        if parts.scheme not in _DEFAULT_PORTS:
            raise UriError("scheme", "begin with wss:// or ws://")
        if "@" in parts.netloc:
            raise UriError("host", "drop the part before @, credentials are given separately")
        if not parts.hostname or not _is_host(parts.hostname):
            raise UriError("host", "write a DNS name (international ones as xn--...) or an address")
        if parts.query or parts.fragment or not parts.path.isascii():
            raise UriError("path", f"write {DEFAULT_PATH}, or nothing")
        default = _DEFAULT_PORTS[parts.scheme]
        path = parts.path if parts.path not in ("", "/") else DEFAULT_PATH
        return cls(parts.hostname, port or default, parts.scheme == "wss", path)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == _DEFAULT_PORTS[self.scheme]
        return f"{self.scheme}://{host}{'' if usual else f':{self.port}'}{self.path}"


def _is_host(text: str) -> bool:
    """What `turn:` URIs take for a host."""
    try:
        TurnUri.parse(f"turn:{f'[{text}]' if ':' in text else text}")
    except UriError:
        return False
    return True


class TunnelFraming:
    """The WebSocket: a `Framing` that is open once the server has agreed to the upgrade."""

    def __init__(self, uri: TunnelUri) -> None:
        self._protocol = ClientProtocol(
            parse_uri(str(uri)), subprotocols=[_SUBPROTOCOL], max_size=_LONGEST_MESSAGE
        )
        self._fragments = b""

    @property
    def is_open(self) -> bool:
        return self._protocol.state is State.OPEN

    def begin(self) -> bytes:
        self._protocol.send_request(self._protocol.connect())
        return self._written()

    def feed(self, data: bytes) -> list[bytes]:
        self._protocol.receive_data(data)
        frames = []
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._check(event)
            elif isinstance(event, Frame):
                frames += self._frame(event)
        fault = self._protocol.parser_exc or self._protocol.handshake_exc
        if fault is not None and not frames:
            raise FramingBroken(f"the server breaks the rules of WebSocket: {fault}")
        return frames

    def feed_eof(self) -> None:
        self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._check(event)

    def pending(self) -> bytes:
        return self._written()

    def wrap(self, frame: bytes) -> bytes:
        self._protocol.send_binary(frame)
        return self._written()

    def end(self) -> bytes:
        if self.is_open:
            self._protocol.send_close(1000)
        return self._written()

    def _written(self) -> bytes:
        return b"".join(self._protocol.data_to_send())

    def _check(self, response: Response) -> None:
        """Whether the server agreed, and to TURN."""
        failure = self._protocol.handshake_exc
        if isinstance(failure, InvalidStatus):
            reason = f"the server answered {response.status_code} {response.reason_phrase}".rstrip()
            # A port that wants TLS answers plain HTTP with 400 as a rule.
            advice = ", and is it ws:// or wss:// there?" if response.status_code == 400 else "?"
            raise FramingBroken(f"{reason} where 101 is wanted: is the path right{advice}")
        if failure is not None:
            raise FramingBroken(f"the server does not agree to a WebSocket: {failure}")
        if self._protocol.subprotocol != _SUBPROTOCOL:
            raise FramingBroken(f"the server does not know the subprotocol {_SUBPROTOCOL}")

    def _frame(self, frame: Frame) -> list[bytes]:
        if frame.opcode is Opcode.TEXT:
            raise FramingBroken("the server sends text, and TURN is binary")
        if frame.opcode is Opcode.CLOSE:
            close = self._protocol.close_rcvd
            raise FramingBroken(f"the server closed the tunnel: {close}")
        if frame.opcode not in (Opcode.BINARY, Opcode.CONT):
            return []
        self._fragments += frame.data
        if not frame.fin:
            return []
        message, self._fragments = self._fragments, b""
        return [message]
