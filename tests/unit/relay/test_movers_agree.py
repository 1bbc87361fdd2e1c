"""Random histories: C and Python, given the same, deliver and count the same."""

import contextlib
import os
import random
from collections import Counter

import pytest
from turnrelay.core.addresses import PeerAddress, RelayedAddress
from turnrelay.core.outputs import ChannelFlow
from turnrelay.core.token_bucket import TokenBucket
from unit.relay.listening import CHANNEL, Rig
from unit.relay.loopback import V4, V6, FakeBandwidthPolicy, Peer
from unit.relay.quiet import until_quiet_and_alike
from unit.relay.trains import MOST_BYTES, send_train, takes_trains

_ICMP = b"\x80\x04"
CLIENTS, PEERS, RELAYS, CHANNELS, STEPS = 3, 3, 4, 3, 250
SEEDS = int(os.environ.get("TURNRELAY_SEEDS", "3"))
"""Histories to try; many of them, with sanitizers compiled in (CFLAGS), are the proof of the extension."""


class History:
    """One of the two: what is done is told by numbers, so that it is the same for both."""

    def __init__(self, mover: str, host: str) -> None:
        self.accounts = {"limited": TokenBucket(2000, 30_000, 1000.0)}
        self.rig = Rig(mover, host, FakeBandwidthPolicy(accounts=self.accounts))
        self.clients = [self.rig.end() for _ in range(CLIENTS)]
        self.peers = [self.rig.end() for _ in range(PEERS)]
        self.relays: list[RelayedAddress | None] = [None] * RELAYS
        self.flows: dict[tuple[int, int], ChannelFlow] = {}
        self.received: list[Counter[bytes]] = [Counter() for _ in range(CLIENTS + PEERS)]

    def open(self, relay: int) -> None:
        if self.relays[relay] is None:
            self.relays[relay] = self.rig.open("limited" if relay == 0 else "free")

    def close(self, relay: int) -> None:
        address, self.relays[relay] = self.relays[relay], None
        if address is not None:
            self.rig.plane.close(address)
            self.flows = {key: flow for key, flow in self.flows.items() if key[0] != relay}

    def grant(self, relay: int, peer: int, channel: int, lifetime: float) -> None:
        """The relay belongs to the client of its number. A channel keeps its peer, as the core sees to it."""
        address = self.relays[relay]
        if address is None:
            return
        # Clients 0 to 2 have a relay each, the fourth relay is a second one of client 0.
        key, far = (relay, channel), self._far(relay, peer)
        known = self.flows.get(key)
        if known is None:
            if far is None or any(flow.peer == far for (one, _), flow in self.flows.items() if one == relay):
                return
            far_address = far
        else:
            far_address = known.peer
        number = CHANNEL + channel + (CHANNELS if relay >= CLIENTS else 0)
        expires_at = self.rig.clock.now + lifetime
        client = self.clients[relay % CLIENTS]
        self.flows[key] = self.rig.bind(client, address, far_address, number, expires_at)

    def _far(self, relay: int, peer: int) -> PeerAddress | None:
        if peer < PEERS:
            return self.peers[peer].address
        other = self.relays[(relay + 1) % RELAYS]
        return None if other is None else PeerAddress(other)

    def revoke(self, relay: int, channel: int) -> None:
        flow = self.flows.pop((relay, channel), None)
        if flow is not None:
            self.rig.plane.revoke(flow)

    def to_listener(self, client: int, data: bytes) -> None:
        self.clients[client].send(data, self.rig.listener.address)

    def to_relay(self, peer: int, relay: int, data: bytes) -> None:
        address = self.relays[relay]
        if address is not None:
            self.peers[peer].send(data, address)

    def train_to_listener(self, client: int, datagrams: list[bytes]) -> None:
        send_train(self.clients[client], datagrams, self.rig.listener.address)

    def train_to_relay(self, peer: int, relay: int, datagrams: list[bytes]) -> None:
        address = self.relays[relay]
        if address is not None:
            send_train(self.peers[peer], datagrams, address)

    def collect(self) -> None:
        for end, received in zip((*self.clients, *self.peers), self.received, strict=True):
            received.update(_heard(end))
            # A train that comes to nobody is answered once, whole or in pieces.
            received.update({message: 1 - received[message] for message in received if message[2:4] == _ICMP})

    def figures(self) -> object:
        listener = self.rig.listener
        traffic = {key: repr(value) for key, value in self.rig.plane.traffic().items()}
        bucket = self.accounts["limited"].level
        messages = len(self.rig.driver.messages)
        return traffic, self.rig.plane.drops(), listener.unbound, listener.garbage, messages, round(bucket, 6)

    def trains(self) -> list[bool]:
        """Of the sockets that are read, which take them."""
        relays = self.rig.plane.relays.values()
        return [takes_trains(self.rig.listener.sock), *(takes_trains(relay.sock) for relay in relays)]


