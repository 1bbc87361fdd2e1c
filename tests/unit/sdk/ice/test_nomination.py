"""Who is nominated, when, and what follows (RFC 8445 sections 7.3.1.5 and 8.1)."""

from dataclasses import replace
from random import Random

import pytest
from peerpath.ice import (
    AgentOptions,
    AgentState,
    Credentials,
    Description,
    IceAgent,
    Role,
    Transmit,
)
from peerpath.ice.connectivity_check import NOMINATION, form_request
from stunwire import USE_CANDIDATE, DecodeError, Message, MessageClass, TransportAddress
from unit.sdk.ice.duet import Duet, host_candidate, relayed_candidate

HOST_A, HOST_B = host_candidate("192.0.2.1"), host_candidate("192.0.2.2")
RELAY_A, RELAY_B = relayed_candidate("203.0.113.1", 50001), relayed_candidate("203.0.113.2", 50002)


def message_of(packet):
    try:
        return Message.decode(packet.data)
    except DecodeError:
        return None


def nominations(duet, name):
    """(time, remote host) of each check with USE-CANDIDATE, repetitions included."""
    return [
        (at, packet.remote.host)
        for at, sender, packet in duet.sent
        if sender == name
        and (message := message_of(packet)) is not None
        and message.message_class is MessageClass.REQUEST
        and USE_CANDIDATE in message
    ]


def only_relayed(packet):
    """The direct way is blocked."""
    return packet.local.host.startswith("203.") or packet.remote.host.startswith("203.")


def with_relays(**choices):
    duet = Duet(**choices)
    duet.give(duet.a, HOST_A, RELAY_A)
    duet.give(duet.b, HOST_B, RELAY_B)
    return duet


def test_only_the_controlling_agent_nominates():
    duet = with_relays()
    duet.start()
    duet.run(2)
    assert nominations(duet, "a")
    assert not nominations(duet, "b")


def test_a_direct_pair_is_nominated_at_once_when_nothing_better_is_open():
    duet = Duet()
    duet.give(duet.a, HOST_A)
    duet.give(duet.b, HOST_B)
    duet.start()
    duet.run(2)
    [(at, host)] = nominations(duet, "a")
    assert host == "192.0.2.2"
    assert at <= 0.05 + 1e-9  # the slot after that of the first check


def test_regular_nomination_names_one_pair():
    options = AgentOptions(renomination=False)
    duet = with_relays(options=options)
    duet.start()
    duet.run(5)
    assert {host for _, host in nominations(duet, "a")} == {"192.0.2.2"}


def test_a_relayed_pair_waits_while_a_direct_one_may_still_work():
    duet = with_relays(passes=only_relayed)
    duet.start()
    duet.run(5)
    first_valid = duet.a.selections[0]
    at, _ = nominations(duet, "a")[0]
    assert first_valid.path.is_relayed
    valid_at = next(at for at, output in duet.a.outputs if output is first_valid)
    assert at - valid_at == pytest.approx(AgentOptions().relay_grace, abs=0.06)


def test_where_the_first_nomination_is_the_last_it_waits_longer():
    options = AgentOptions(renomination=False)
    duet = with_relays(passes=only_relayed, options=options)
    duet.start()
    duet.run(5)
    at, _ = nominations(duet, "a")[0]
    assert at > options.final_relay_grace


def test_a_better_path_found_later_is_nominated_in_turn():
    blocked = True
    duet = with_relays(passes=lambda packet: only_relayed(packet) or not blocked)
    duet.start()
    duet.run(1.2)
    assert duet.a.agent.path.nominated
    assert duet.a.agent.path.is_relayed
    blocked = False
    duet.run(8)
    for player in (duet.a, duet.b):
        assert not player.agent.path.is_relayed
        assert player.agent.state is AgentState.COMPLETED
    numbers = [
        int.from_bytes(number)
        for _, _, packet in duet.sent
        if (number := message_of(packet).get(NOMINATION)) is not None
    ]
    assert set(numbers) == {1, 2}


def test_a_peer_that_cannot_renominate_is_not_asked_to():
    blocked = True
    options = (AgentOptions(), AgentOptions(renomination=False))
    duet = with_relays(passes=lambda packet: only_relayed(packet) or not blocked, options=options)
    duet.start()
    duet.run(3)
    blocked = False
    duet.run(20)
    assert duet.a.agent.path.is_relayed
    assert len({host for _, host in nominations(duet, "a")}) == 1
    assert not any(NOMINATION in message_of(packet) for _, _, packet in duet.sent)


def test_after_the_nomination_nothing_else_is_checked():
    duet = with_relays(options=AgentOptions(renomination=False))
    duet.start()
    duet.run(2)
    before = len(duet.sent)
    duet.run(3.9)  # the first consent check comes after 4 s at the earliest
    assert len(duet.sent) == before


def test_data_flows_before_the_nomination():
    duet = with_relays(passes=only_relayed)
    duet.start()
    duet.run(0.3)
    assert duet.a.agent.state is AgentState.CONNECTED
    duet.send(duet.a, b"early")
    duet.run(0.4)
    assert duet.b.data == [b"early"]


# -- a controlled agent, and a peer that is played by the test ------------------------------------------


class Puppet:
    """A peer of RFC 5245 that nominates aggressively: USE-CANDIDATE on its very first checks."""

    def __init__(self):
        self.credentials = Credentials("puppet", "p" * 22)
        self.agent = IceAgent(Role.CONTROLLED, random=Random(5))
        self.now = 0.0
        self.agent.add_local_candidate(HOST_B, 0)
        remote = [
            replace(HOST_A.candidate, address=TransportAddress("192.0.2.1", port), priority=port)
            for port in (4000, 4001)
        ]
        description = Description(self.credentials, tuple(remote), options=frozenset())
        self.outputs = self.agent.set_remote(description, 0)

    def check(self, port):
        """A nominating check from this port; the agent's own check of the pair is answered."""
        data, _ = form_request(self.credentials, self.agent.credentials, Role.CONTROLLING, 1, port, 0)
        self.now += 0.1
        remote = TransportAddress("192.0.2.1", port)
        outputs = self.agent.receive(data, HOST_B.base, remote, self.now)
        for output in outputs:
            if isinstance(output, Transmit):
                message = Message.decode(output.data)
                if message.message_class is MessageClass.REQUEST:
                    self.answer(output, message)
        return outputs

    def answer(self, packet, message):
        from peerpath.ice.connectivity_check import form_success

        data = form_success(message, packet.local, self.credentials)
        self.agent.receive(data, packet.local, packet.remote, self.now)


def test_an_early_use_candidate_counts_once_the_pair_is_valid():
    puppet = Puppet()
    puppet.check(4000)
    assert puppet.agent.state is AgentState.COMPLETED
    assert puppet.agent.path.remote.address.port == 4000


def test_of_several_nominated_pairs_the_highest_priority_is_selected():
    puppet = Puppet()
    puppet.check(4000)
    puppet.check(4001)
    assert puppet.agent.path.remote.address.port == 4001
    puppet.check(4000)
    assert puppet.agent.path.remote.address.port == 4001
