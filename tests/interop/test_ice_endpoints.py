"""Two endpoints of the SDK on real sockets, with relays of flesh and blood: coturn and our own."""

import asyncio
import contextlib
import ssl

import pytest
from peerpath.errors import TraversalError
from peerpath.ice import AddressPolicy, AgentOptions, CandidateType, Pacer, Role
from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from support.relay import TRANSPORTS, uri_of

LOOPBACK = AddressPolicy(allow=["127.0.0.0/8"])
DIRECT = AgentOptions(addresses=LOOPBACK)
RELAY_ONLY = AgentOptions(addresses=LOOPBACK, relay_only=True)


@pytest.fixture(params=["control", "subject"])
def relay(request):
    return request.getfixturevalue(request.param)


def turn_server(relay, transport, password=None):
    return IceServer(uri_of(relay, transport), relay.access.username, password or relay.access.password)


@contextlib.asynccontextmanager
async def two_endpoints(servers=(), options=DIRECT, tls=None):
    """Both gathering; they learn of each other as candidates trickle."""
    pair = [
        IceEndpoint(
            role,
            servers,
            options=options,
            hosts=lambda: ["127.0.0.1"],
            pacer=Pacer(),
            tls=tls,
            patience=10,
        )
        for role in (Role.CONTROLLING, Role.CONTROLLED)
    ]
    async with pair[0] as a, pair[1] as b:
        for endpoint in (a, b):
            await endpoint.gather()
        a.set_remote(b.description)
        b.set_remote(a.description)
        tasks = [asyncio.create_task(trickle(a, b)), asyncio.create_task(trickle(b, a))]
        try:
            yield a, b
        finally:
            for task in tasks:
                task.cancel()


async def trickle(sender, receiver):
    async for local in sender.candidates():
        receiver.add_remote_candidate(local.candidate)
    receiver.add_remote_candidate(None)


async def assert_echo(a, b):
    for number in range(50):
        a.send(b"%d from a" % number)
        assert await asyncio.wait_for(b.recv(), 5) == b"%d from a" % number
        b.send(b"%d from b" % number)
        assert await asyncio.wait_for(a.recv(), 5) == b"%d from b" % number


async def test_direct():
    async with two_endpoints() as (a, b):
        await asyncio.gather(a.nominated(within=5), b.nominated(within=5))
        assert not a.path.is_relayed
        await assert_echo(a, b)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_relayed(relay, transport):
    tls = ssl.create_default_context(cafile=str(relay.site.certificates.authority))
    async with two_endpoints([turn_server(relay, transport)], RELAY_ONLY, tls) as (a, b):
        await asyncio.gather(a.nominated(within=10), b.nominated(within=10))
        assert a.path.local.type is CandidateType.RELAYED
        assert {candidate.type for candidate in a.description.candidates} == {CandidateType.RELAYED}
        await assert_echo(a, b)


async def test_a_relay_is_the_source_of_a_reflexive_candidate_too(relay):
    async with two_endpoints([turn_server(relay, "udp")]) as (a, b):
        await asyncio.gather(a.nominated(within=5), b.nominated(within=5))
        # On loopback there is no NAT: what the server sees is the host candidate itself.
        assert {entry.result for entry in a.report().servers if entry.inquiry.startswith("server")} <= {
            f"127.0.0.1:{a.description.candidates[0].address.port}",
            "",
        }


async def test_a_wrong_password_is_in_the_report(relay):
    servers = [turn_server(relay, "udp", "mad hatter"), turn_server(relay, "tcp", "mad hatter")]
    async with two_endpoints(servers, RELAY_ONLY) as (a, _):
        with pytest.raises(TraversalError, match="401"):
            await a.connect(within=4)
        reasons = [entry.reason for entry in a.report().servers]
        assert len(reasons) == 2
        assert all("401" in reason for reason in reasons)


async def test_restart_keeps_data_flowing():
    async with two_endpoints() as (a, b):
        await asyncio.gather(a.nominated(within=5), b.nominated(within=5))
        before = a.description.credentials
        description = a.restart()
        assert description.credentials != before
        a.send(b"on the old path")
        assert await asyncio.wait_for(b.recv(), 5) == b"on the old path"
        assert b.set_remote(description)
        a.set_remote(b.description)
        await asyncio.gather(a.nominated(within=5), b.nominated(within=5))
        await assert_echo(a, b)


async def test_an_address_that_goes_away_and_another_that_comes():
    hosts = ["127.0.0.1"]
    options = AgentOptions(addresses=LOOPBACK, recovery=10)
    mover = IceEndpoint(
        Role.CONTROLLING, options=options, hosts=lambda: list(hosts), pacer=Pacer(), rescan=0.1
    )
    other = IceEndpoint(Role.CONTROLLED, options=options, hosts=lambda: ["127.0.0.9"], pacer=Pacer())
    async with mover as a, other as b:
        await a.gather()
        await b.gather()
        a.set_remote(b.description)
        b.set_remote(a.description)
        await asyncio.gather(a.nominated(within=5), b.nominated(within=5))
        hosts[:] = ["127.0.0.2"]
        async with asyncio.timeout(10):
            while a.path is None or a.path.local.base.host != "127.0.0.2":
                await asyncio.sleep(0.05)
        a.send(b"from the new address")
        assert await asyncio.wait_for(b.recv(), 5) == b"from the new address"
