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

    def collect(self) -> None:
        for end, received in zip((*self.clients, *self.peers), self.received, strict=True):
            received.update(_heard(end))

    def figures(self) -> object:
        listener = self.rig.listener
        traffic = {key: repr(value) for key, value in self.rig.plane.traffic().items()}
        bucket = self.accounts["limited"].level
        return traffic, self.rig.plane.drops(), listener.unbound, listener.garbage, round(bucket, 6)


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
    match chance.choice(("send", "send", "send", "hear", "hear", "hear", "grant", "grant", "odd", "rest")):
        case "send":
            number = CHANNEL + chance.randrange(2 * CHANNELS)
            padding = bytes(chance.choice((0, 0, 0, 3)))
            frame = number.to_bytes(2, "big") + size.to_bytes(2, "big") + data + padding
            for history in both:
                history.to_listener(client, frame)
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
    finally:
        for history in both:
            history.rig.close()
