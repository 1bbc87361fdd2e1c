"""Candidates behind `.local` names: aioice's responder answers, on a network of its own."""

import asyncio
import contextlib

import pytest
from aioice.mdns import create_mdns_hostname, create_mdns_protocol
from peerpath.ice import AgentOptions, Candidate, CandidateType, Description, Pacer, Role
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.mdns import MulticastResolver
from stunwire import TransportAddress
from support.netns import inside

OURS, THEIRS = "10.77.0.2", "10.77.0.1"


@pytest.fixture
def network(hosts):
    """The responder's host and ours; multicast needs a route where there is no default one."""
    for host in hosts:
        with contextlib.suppress(Exception):
            interface = "left0" if host is hosts[0] else "right0"
            host.ip("route", "add", "224.0.0.0/4", "dev", interface)
    return hosts


@contextlib.asynccontextmanager
async def published(host, name, address):
    with inside(host):
        responder = await create_mdns_protocol()
        await responder.publish(name, address)
    try:
        yield
    finally:
        await responder.close()


async def test_a_name_is_resolved(network):
    theirs, ours = network
    name = create_mdns_hostname()
    async with published(theirs, name, THEIRS):
        with inside(ours):
            assert await MulticastResolver([OURS]).resolve(name) == THEIRS


async def test_a_name_that_nobody_bears(network):
    _, ours = network
    with inside(ours):
        resolver = MulticastResolver([OURS], patience=0.5)
        started = asyncio.get_running_loop().time()
        assert await resolver.resolve("nobody-here.local") is None
        assert asyncio.get_running_loop().time() - started < 2.5


@pytest.mark.parametrize("name", ["example.org", "a.b.local", "x" * 64 + ".local", "*.local", ".local"])
async def test_other_names_are_not_even_asked_for(name):
    assert await MulticastResolver(["127.0.0.1"], patience=60).resolve(name) is None


async def test_a_hundred_names_at_once_are_asked_for_in_turn(network):
    _, ours = network
    with inside(ours):
        resolver = MulticastResolver([OURS], patience=0.1, limit=4)
        names = [f"name-{number}.local" for number in range(20)]
        started = asyncio.get_running_loop().time()
        assert await asyncio.gather(*map(resolver.resolve, names)) == [None] * 20
        assert asyncio.get_running_loop().time() - started > 0.45


async def test_peers_meet_by_name(network):
    theirs, ours = network
    name = create_mdns_hostname()
    a = IceEndpoint(Role.CONTROLLING, hosts=lambda: [OURS], rescan=0, pacer=Pacer(), options=AgentOptions())
    b = IceEndpoint(Role.CONTROLLED, hosts=lambda: [THEIRS], rescan=0, pacer=Pacer(), options=AgentOptions())
    async with published(theirs, name, THEIRS), a, b:
        with inside(ours):
            await a.gather()
        with inside(theirs):
            await b.gather()
        [candidate] = b.description.candidates
        hidden = Candidate(
            CandidateType.HOST,
            TransportAddress(name, candidate.address.port),
            candidate.priority,
            candidate.foundation,
        )
        b.set_remote(Description(a.description.credentials))
        with inside(ours):
            a.set_remote(Description(b.description.credentials, (hidden,)))
            path = await a.connect(within=5)
        assert path.remote.address == candidate.address
        await b.connect(within=5)
