"""The SDK's agent and aioice's, both ways: who initiates, who relays, and what data does."""

import asyncio

import aioice
import aioice.ice
import pytest
from aioice import TransportPolicy
from peerpath.ice import AddressPolicy, AgentOptions, CandidateType, Credentials, Description, Pacer, Role
from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.sdp import format_candidate, parse_candidate
from support.relay import uri_of

LOOPBACK = AddressPolicy(allow=["127.0.0.0/8"])
ROLES = [Role.CONTROLLING, Role.CONTROLLED]


@pytest.fixture(params=["control", "subject"])
def relay(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def _aioice_uses_loopback(monkeypatch):
    # It leaves 127.0.0.1 out of its host candidates otherwise.
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


async def converse(ours, theirs, *, bundled):
    """Signaling by SDP lines, then data both ways. `bundled`: our candidates all at once, or one by one."""
    await ours.gather()
    await theirs.gather_candidates()
    if bundled:
        async for _ in ours.candidates():
            pass
    theirs.remote_username = ours.description.credentials.ufrag
    theirs.remote_password = ours.description.credentials.password
    remote = tuple(parse_candidate(f"candidate:{each.to_sdp()}") for each in theirs.local_candidates)
    credentials = Credentials(theirs.local_username, theirs.local_password)
    ours.set_remote(Description(credentials, remote, options=frozenset(), end_of_candidates=True))
    connecting = asyncio.create_task(theirs.connect())
    if bundled:
        for candidate in ours.description.candidates:
            line = format_candidate(candidate).removeprefix("candidate:")
            await theirs.add_remote_candidate(aioice.Candidate.from_sdp(line))
    else:
        async for local in ours.candidates():
            line = format_candidate(local.candidate).removeprefix("candidate:")
            await theirs.add_remote_candidate(aioice.Candidate.from_sdp(line))
    await theirs.add_remote_candidate(None)
    await asyncio.wait_for(connecting, 15)
    await ours.nominated(within=10)
    for number in range(100):
        ours.send(b"%d from us" % number)
        assert await asyncio.wait_for(theirs.recv(), 5) == b"%d from us" % number
        await theirs.send(b"%d from them" % number)
        assert await asyncio.wait_for(ours.recv(), 5) == b"%d from them" % number


@pytest.mark.parametrize("bundled", [True, False], ids=["at once", "trickled"])
@pytest.mark.parametrize("role", ROLES)
async def test_direct(role, bundled):
    theirs = aioice.Connection(ice_controlling=role is Role.CONTROLLED)
    options = AgentOptions(addresses=LOOPBACK)
    async with IceEndpoint(role, options=options, hosts=lambda: ["127.0.0.1"], pacer=Pacer()) as ours:
        try:
            await converse(ours, theirs, bundled=bundled)
            assert ours.path.local.type is CandidateType.HOST
        finally:
            await theirs.close()


@pytest.mark.parametrize("who", ["ours", "theirs", "both"])
@pytest.mark.parametrize("role", ROLES)
async def test_relayed(relay, role, who):
    access = relay.access
    theirs = aioice.Connection(
        ice_controlling=role is Role.CONTROLLED,
        turn_server=(relay.site.address, relay.port) if who != "ours" else None,
        turn_username=access.username,
        turn_password=access.password,
        transport_policy=TransportPolicy.RELAY if who != "ours" else TransportPolicy.ALL,
    )
    servers = [IceServer(uri_of(relay, "udp"), access.username, access.password)] if who != "theirs" else []
    options = AgentOptions(addresses=LOOPBACK, relay_only=who != "theirs")
    endpoint = IceEndpoint(
        role, servers, options=options, hosts=lambda: ["127.0.0.1"], pacer=Pacer(), patience=10
    )
    async with endpoint as ours:
        try:
            await converse(ours, theirs, bundled=True)
            assert ours.path.is_relayed
        finally:
            await theirs.close()


async def test_consent_outlives_theirs():
    """aioice gives up after six unanswered consent checks of its own: ours answers them."""
    theirs = aioice.Connection(ice_controlling=False)
    options = AgentOptions(addresses=LOOPBACK)
    endpoint = IceEndpoint(Role.CONTROLLING, options=options, hosts=lambda: ["127.0.0.1"], pacer=Pacer())
    async with endpoint as ours:
        try:
            await converse(ours, theirs, bundled=True)
            await asyncio.sleep(12)
            ours.send(b"still there")
            assert await asyncio.wait_for(theirs.recv(), 5) == b"still there"
        finally:
            await theirs.close()
