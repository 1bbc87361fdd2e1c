"""aioice, the ICE of aiortc: two agents with nothing but relayed candidates."""

import asyncio

import pytest
from aioice import Candidate, Connection, TransportPolicy
from support.relay import TRANSPORTS, Relay, Transport, port_of

MESSAGES = 200
LENGTH = 1000


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_relayed_agents_echo(
    subject: Relay, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Over TLS it verifies the relay's certificate with Python's default context, which reads this.
    monkeypatch.setenv("SSL_CERT_FILE", str(subject.site.certificates.authority))
    tally = subject.tally(transport)
    caller, callee = relayed_agent(subject, transport), relayed_agent(subject, transport)
    caller.ice_controlling = True
    try:
        await meet(caller, callee)
        echo = asyncio.create_task(echo_back(callee))
        for number in range(MESSAGES):
            message = number.to_bytes(4) * (LENGTH // 4)
            await caller.send(message)
            assert await asyncio.wait_for(caller.recv(), timeout=5) == message
        await echo
    finally:
        await caller.close()
        await callee.close()
    # To the peer and back, through both allocations.
    tally.must_reach(2 * MESSAGES * LENGTH)


def relayed_agent(relay: Relay, transport: Transport) -> Connection:
    return Connection(
        ice_controlling=False,
        turn_server=(relay.site.address, port_of(relay, transport)),
        turn_username=relay.access.username,
        turn_password=relay.access.password,
        turn_ssl=transport == "tls",
        turn_transport="udp" if transport == "udp" else "tcp",
        transport_policy=TransportPolicy.RELAY,
    )


async def meet(caller: Connection, callee: Connection) -> None:
    """What signaling does: each learns the other's credentials and candidates. Then both check."""
    for agent in (caller, callee):
        await agent.gather_candidates()
        assert [candidate.type for candidate in agent.local_candidates] == ["relay"]
    for agent, other in ((caller, callee), (callee, caller)):
        agent.remote_username, agent.remote_password = other.local_username, other.local_password
        for candidate in other.local_candidates:
            await agent.add_remote_candidate(Candidate.from_sdp(candidate.to_sdp()))
        await agent.add_remote_candidate(None)
    await asyncio.wait_for(asyncio.gather(caller.connect(), callee.connect()), timeout=15)


async def echo_back(agent: Connection) -> None:
    for _ in range(MESSAGES):
        await agent.send(await agent.recv())
