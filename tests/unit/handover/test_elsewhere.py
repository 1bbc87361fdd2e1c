"""While both processes live, each knows which relayed addresses the other has."""

import asyncio
import socket

from stunwire import TransportAddress
from turnrelay.core.addresses import PeerAddress, RelayedAddress
from turnrelay.core.protocols import DenyRule
from turnrelay.handover.elsewhere import AlsoElsewhere, Elsewhere
from unit.core.conftest import FakePeers

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


def test_it_is_a_fair_peer_for_as_long_as_it_lives():
    elsewhere = both()
    policy = AlsoElsewhere(FakePeers(denied_hosts={THERE.host}), elsewhere)
    assert policy.check(PeerAddress(THERE)) is None
    elsewhere.ended([THERE, THERE])
    assert policy.check(PeerAddress(THERE)) is DenyRule.SPECIAL_PURPOSE
    assert policy.check(PeerAddress(ALSO_THERE)) is None


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
