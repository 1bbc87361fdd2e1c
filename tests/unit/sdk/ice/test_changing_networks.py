"""Interfaces that come and go, paths that die, and what takes their place."""

from peerpath.ice import AddressPolicy, AgentOptions, AgentState, CandidateType, ConsentLost
from unit.sdk.ice.duet import Duet, host_candidate, relayed_candidate

WIFI, MOBILE = (
    host_candidate("192.0.2.1", foundation="1"),
    host_candidate("198.51.100.1", preference=100, foundation="2"),
)
PEER = host_candidate("192.0.2.2")
RELAY_A, RELAY_B = relayed_candidate("203.0.113.1", 50001), relayed_candidate("203.0.113.2", 50002)


def is_relayed(packet):
    return packet.local.host.startswith("203.") or packet.remote.host.startswith("203.")


def connected(*candidates, **choices):
    duet = Duet(**choices)
    duet.give(duet.a, *candidates)
    duet.give(duet.b, PEER, RELAY_B)
    duet.start()
    duet.run(2)
    return duet


def test_another_pair_takes_over_when_the_interface_of_the_path_goes_down():
    duet = connected(WIFI, RELAY_A)
    duet.run(10)
    assert not duet.a.agent.path.is_relayed
    duet.do(duet.a, duet.a.agent.remove_base(WIFI.base, "the interface is gone", duet.now))
    duet.run(10.1)
    assert duet.a.agent.path.is_relayed
    duet.send(duet.a, b"by the relay")
    duet.run(12)
    assert duet.b.data == [b"by the relay"]
    assert duet.a.agent.state is duet.b.agent.state is AgentState.COMPLETED


def test_a_new_interface_gets_used_when_the_old_one_is_gone():
    duet = connected(WIFI)
    duet.do(duet.a, duet.a.agent.remove_base(WIFI.base, "the interface is gone", duet.now))
    assert duet.a.agent.state is AgentState.DISCONNECTED
    duet.give(duet.a, MOBILE)
    duet.run(4)
    assert duet.a.agent.path.local.base == MOBILE.base
    duet.send(duet.a, b"from elsewhere")
    duet.run(5)
    assert duet.b.data == [b"from elsewhere"]
    # The peer follows as soon as it hears that the new pair was nominated.
    assert duet.b.agent.path.remote.address == MOBILE.address


def test_a_better_interface_is_moved_to_without_a_restart():
    duet = connected(MOBILE)
    duet.give(duet.a, WIFI)
    duet.run(4)
    assert duet.a.agent.path.local.base == WIFI.base
    assert duet.b.agent.path.remote.address == WIFI.address
    assert duet.a.agent.state is duet.b.agent.state is AgentState.COMPLETED


def test_a_path_that_goes_silent_is_left_for_another_before_consent_runs_out():
    duet = connected(WIFI, RELAY_A)
    duet.run(10)
    assert not duet.a.agent.path.is_relayed
    duet.passes = is_relayed
    duet.run(32)
    for player in (duet.a, duet.b):
        assert player.agent.path is not None
        assert player.agent.path.is_relayed
    duet.run(60)
    assert duet.a.agent.state is duet.b.agent.state is AgentState.COMPLETED
    duet.send(duet.b, b"still here")
    duet.run(61)
    assert duet.a.data == [b"still here"]


def test_a_path_that_its_user_doubts_is_left_for_another_at_once():
    duet = connected(WIFI, RELAY_A)
    duet.run(10)
    duet.passes = is_relayed
    for player in (duet.a, duet.b):
        duet.do(player, player.agent.doubt(duet.now))
    duet.run(11)
    assert duet.a.agent.path.is_relayed
    assert duet.b.agent.path.is_relayed
    duet.send(duet.a, b"by the relay")
    duet.run(12)
    assert duet.b.data == [b"by the relay"]


def test_a_path_that_was_doubted_for_no_reason_is_kept():
    duet = connected(WIFI, RELAY_A)
    duet.run(10)
    duet.do(duet.a, duet.a.agent.doubt(duet.now))
    duet.run(11)
    assert not duet.a.agent.path.is_relayed
    assert not duet.b.agent.path.is_relayed
    assert duet.a.agent.state is duet.b.agent.state is AgentState.COMPLETED


