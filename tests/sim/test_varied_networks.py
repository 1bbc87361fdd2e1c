"""Networks that nobody thought of: drawn by hypothesis, judged by the same property."""

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peerpath.ice import AgentOptions, Role

from sim.nat import Dependence, NatKind, Ports
from sim.network import Impairments
from sim.scenario import play
from sim.theory import direct_path_exists

EXAMPLES = int(os.environ.get("SIM_EXAMPLES", "300"))

nat_kinds = st.builds(
    NatKind,
    mapping=st.sampled_from(Dependence),
    filtering=st.sampled_from(Dependence),
    ports=st.sampled_from(Ports),
    hairpin=st.booleans(),
    timeout=st.sampled_from([30.0, 120.0]),
)
accesses = st.lists(nat_kinds, max_size=3).map(tuple)
calm = st.builds(
    Impairments,
    delay=st.floats(0.001, 0.15),
    jitter=st.floats(0, 0.05),
    loss=st.just(0.0),
    duplication=st.floats(0, 0.2),
)
rough = st.builds(
    Impairments,
    delay=st.floats(0.001, 0.15),
    jitter=st.floats(0, 0.05),
    loss=st.floats(0, 0.1),
    duplication=st.floats(0, 0.2),
)
roles = st.sampled_from(
    [
        (Role.CONTROLLING, Role.CONTROLLED),
        (Role.CONTROLLING, Role.CONTROLLING),
        (Role.CONTROLLED, Role.CONTROLLED),
    ]
)
varied = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)


@varied
@given(
    a=accesses, b=accesses, internet=calm, roles=roles, seed=st.integers(0, 2**32), relays=st.integers(1, 2)
)
def test_the_best_path_is_found_whatever_the_boxes(a, b, internet, roles, seed, relays):
    direct = direct_path_exists(a, b)
    stage = play(a=a, b=b, internet=internet, roles=roles, seed=seed, relays=relays, direct=direct, until=60)
    assert stage.is_connected(direct=direct)


@varied
@given(
    a=accesses,
    b=accesses,
    internet=rough,
    seed=st.integers(0, 2**32),
    signaling_delay=st.floats(0.01, 2.0),
    renomination=st.booleans(),
)
def test_never_none_while_a_relay_is_reachable(a, b, internet, seed, signaling_delay, renomination):
    options = AgentOptions(renomination=renomination)
    stage = play(
        a=a,
        b=b,
        internet=internet,
        seed=seed,
        signaling_delay=signaling_delay,
        options=options,
        until=90,
    )
    assert stage.is_connected()
    # What is found stays: nothing is lost over the following minute of consent checks.
    stage.world.run(stage.world.now + 60)
    assert stage.is_connected()


@varied
@given(a=accesses, b=accesses, seed=st.integers(0, 2**32))
def test_relay_only_peers_meet_and_name_no_address_of_their_own(a, b, seed):
    stage = play(a=a, b=b, seed=seed, options=AgentOptions(relay_only=True), until=60)
    assert stage.is_connected()
    for host in (stage.a, stage.b):
        for candidate in host.stack.description.candidates:
            assert candidate.address.host.startswith("203.0.113.")
            assert candidate.related is None
