"""TurnSocket: a blocking TURN client on one UDP socket, whose every datagram the test sees."""

import socket
import time
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

from peerpath.turn import ChannelBound, LongTermCredentials
from peerpath.turn.client import TurnClient
from peerpath.turn.outputs import Allocated, Output, PermissionInstalled, Transmit
from stunwire import (
    DATA,
    XOR_PEER_ADDRESS,
    AddressFamily,
    Message,
    MessageClass,
    Method,
    TransportAddress,
)
from support.netns import Namespace, inside
from support.relay import Access

PATIENCE = 5.0
T = TypeVar("T", bound=Output)


class TurnSocket:
    """An allocation on `server`, made by a client on `host` of a namespace."""

    def __init__(
        self,
        server: tuple[str, int],
        access: Access,
        host: str,
        namespace: Namespace | None = None,
        family: AddressFamily | None = None,
    ) -> None:
        self.sock = udp_socket(host, namespace)
        self.sock.connect(server)
        credentials = LongTermCredentials(access.username, access.password)
        self._client = TurnClient(credentials, reliable=False, families=[family] if family else None)
        self.relayed = self._talk(self._client.start, Allocated).relayed[0]

    def bind(self, peer: tuple[str, int]) -> int:
        """The channel that the server bound to the peer."""
        address = TransportAddress(*peer)
        return self._talk(lambda now: self._client.bind(address, now), ChannelBound).channel

    def permit(self, peer: tuple[str, int]) -> None:
        """Lets the peer's host send, and be sent indications."""
        self._talk(lambda now: self._client.permit([peer[0]], now), PermissionInstalled)

    def indicate(self, peer: tuple[str, int], data: bytes) -> None:
        """A Send indication."""
        message = Message(MessageClass.INDICATION, Method.SEND)
        message.add(XOR_PEER_ADDRESS, TransportAddress(*peer)).add(DATA, data)
        self.sock.send(message.encode())

    def receive_indication(self, timeout: float = PATIENCE) -> tuple[tuple[str, int], bytes]:
        """Peer and data of the next Data indication."""
        self.sock.settimeout(timeout)
        message = Message.decode(self.sock.recv(65535))
        assert (message.message_class, message.method) == (MessageClass.INDICATION, Method.DATA)
        peer, data = message.get(XOR_PEER_ADDRESS), message.get(DATA)
        assert peer is not None
        assert data is not None
        return tuple(peer), data

    def send(self, channel: int, data: bytes) -> None:
        self.sock.send(channel.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data)

    def receive(self, timeout: float = PATIENCE) -> tuple[int, bytes]:
        """Channel and data of the next ChannelData."""
        self.sock.settimeout(timeout)
        frame = self.sock.recv(65535)
        channel, length = int.from_bytes(frame[:2], "big"), int.from_bytes(frame[2:4], "big")
        assert 0x4000 <= channel < 0x8000, f"no ChannelData: {frame[:40].hex()}"
        assert len(frame) == 4 + length, f"{len(frame)} bytes for ChannelData of {length}"
        return channel, frame[4:]

    def close(self) -> None:
        for output in self._client.close(time.monotonic()):
            if isinstance(output, Transmit):
                self.sock.send(output.data)
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _talk(self, ask: Callable[[float], Sequence[Output]], wanted: type[T]) -> T:
        outputs = list(ask(time.monotonic()))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for output in outputs:
                if isinstance(output, wanted):
                    return output
                if isinstance(output, Transmit):
                    self.sock.send(output.data)
            now = time.monotonic()
            due = self._client.next_deadline()
            self.sock.settimeout(max(0.01, min(deadline, due if due is not None else deadline) - now))
            try:
                outputs = self._client.receive(self.sock.recv(65535), time.monotonic())
            except TimeoutError:
                outputs = self._client.handle_timeout(time.monotonic())
        raise AssertionError(f"no {wanted.__name__} within {PATIENCE:g} s")


def udp_socket(host: str, namespace: Namespace | None = None, port: int = 0) -> socket.socket:
    with inside(namespace):
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind((host, port))
    sock.settimeout(PATIENCE)
    return sock