def _heard(end: Peer) -> list[bytes]:
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            data = end.sock.recv(65536)
            # Of Data indications the data alone: transactions are drawn by lot, and ports differ.
            address = 24 if ":" in end.address.host else 12
            found.append(data[:2] + data[20 + address :] if data[:2] == b"\x00\x17" else data)
    return found


def _step(chance: random.Random, both: list[History]) -> None:
    client, peer, relay = chance.randrange(CLIENTS), chance.randrange(PEERS), chance.randrange(RELAYS)
    channel, size = chance.randrange(CHANNELS), chance.choice((0, 1, 4, 172, 172, 172, 1200, 5000))
    data = chance.randbytes(size)
    match chance.choice(
        ("send", "train") * 3 + ("hear", "heard train") * 3 + ("grant",) * 4 + ("odd", "rest") * 2
    ):
        case "send":
            number = CHANNEL + chance.randrange(2 * CHANNELS)
            padding = bytes(chance.choice((0, 0, 0, 3)))
            frame = number.to_bytes(2, "big") + size.to_bytes(2, "big") + data + padding
            for history in both:
                history.to_listener(client, frame)
        case "train":
            train = _train(chance)
            for history in both:
                history.train_to_listener(client, train)
        case "heard train":
            train = _cut_alike(chance, size)
            for history in both:
                history.train_to_relay(peer, relay, train)
        case "hear":
            for history in both:
                history.to_relay(peer, relay, data)
        case "grant":
            far, lifetime = chance.randrange(PEERS + 1), chance.choice((5.0, 50.0, 500.0))
            for history in both:
                history.open(relay)
                history.grant(relay, far, channel, lifetime)
        case "odd":
            for history in both:
                history.to_listener(client, b"\x40" + data[:5])
        case "rest":
            what, time = chance.choice(("close", "revoke", "pass", "pass")), chance.random() * 10
            for history in both:
                if what == "close":
                    history.close(relay)
                elif what == "revoke":
                    history.revoke(relay, channel)
                else:
                    history.rig.clock.now += time


def _cut_alike(chance: random.Random, size: int) -> list[bytes]:
    """Of a peer: datagrams of one size, the last of them perhaps shorter."""
    size = max(min(size, 1500), 1)
    train = [chance.randbytes(size) for _ in range(_length(chance, size))]
    return [*train[:-1], train[-1][: chance.choice((size, size, 1))]]


def _length(chance: random.Random, size: int) -> int:
    return chance.randrange(1, min(30, MOST_BYTES // size))


def _train(chance: random.Random) -> list[bytes]:
    """Of a client: ChannelData, plain or with other channels, padding, lengths that are too long, STUN and
    garbage in between; all of one size but for the last."""
    size, channel = chance.choice((4, 5, 24, 176, 176, 1204)), chance.randrange(2 * CHANNELS)
    is_plain, train = chance.random() < 0.5, []
    for _ in range(_length(chance, size)):
        odd = (
            None
            if is_plain or chance.random() < 0.8
            else chance.choice(("channel", "padded", "long", "other"))
        )
        if odd == "channel":
            channel = chance.randrange(2 * CHANNELS)
        length = size - 4 + {"padded": -min(3, size - 4), "long": 1}.get(odd or "", 0)
        head = (CHANNEL + channel).to_bytes(2, "big") + length.to_bytes(2, "big")
        if odd == "other":
            head = chance.choice((bytes(4), b"\xff\xff\xff\xff"))
        train.append(head + chance.randbytes(size - 4))
    if chance.random() < 0.5:
        shorter = chance.randrange(1, size + 1)
        train[-1] = (
            (CHANNEL + channel).to_bytes(2, "big")
            + max(shorter - 4, 0).to_bytes(2, "big")
            + chance.randbytes(size)
        )[:shorter]
    return train


@pytest.mark.parametrize("host", [V4, V6])
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_histories_end_alike(mover, has_ipv6, host, seed):
    if mover == "python":
        pytest.skip("it is compared with the other")
    chance = random.Random(seed)
    both = [History("python", host), History("c", host)]
    try:
        for number in range(STEPS):
            _step(chance, both)
            # Packets that wait together make batches; what changes the flows comes when all is read.
            if number % 5 == 4:
                await until_quiet_and_alike(both)
        assert sum(map(Counter.total, both[0].received)) > STEPS / 20
        # Else no train arrived as one.
        assert both[1].trains()[0]
        assert not any(both[0].trains())
    finally:
        for history in both:
            history.rig.close()
