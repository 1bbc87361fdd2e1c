"""Fallbacks that were not needed at first begin where what came before turns out to lead nowhere."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from peerpath.fallbacks import Fallback
from peerpath.ice.outputs import AgentState
from peerpath.ice.relay_plan import RelayOptions
from support.ports import loopback_address
from support.relay import Access, Site
from support.relayed_ends import ACCESS, ON_LOOPBACK, Ends, uris
from support.turnrelay_server import TurnRelayServer

WAYS = (Fallback.TURN, Fallback.HTTP_TUNNEL)


@pytest.fixture(scope="module")
def relays(scratch: Path) -> Iterator[dict[str, TurnRelayServer]]:
    """One that carries nothing to anybody here, and one that does."""
    strict = Access(ACCESS.username, ACCESS.password)
    with loopback_address() as one, loopback_address() as other:
        flags = ["--shared", f"{other}:443"]
        with (
            TurnRelayServer(Site.prepare(scratch / "strict", one), strict) as refusing,
            TurnRelayServer(Site.prepare(scratch / "useful", other), ACCESS, flags=flags) as useful,
        ):
            yield {"refusing": refusing, "useful": useful}


def fallbacks(end) -> dict[str, str]:
    return {entry.fallback: entry.reason for entry in end.report().fallbacks if entry.tried}


async def test_a_relay_that_carries_nothing_to_the_peer_is_not_the_last_word(relays):
    useful = uris(relays["useful"])["wss"]
    servers = [uris(relays["refusing"])["tcp"], useful]
    options = RelayOptions(WAYS, path_patience=0.5)
    async with Ends(relays["useful"], servers, options, other_uris=[useful]) as ends:
        await ends.connected()
        assert ends[0].path.local.via == ends[1].path.local.via == "wss"
        assert fallbacks(ends[0]) == {"turn": "1 relayed address", "http_tunnel": "1 relayed address"}


async def test_where_every_fallback_has_been_tried_it_fails_at_last(relays):
    options = RelayOptions(WAYS, path_patience=0.5)
    refusing = relays["refusing"]
    servers, others = [uris(refusing)["tcp"], uris(refusing)["ws"]], [uris(relays["useful"])["wss"]]
    async with Ends(relays["useful"], servers, options, other_uris=others) as ends, asyncio.timeout(30):
        while ends[0].state is not AgentState.FAILED:
            await asyncio.sleep(0.05)
        assert set(fallbacks(ends[0])) == {"turn", "http_tunnel"}


async def test_when_the_direct_path_is_lost_the_fallbacks_begin_that_it_made_needless(relays):
    hosts = ["127.0.0.1"]
    servers = ["turn:127.0.0.1:9?transport=udp", uris(relays["useful"])["wss"]]
    options = RelayOptions(WAYS, head_start=60)
    async with Ends(relays["useful"], servers, options, ON_LOOPBACK, lambda: hosts) as ends:
        await ends.connected()
        assert not ends[0].path.is_relayed
        assert fallbacks(ends[0]) == {"turn": "no relayed address yet"}
        hosts.clear()  # the interface is gone
        async with asyncio.timeout(20):
            while ends[0].path is None or not ends[0].path.is_relayed:
                await asyncio.sleep(0.05)
        assert ends[0].path.local.via == "wss"
        assert fallbacks(ends[0])["http_tunnel"] == "1 relayed address"
        async with asyncio.timeout(20):
            while ends[1].path is None or ends[1].path.remote.address != ends[0].path.local.candidate.address:
                await asyncio.sleep(0.05)
        await ends.must_talk()
