"""What happens to a path over time: hours of silence, moves, boxes that restart, relays that go."""

from dataclasses import replace

import pytest
from peerpath.ice import AgentState, ConsentLost

from sim.access import build_access
from sim.kinds import HOME, KINDS
from sim.network import Impairments
from sim.scenario import INTERNET_DELAY, play


def exchange(stage, tag):
    """One datagram each way; True if both arrive within a second."""
    before = len(stage.a.received), len(stage.b.received)
    stage.a.send(b"a " + tag)
    stage.b.send(b"b " + tag)
    stage.world.run(stage.world.now + 1)
    return (len(stage.a.received), len(stage.b.received)) == (before[0] + 1, before[1] + 1)


def run(stage, seconds):
    stage.world.run(stage.world.now + seconds)


@pytest.mark.parametrize(
    ("a", "b"), [("port-restricted", "cgnat"), ("symmetric", "symmetric"), ("open", "udp-blocked")]
)
def test_two_hours_of_silence(a, b):
    stage = play(a=a, b=b)
    for _ in range(4):
        run(stage, 1800)
        assert exchange(stage, b"after half an hour")


def test_a_mapping_timeout_of_thirty_seconds_is_no_problem():
    kinds = (replace(HOME, timeout=30),)
    stage = play(a=kinds, b=kinds, direct=True)
    run(stage, 600)
    assert exchange(stage, b"still")
    assert not stage.a.path.is_relayed


@pytest.mark.parametrize("target", ["open", "port-restricted", "symmetric"])
def test_a_host_that_moves_keeps_the_session_without_signaling_new_credentials(target):
    stage = play(a="port-restricted", b="port-restricted", direct=True)
    run(stage, 5)
    ufrag = stage.a.stack.agent.credentials.ufrag
    realm, address = build_access(KINDS[target], stage.internet, stage.addresses, "192.168.77.5")
    moved_at = stage.world.now
    stage.a.move(realm, address)
    stage.world.run(moved_at + 20, lambda: stage.a.path is not None)
    assert stage.world.now - moved_at < 2
    # The peer follows once its own path turns silent, or when it is told of the new nomination.
    run(stage, 25)
    assert exchange(stage, b"after the move")
    assert stage.a.stack.agent.credentials.ufrag == ufrag


def test_a_box_that_restarts_is_survived():
    stage = play(a="port-restricted", b="full-cone", direct=True)
    run(stage, 20)
    gateway = stage.a._realm.gateway
    gateway.forget()
    run(stage, 45)
    assert exchange(stage, b"after the restart of the box")


def test_a_relay_that_dies_is_replaced_by_the_other():
    stage = play(a="symmetric", b="symmetric", relays=2)
    run(stage, 10)
    in_use = stage.a.path.local if stage.a.path.local.type.value == "relay" else stage.a.path.remote
    dead = next(server for server in stage.servers if server.address.host == in_use.address.host)
    dead.is_down = True
    run(stage, 60)
    assert stage.is_connected()
    assert exchange(stage, b"by the other relay")


def test_an_ice_restart_across_nats_loses_no_packet():
    stage = play(a="port-restricted", b="address-restricted", direct=True)
    run(stage, 5)
    for number in range(50):
        if number == 10:
            stage.a.restart()
        stage.a.send(b"%d" % number)
        run(stage, 0.05)
    run(stage, 2)
    assert [data for _, data in stage.b.received] == [b"%d" % number for number in range(50)]
    assert stage.a.stack.agent.state is AgentState.COMPLETED
    run(stage, 60)
    assert exchange(stage, b"afterwards")


def test_consent_survives_a_tenth_of_loss_for_hours():
    lossy = Impairments(delay=INTERNET_DELAY, loss=0.1)
    stage = play(a="port-restricted", b="port-restricted", internet=lossy, direct=True, until=60)
    losses = []
    for host in (stage.a, stage.b):
        carry_out = host.do
        host.do = lambda outputs, carry_out=carry_out: (
            losses.extend(output for output in outputs if isinstance(output, ConsentLost)),
            carry_out(outputs),
        )
    run(stage, 7200)
    assert not losses
    assert stage.is_connected()


def test_a_direct_path_is_moved_to_when_the_firewall_opens_later():
    """Relay first; then checks that were lost before get through, and the path is upgraded underneath."""
    stage = play(a="symmetric", b="symmetric")
    run(stage, 1)
    assert stage.a.path.is_relayed
    # The box of b is replaced by one that filters nothing and maps independently.
    realm, address = build_access(KINDS["full-cone"], stage.internet, stage.addresses, "192.168.88.5")
    stage.b.move(realm, address)
    run(stage, 40)
    assert not stage.a.path.is_relayed
    assert exchange(stage, b"directly")
