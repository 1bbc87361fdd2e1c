"""punch() over real sockets on loopback."""

import asyncio

import pytest
from peerpath.errors import TraversalError
from peerpath.net.ports import bindable_port
from peerpath.punch import punch
from unit.sdk.stun.servers_on_loopback import Names


async def test_two_that_punch_at_the_same_time_meet_and_can_talk():
    one, two = (("127.0.0.1", bindable_port(0, 0)) for _ in range(2))
    async with asyncio.timeout(5):
        first, second = await asyncio.gather(punch(two, one), punch(one, two))
    heard = asyncio.get_running_loop().create_future()
    second.socket.on_datagram = lambda data, source: heard.set_result((data, source))
    first.socket.send(b"hello", first.remote)

    assert await asyncio.wait_for(heard, 2) == (b"hello", one)
    assert first.mapped == one
    first.close()
    second.close()


async def test_nobody_there_is_told_attempt_by_attempt():
    with pytest.raises(TraversalError) as failed:
        await punch(("127.0.0.1", bindable_port(0, 0)), ("127.0.0.1", 0), seconds=0.1, attempts=1)
    assert [str(entry) for entry in failed.value.report] == [
        "attempt 1: nothing came in from the peer (after 0.1 s)"
    ]


async def test_a_peer_by_name_is_punched_at_the_first_of_its_addresses_that_there_is_a_way_to():
    # There is no interface of that number.
    names = Names({"peer.test": ["fe80::7%99999", "127.0.0.1"]})
    one, two = (bindable_port(0, 0) for _ in range(2))
    async with asyncio.timeout(5):
        holes = await asyncio.gather(
            punch(("peer.test", two), ("", one), resolver=names),
            punch(("peer.test", one), ("", two), resolver=names),
        )
    assert [hole.remote for hole in holes] == [("127.0.0.1", two), ("127.0.0.1", one)]
    for hole in holes:
        hole.close()


async def test_a_name_that_leads_nowhere_is_told_at_once():
    with pytest.raises(TraversalError, match=r"No hole to peer\.test:9 can be punched"):
        await punch(("peer.test", 9), resolver=Names())