def test_and_it_comes_back_when_the_direct_path_does():
    duet = connected(WIFI, RELAY_A)
    duet.run(10)
    duet.passes = is_relayed
    duet.run(26)
    assert duet.a.agent.path.is_relayed
    duet.passes = lambda _: True
    duet.run(40)
    assert not duet.a.agent.path.is_relayed
    assert not duet.b.agent.path.is_relayed


def test_a_peer_whose_address_changes_on_the_way_is_followed():
    """A NAT that forgets its mappings: the same peer comes from somewhere else."""
    duet = connected(WIFI)
    duet.run(10)
    # What b sends now seems to come from another port.
    moved = host_candidate("192.0.2.2", 4999)
    duet._owner[moved.base] = duet.b
    duet.passes = lambda packet: packet.remote != PEER.base
    deliver = duet._deliver

    def translate(packet):
        if packet.local == PEER.base:
            packet = type(packet)(packet.data, moved.base, packet.remote)
        elif packet.remote == moved.base:
            packet = type(packet)(packet.data, packet.local, PEER.base)
        deliver(packet)

    duet._deliver = translate
    duet.run(60)
    assert duet.a.agent.path.remote.address == moved.base
    duet.send(duet.a, b"to the new address")
    duet.run(61)
    assert duet.b.data == [b"to the new address"]


def test_the_relay_ends():
    duet = connected(RELAY_A, options=AgentOptions())
    duet.do(duet.a, duet.a.agent.remove_base(RELAY_A.base, "allocation expired", duet.now))
    assert duet.a.agent.path is None
    assert duet.a.agent.state in (AgentState.DISCONNECTED, AgentState.FAILED)


def test_a_relay_that_refuses_the_peer_fails_its_pairs_with_the_reason():
    duet = Duet(passes=lambda _: False)
    duet.give(duet.a, RELAY_A)
    duet.give(duet.b, PEER)
    duet.start()
    duet.do(duet.a, duet.a.agent.refuse(RELAY_A.base, "192.0.2.2", "403 from turn:x", duet.now))
    assert [pair.failure for pair in duet.a.agent.pairs] == ["403 from turn:x"]
    assert duet.a.agent.state is AgentState.FAILED


def test_families_are_not_mixed_and_both_are_tried():
    six_a, six_b = host_candidate("2001:db8::1"), host_candidate("2001:db8::2")
    duet = Duet()
    duet.give(duet.a, WIFI, six_a)
    duet.give(duet.b, PEER, six_b)
    duet.start()
    duet.run(1)
    pairs = {(":" in pair.local.base.host, ":" in pair.remote.address.host) for pair in duet.a.agent.pairs}
    assert pairs <= {(True, True), (False, False)}
    assert duet.a.agent.state is AgentState.COMPLETED


def test_a_family_that_does_not_work_is_no_obstacle():
    duet = Duet(passes=lambda packet: ":" not in packet.remote.host)
    duet.give(duet.a, host_candidate("2001:db8::1", foundation="6"), WIFI)
    duet.give(duet.b, host_candidate("2001:db8::2", foundation="6"), PEER)
    duet.start()
    duet.run(0.5)
    assert duet.a.agent.path.local.type is CandidateType.HOST
    assert duet.a.when(type(duet.a.selections[0]))[0] < 0.15
    assert not duet.a.said(ConsentLost)


def test_link_local_addresses_are_paired_among_themselves_only():
    options = AgentOptions(addresses=AddressPolicy(allow=["fe80::/10"]))
    duet = Duet(options=options)
    duet.give(duet.a, host_candidate("fe80::1"), host_candidate("2001:db8::1"))
    duet.give(duet.b, host_candidate("fe80::2"), host_candidate("2001:db8::2"))
    duet.start()
    pairs = {(pair.local.base.host[:4], pair.remote.address.host[:4]) for pair in duet.a.agent.pairs}
    assert pairs == {("fe80", "fe80"), ("2001", "2001")}
