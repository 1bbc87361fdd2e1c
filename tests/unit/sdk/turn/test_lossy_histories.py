"""Random histories with the server's core over a lossy cable: what the client believes to have, it has."""

import random

import pytest
from peerpath.turn import (
    ChannelBound,
    ChannelRefused,
    Ended,
    PeerData,
    PermissionInstalled,
    PermissionRefused,
    Transmit,
)
from stunwire import DATA, XOR_PEER_ADDRESS, Message, MessageClass, Method, TransportAddress
from unit.sdk.turn.relay_in_memory import Cable, Relay, joined

PEERS = [TransportAddress(f"8.8.4.{number // 3}", 4000 + number) for number in range(9)]


class LossyCable(Cable):
    """Loses requests and answers, and repeats some."""

    def lossy(self, seed, loss):
        self.random, self.loss = random.Random(seed), loss
        return self

    def do(self, outputs):
        said, queue = [], list(outputs)
        while queue:
            output = queue.pop(0)
            if not isinstance(output, Transmit):
                said.append(output)
                continue
            self.transmitted.append(output.data)
            for _ in range(self._copies()):
                for answer in self.relay.receive(output.data, self.path, self.now):
                    for _ in range(self._copies()):
                        queue += self.client.receive(answer, self.now)
        self.outputs += said
        return said

    def _copies(self):
        drawn = self.random.random()
        return 0 if drawn < self.loss else 2 if drawn > 0.95 else 1


class Believed:
    """What the client told that it has."""

    def __init__(self):
        self.hosts, self.peers, self.over = set(), set(), False

    def note(self, outputs):
        for output in outputs:
            if isinstance(output, PermissionInstalled):
                self.hosts.add(output.host)
            elif isinstance(output, PermissionRefused):
                self.hosts.discard(output.host)
            elif isinstance(output, ChannelBound):
                self.peers.add(output.peer)
            elif isinstance(output, ChannelRefused):
                self.peers.discard(output.peer)
            elif isinstance(output, Ended):
                self.over = True


@pytest.mark.parametrize("seed", range(25))
def test_what_the_client_believes_to_have_it_has(seed):
    client = joined(Relay(nonce_lifetime=400)).client
    cable = LossyCable(Relay(nonce_lifetime=400), client).lossy(seed, loss=0.25)
    choose = random.Random(seed)
    believed = Believed()
    believed.note(cable.start())
    while cable.now < 3600 and not believed.over:
        peer = choose.choice(PEERS)
        act = choose.choice(["permit", "bind", "send", "wait", "wait"])
        if act == "permit":
            believed.note(cable.do(client.permit([peer], cable.now)))
        elif act == "bind":
            believed.note(cable.do(client.bind(peer, cable.now)))
        elif act == "send":
            believed.note(cable.do(client.send(peer, b"data", cable.now)))
        else:
            believed.note(cable.run_until(cable.now + choose.uniform(0.1, 60)))
        if believed.over or not client.relayed:
            continue
        allocation = cable.relay.server.state.allocations[cable.path]
        for host in believed.hosts:
            assert allocation.permits(TransportAddress(host, 1), cable.now), (cable.now, host)
        for bound in believed.peers:
            assert allocation.channels_by_peer[bound].expires_at > cable.now
    # A quarter of all packets lost each way is no reason to lose the allocation.
    assert not believed.over
    assert believed.hosts


@pytest.mark.parametrize("seed", range(10))
def test_noise_from_the_server_never_raises(seed):
    noise = random.Random(seed)
    cable = joined()
    cable.start()
    cable.do(cable.client.bind(PEERS[0], 0))
    kinds = [*MessageClass], [*Method, 0x7FF]
    heard = []
    for _ in range(2000):
        if noise.random() < 0.3:
            frame = noise.randbytes(noise.randrange(0, 60))
        else:
            message = Message(noise.choice(kinds[0]), noise.choice(kinds[1]))
            message.add(XOR_PEER_ADDRESS, noise.choice(PEERS)).add(DATA, b"?")
            frame = message.encode()
            if noise.random() < 0.3:
                place = noise.randrange(len(frame))
                frame = frame[:place] + noise.randbytes(1) + frame[place + 1 :]
        heard += cable.client.receive(frame, 1)

    assert {type(output) for output in heard} <= {PeerData}
    assert {output.peer.host for output in heard} <= {PEERS[0].host}
