"""A TURN client on a blocking socket and a peer for it, to provoke a running relay with."""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from stunwire import (
    CHANNEL_NUMBER,
    LIFETIME,
    NONCE,
    REALM,
    REQUESTED_TRANSPORT,
    USERNAME,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Attribute,
    Message,
    MessageClass,
    Method,
    StreamFramer,
    TransportAddress,
    encode_channel_data,
    long_term_key,
)
from websockets import ConnectionClosed, Subprotocol
from websockets.sync.client import connect

_UDP = 17
_PATIENCE = 5.0


class StreamClient:
    """One TCP or TLS connection to a relay, with an allocation."""

    def __init__(
        self,
        server: tuple[str, int],
        username: str,
        password: str,
        prepare: Callable[[socket.socket], None] = lambda sock: None,
        wrap: Callable[[socket.socket], socket.socket] = lambda sock: sock,
    ) -> None:
        """`prepare` is called before the connection is made, `wrap` afterwards: for TLS."""
        self._prepare, self._wrap = prepare, wrap
        self._connect(server)
        self._framer = StreamFramer()
        self._frames: list[bytes] = []
        self._username = username
        challenge = self._ask(Message(MessageClass.REQUEST, Method.ALLOCATE).add(REQUESTED_TRANSPORT, _UDP))
        self._realm, self._nonce = challenge.get(REALM), challenge.get(NONCE)
        assert self._realm is not None
        self._key = long_term_key(username, self._realm, password)
        answer = self.request(Method.ALLOCATE, (REQUESTED_TRANSPORT, _UDP))
        assert answer.message_class is MessageClass.SUCCESS_RESPONSE, answer.attributes
        self.relayed = answer.get(XOR_RELAYED_ADDRESS)

    def request(self, method: Method, *attributes: tuple[Attribute[Any], Any]) -> Message:
        """The response to an authenticated request; data that comes before it is dropped."""
        return self._ask(self._form(method, attributes), self._key)

    def send_request(self, method: Method, *attributes: tuple[Attribute[Any], Any]) -> bytes:
        """Sends an authenticated request and does not wait; its transaction ID."""
        message = self._form(method, attributes)
        self._send(message.encode(self._key))
        return message.transaction_id

    def refresh(self, lifetime: int) -> Message:
        return self.request(Method.REFRESH, (LIFETIME, lifetime))

    def bind(self, channel: int, peer: TransportAddress) -> Message:
        return self.request(Method.CHANNEL_BIND, (CHANNEL_NUMBER, channel), (XOR_PEER_ADDRESS, peer))

    def send(self, channel: int, data: bytes) -> None:
        self._send(encode_channel_data(channel, data, pad=True))

    def say(self, message: Message) -> None:
        """Sends a message as it is, such as an indication."""
        self._send(message.encode())

    def frame(self) -> bytes:
        """The next whole frame; an empty one when the relay closed the connection."""
        while not self._frames:
            piece = self.sock.recv(65536)
            if not piece:
                return b""
            self._frames += self._framer.feed(piece)
        return self._frames.pop(0)

    def close(self) -> None:
        self.sock.close()

    def _connect(self, server: tuple[str, int]) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._prepare(sock)
        sock.settimeout(_PATIENCE)
        sock.connect(server)
        self.sock = self._wrap(sock)

    def _send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def _form(self, method: Method, attributes: tuple[tuple[Attribute[Any], Any], ...]) -> Message:
        message = Message(MessageClass.REQUEST, method)
        for attribute, value in attributes:
            message.add(attribute, value)
        return message.add(USERNAME, self._username).add(REALM, self._realm).add(NONCE, self._nonce)

    def _ask(self, message: Message, key: bytes | None = None) -> Message:
        self._send(message.encode(key))
        while frame := self.frame():
            if frame[0] < 4:
                answer = Message.decode(frame)
                if answer.transaction_id == message.transaction_id:
                    return answer
        raise ConnectionError("the relay closed the connection")


class TunnelClient(StreamClient):
    """One WebSocket to the tunnel of a relay, with an allocation. `options` are those of websockets."""

    def __init__(self, url: str, username: str, password: str, **options: Any) -> None:
        self._stack = ExitStack()
        self.websocket = self._stack.enter_context(
            connect(url, subprotocols=[Subprotocol("turn")], proxy=None, compression=None, **options)
        )
        super().__init__(("", 0), username, password)

    def _connect(self, server: tuple[str, int]) -> None:
        """The WebSocket is there already."""

    def frame(self) -> bytes:
        """The next message; an empty one when the relay closed the connection."""
        try:
            message = self.websocket.recv(_PATIENCE)
        except ConnectionClosed:
            return b""
        assert isinstance(message, bytes)
        return message

    def send(self, channel: int, data: bytes) -> None:
        self._send(encode_channel_data(channel, data))

    def close(self) -> None:
        self._stack.close()

    def _send(self, data: bytes) -> None:
        self.websocket.send(data)


class DatagramClient(StreamClient):
    """One UDP socket that knows the relay's nonce; it has no allocation until it asks for one."""

    def __init__(self, server: tuple[str, int], username: str, password: str) -> None:
        self._connect(server)
        self._username = username
        challenge = self._ask(Message(MessageClass.REQUEST, Method.REFRESH))
        self._realm, self._nonce = challenge.get(REALM), challenge.get(NONCE)
        assert self._realm is not None
        self._key = long_term_key(username, self._realm, password)
        self.relayed: TransportAddress | None = None

    def allocate(self, *attributes: tuple[Attribute[Any], Any]) -> Message:
        answer = self.request(Method.ALLOCATE, (REQUESTED_TRANSPORT, _UDP), *attributes)
        self.relayed = answer.get(XOR_RELAYED_ADDRESS)
        return answer

    def form_allocate(self) -> bytes:
        """An authenticated Allocate, to be sent more than once."""
        return self._form(Method.ALLOCATE, ((REQUESTED_TRANSPORT, _UDP),)).encode(self._key)

    def permit(self, peer: TransportAddress) -> Message:
        return self.request(Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, peer))

    def frame(self) -> bytes:
        return self.sock.recv(65536)

    def send(self, channel: int, data: bytes) -> None:
        self._send(encode_channel_data(channel, data))

    def _connect(self, server: tuple[str, int]) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(_PATIENCE)
        self.sock.connect(server)


class Peer:
    """A UDP socket that is somebody's peer."""

    def __init__(self, host: str) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((host, 0))
        self.sock.settimeout(_PATIENCE)
        self.address = TransportAddress(*self.sock.getsockname())

    def close(self) -> None:
        self.sock.close()
