"""Random Send indications, whole and broken: what moves them does what the core would have done."""

import os
import random
from collections import Counter

import pytest
from stunwire import DATA, XOR_PEER_ADDRESS, DecodeError, Message, TransportAddress
from support.send_drafts import Draft
from turnrelay.core.addresses import Transport
from turnrelay.core.events import PeerDenied
from unit.relay.core_rig import FAR, IPV4, IPV6, NEAR, CoreRig, DatagramEnd, End
from unit.relay.loopback import V4, V6
from unit.relay.quiet import until_quiet_and_alike
from unit.relay.trains import send_train

STEPS = 300
SEEDS = int(os.environ.get("TURNRELAY_SEEDS", "2"))
PEER_HOSTS = (NEAR, NEAR, FAR, V6, V6)
# Peers by number: those above, then the relayed addresses of the clients.
CLIENTS = 3


class History:
    """One of the three ways. What is done is told by numbers, so that it is the same for all."""

    def __init__(self, way: str) -> None:
        self.rig = CoreRig(way)
        self.peers = [self.rig.end(host) for host in PEER_HOSTS]
        self.clients: list[End] = [self.rig.end(V4), self.rig.end(V6)]
        self.received: list[Counter[object]] = [Counter() for _ in range(CLIENTS + len(PEER_HOSTS))]
        self.alive = [False] * CLIENTS

    async def start(self) -> None:
        self.clients.append(await self.rig.stream())
        for client in range(CLIENTS):
            self.allocate(client)

    def address(self, peer: int) -> TransportAddress:
        if peer < len(self.peers):
            return self.peers[peer].address
        client = peer - len(self.peers)
        if not self.alive[client]:
            return TransportAddress("203.0.113.1", 1)
        return self.rig.relay(self.clients[client])

    def allocate(self, client: int) -> None:
        if not self.alive[client]:
            self.rig.allocate(self.clients[client])
            self.alive[client] = True

    def release(self, client: int) -> None:
        if self.alive[client]:
            self.alive[client] = False
            self.rig.release(self.clients[client])

    def permit(self, client: int, peer: int) -> None:
        if self.alive[client]:
            self.rig.permit(self.clients[client], self.address(peer))

    def bind(self, client: int, peer: int) -> None:
        if self.alive[client]:
            self.rig.bind(self.clients[client], 0x4000 + peer, self.peers[peer].address)

    def hear(self, client: int, peer: int, data: bytes) -> None:
        if self.alive[client]:
            family = IPV6 if PEER_HOSTS[peer] == V6 else IPV4
            self.peers[peer].send(data, self.rig.relay(self.clients[client], family))

    def say_train(self, client: int, messages: list[bytes]) -> None:
        end = self.clients[client]
        if isinstance(end, DatagramEnd):
            send_train(end, messages, self.rig.server_of(end))
        else:
            end.send(b"".join(messages), self.rig.server_of(end))

    def hear_train(self, client: int, peer: int, data: bytes, count: int) -> None:
        if self.alive[client]:
            family = IPV6 if PEER_HOSTS[peer] == V6 else IPV4
            send_train(self.peers[peer], [data] * count, self.rig.relay(self.clients[client], family))

    def collect(self) -> None:
        for end, received in zip((*self.clients, *self.peers), self.received, strict=True):
            received.update(map(self._plainly, end.heard()) if end in self.clients else end.heard())

    def figures(self) -> object:
        traffic = {key: repr(value) for key, value in self.rig.plane.traffic().items()}
        denied = sum(isinstance(event, PeerDenied) for event in self.rig.events)
        garbage = [(listener.unbound, listener.garbage) for listener in self.rig.listeners.values()]
        streams = self.rig.streams.clients
        return traffic, self.rig.plane.drops(), denied, garbage, streams.unbound, streams.broken

    def _plainly(self, message: bytes) -> object:
        """Without what differs between two of these: transactions and ports."""
        try:
            indication = Message.decode(message)
        except DecodeError:
            return message
        peer, known = (
            indication.get(XOR_PEER_ADDRESS),
            [self.address(peer) for peer in range(len(self.peers))],
        )
        who = known.index(peer) if peer in known else peer and peer.host
        return indication.method, indication.get(DATA), who, tuple(indication.types), len(message)


def _step(chance: random.Random, all_ways: list[History]) -> None:
    client, peer = chance.randrange(CLIENTS), chance.randrange(len(PEER_HOSTS))
    is_stream = client == CLIENTS - 1
    match chance.choice(
        ("send",) * 20
        + ("train",) * 4
        + ("hear", "heard train") * 4
        + ("permit",) * 4
        + ("bind", "time", "policy", "end")
    ):
        case "send":
            far = peer if chance.random() < 0.9 else len(PEER_HOSTS) + chance.randrange(CLIENTS)
            for _ in range(chance.choice((1, 1, 4))):
                draft = Draft(chance, whole=is_stream)
                for history in all_ways:
                    history.rig.say(history.clients[client], draft.write(history.address(far)))
        case "train":
            # Some of one shape, and an end that may have another.
            draft, end = Draft(chance, whole=True), Draft(chance, whole=True)
            count = chance.randrange(1, 8)
            for history in all_ways:
                far_address = history.address(peer)
                one, last = draft.write(far_address), end.write(far_address)
                history.say_train(client, [one] * count + [last] * (len(last) <= len(one)))
        case "heard train":
            data, count = chance.randbytes(chance.choice((1, 2, 3, 172, 1200))), chance.randrange(1, 10)
            for history in all_ways:
                history.hear_train(client, peer, data, count)
        case "hear":
            data = chance.randbytes(chance.choice((0, 1, 2, 3, 172, 1200)))
            for history in all_ways:
                history.hear(client, peer, data)
        case "permit":
            ours = len(PEER_HOSTS) + chance.randrange(CLIENTS)
            for history in all_ways:
                for far in (*range(len(PEER_HOSTS)), ours) if peer else (ours,):
                    history.permit(client, far)
        case "bind":
            for history in all_ways:
                history.bind(client, peer)
        case "time":
            seconds = chance.random() * 150
            for history in all_ways:
                history.rig.clock.now += seconds
        case "policy":
            denied = chance.random() < 0.3
            for history in all_ways:
                history.rig.deny(history.peers[peer].address, denied)
        case "end":
            is_over = chance.random() < 0.4
            for history in all_ways:
                if is_over:
                    history.release(client)
                for one in range(CLIENTS) if not is_over else ():
                    history.allocate(one)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_histories_end_as_the_core_would_have_them(mover, has_ipv6, seed):
    chance = random.Random(seed)
    both = [History("core"), History(mover)]
    try:
        for history in both:
            await history.start()
            for client in range(CLIENTS):
                for peer in range(len(PEER_HOSTS)):
                    history.permit(client, peer)
        for number in range(STEPS):
            _step(chance, both)
            # What changes the flows comes when all is read.
            if number % 4 == 3:
                await until_quiet_and_alike(both)
        arrived = sum(received.total() for received in both[0].received[CLIENTS:])
        assert arrived > STEPS / 10
        # Else nothing was compared but the core with itself.
        assert both[1].rig.asked < both[0].rig.asked - arrived / 5
        traffic = both[1].rig.plane.traffic()
        assert traffic[Transport.UDP].packets_to_peer
        assert traffic[Transport.TCP].packets_to_peer
    finally:
        for history in both:
            history.rig.close()
