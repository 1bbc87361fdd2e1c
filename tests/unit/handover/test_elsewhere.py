"""While both processes live, each knows which relayed addresses the other has."""

import asyncio
import socket

from stunwire import TransportAddress
from turnrelay.core.addresses import PeerAddress, RelayedAddress
from turnrelay.core.protocols import DenyRule
from turnrelay.core.state import State
from turnrelay.handover.elsewhere import AlsoElsewhere, Elsewhere
from unit.core.conftest import World

THERE = RelayedAddress(TransportAddress("198.51.100.1", 50000))
ALSO_THERE = RelayedAddress(TransportAddress("198.51.100.1", 50001))
LOCAL, ALSO_LOCAL = ("10.0.0.1", 50000), ("10.0.0.1", 50001)


def both() -> Elsewhere:
    return Elsewhere({THERE: LOCAL, ALSO_THERE: ALSO_LOCAL})


def test_it_is_reached_at_its_local_address_and_known_by_the_other():
    elsewhere = both()
    assert elsewhere.reach(THERE) == LOCAL
    assert elsewhere.seen_from(*LOCAL) == THERE.host
    assert elsewhere.reach(THERE, tcp=True) is None
    assert elsewhere.seen_from("10.0.0.1", 50002) is None


def beside(elsewhere: Elsewhere) -> State:
    """Of a core that serves clients while the other process lives."""
    world = World(tcp_relays=True)
    world.peers.denied_hosts.add(THERE.host)
    world.state.processes = AlsoElsewhere(world.state.processes, elsewhere)
    return world.state


def test_it_is_a_fair_peer_for_as_long_as_it_lives():
    elsewhere = both()
    state = beside(elsewhere)
    assert state.check_peer(PeerAddress(THERE)) is None
    elsewhere.ended([THERE, THERE])
    assert state.check_peer(PeerAddress(THERE)) is DenyRule.SPECIAL_PURPOSE
    assert state.check_peer(PeerAddress(ALSO_THERE)) is None


def test_the_tcp_port_of_its_number_is_this_machines_own():
    """It relays UDP: what takes TCP there is some other program."""
    assert beside(both()).check_tcp_peer(PeerAddress(THERE)) is DenyRule.SPECIAL_PURPOSE


async def test_each_side_hears_what_ends_on_the_other_and_that_it_is_gone():
    ours, theirs = socket.socketpair()
    here, there = both(), Elsewhere({})
    live = {THERE, ALSO_THERE}
    following = asyncio.create_task(here.follow(ours, [], set))
    telling = asyncio.create_task(there.follow(theirs, [THERE, ALSO_THERE], lambda: live))
    async with asyncio.timeout(10):
        live.discard(THERE)
        while here.reach(THERE) is not None:
            await asyncio.sleep(0.05)
        assert here.reach(ALSO_THERE) == ALSO_LOCAL
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        await following
    assert not here.reach(ALSO_THERE)
