"""TURN clients with real, authenticated allocations; the generator sends in their names."""

import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stunwire import (
    CHANNEL_NUMBER,
    DATA,
    ERROR_CODE,
    LIFETIME,
    NONCE,
    REALM,
    REQUESTED_TRANSPORT,
    USERNAME,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Message,
    MessageClass,
    Method,
    TransportAddress,
    long_term_key,
)
from support.netns import inside

from bench import relays
from bench.generator import Frame
from bench.network import PEER, PEER_PORT, SERVER, Bench

CHANNEL = 0x4000
_UDP = 17
_WINDOW = 64
"""Clients with a request on its way at one time."""
_TRIES, _PATIENCE = 8, 0.5
_KEY = long_term_key(relays.USER, relays.REALM, relays.PASSWORD)


class SetupFailed(Exception):
    """A relay refused a client, or did not answer."""


@dataclass
class Client:
    """One client, on a socket of its own."""

    sock: socket.socket
    port: int
    nonce: str = ""
    relay_port: int = 0
    outcome: Message | None = field(default=None, repr=False)

    def request(self, method: Method) -> bytes:
        message = Message(MessageClass.REQUEST, method)
        if method is Method.ALLOCATE:
            message.add(REQUESTED_TRANSPORT, _UDP)
            if self.nonce:
                message.add(LIFETIME, 3600)
        elif method is Method.REFRESH:
            message.add(LIFETIME, 0)
        else:
            message.add(XOR_PEER_ADDRESS, TransportAddress(PEER, PEER_PORT))
        if method is Method.CHANNEL_BIND:
            message.add(CHANNEL_NUMBER, CHANNEL)
        if not self.nonce:
            return message.encode()
        message.add(USERNAME, relays.USER).add(REALM, relays.REALM).add(NONCE, self.nonce)
        return message.encode(_KEY)


class Fleet:
    """So many clients of one relay."""

    def __init__(self, bench: Bench, relay: relays.Relay, count: int) -> None:
        self.relay = relay
        self._bench = bench
        with inside(bench.client):
            self.clients = [_open(relay.kind.port) for _ in range(count)]
        self._bound_at = 0.0
        self._is_held = True
        self.highest_rate = 0.0
        """What was carried without loss in an earlier round, packets a second; 0 if nobody has looked yet."""

    def close(self) -> None:
        for client in self.clients:
            client.sock.close()

    def allocate(self, *, permissions: bool = False, channels: bool = True) -> None:
        """Challenge, Allocate, and what is asked for, for every client."""
        self._all(Method.ALLOCATE, take_nonce)
        self._all(Method.ALLOCATE, take_relay)
        if permissions:
            self._all(Method.CREATE_PERMISSION, must_succeed)
        if channels:
            self.bind()

    def bind(self) -> None:
        """Binds every channel to the peer, or extends that and the permission with it."""
        self._all(Method.CHANNEL_BIND, must_succeed)
        self._bound_at = time.monotonic()

    def permit(self) -> None:
        self._all(Method.CREATE_PERMISSION, must_succeed)

    def let_go(self) -> None:
        """Closes the sockets, of which there may be too many; the generator sends in their names."""
        self.close()
        self._is_held = False

    def keep(self, seconds: float = 180) -> None:
        """Extends the channels that have been there for some time: a permission lasts 300 s."""
        if time.monotonic() - self._bound_at <= seconds:
            return
        if not self._is_held:
            with inside(self._bench.client):
                for client in self.clients:
                    client.sock = _open(self.relay.kind.port, client.port).sock
        self.bind()
        if not self._is_held:
            self.close()

    def channel_frames(self, payload: int) -> list[Frame]:
        """ChannelData to the peer, for the generator."""
        prefix = struct.pack("!HH", CHANNEL, payload)
        return [Frame(client.port, self.relay.kind.port, prefix) for client in self.clients]

    def send_frames(self, payload: int) -> list[Frame]:
        """Send indications to the peer, whose payload is a multiple of four bytes."""
        head = Message(MessageClass.INDICATION, Method.SEND)
        head.add(XOR_PEER_ADDRESS, TransportAddress(PEER, PEER_PORT)).add(DATA, bytes(payload))
        prefix = head.encode()[:-payload]
        return [Frame(client.port, self.relay.kind.port, prefix) for client in self.clients]

    def release(self) -> None:
        """Ends the allocations."""
        self._all(Method.REFRESH, must_succeed)

    def _all(self, method: Method, use: Callable[[Client, Message], None]) -> None:
        for start in range(0, len(self.clients), _WINDOW):
            _transact(self.clients[start : start + _WINDOW], method, use)


def _open(port: int, own_port: int = 0) -> Client:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", own_port))
    sock.setblocking(False)
    sock.connect((SERVER, port))
    return Client(sock, sock.getsockname()[1])


def _transact(clients: Sequence[Client], method: Method, use: Callable[[Client, Message], None]) -> None:
    """One request of each client, all at once, repeated where no answer comes."""
    waiting = {client.sock.fileno(): client for client in clients}
    requests = {number: client.request(method) for number, client in waiting.items()}
    with select.epoll() as poll:
        for number in waiting:
            poll.register(number, select.EPOLLIN)
        for _ in range(_TRIES):
            for number, client in waiting.items():
                client.sock.send(requests[number])
            deadline = time.monotonic() + _PATIENCE
            while waiting and (left := deadline - time.monotonic()) > 0:
                for number, _event in poll.poll(left):
                    client = waiting.get(number)
                    data = _datagram(clients, number) if client is None else client.sock.recv(2048)
                    if client is None or data[8:20] != requests[number][8:20]:
                        continue  # an answer to an earlier copy
                    use(client, Message.decode(data))
                    del waiting[number]
            if not waiting:
                return
    raise SetupFailed(f"{len(waiting)} clients got no answer to {method.name}")


def _datagram(clients: Sequence[Client], number: int) -> bytes:
    return next(client.sock.recv(2048) for client in clients if client.sock.fileno() == number)


def take_nonce(client: Client, answer: Message) -> None:
    nonce = answer.get(NONCE)
    if nonce is None:
        raise SetupFailed(f"no challenge: {answer.get(ERROR_CODE)}")
    client.nonce = nonce


def take_relay(client: Client, answer: Message) -> None:
    relayed = answer.get(XOR_RELAYED_ADDRESS)
    if relayed is None:
        raise SetupFailed(f"no allocation: {answer.get(ERROR_CODE)}")
    client.relay_port = relayed.port


def must_succeed(_client: Client, answer: Message) -> None:
    if answer.message_class is not MessageClass.SUCCESS_RESPONSE:
        raise SetupFailed(f"{answer.get(ERROR_CODE)}")
