"""The report of an endpoint: what became of what, and when."""

import asyncio
from random import Random

from peerpath.ice import AgentState, Role
from peerpath.ice.credentials import Credentials
from peerpath.ice.description import Description
from peerpath.ice.endpoint import IceEndpoint
from unit.sdk.calls.people import until


async def test_a_report_of_a_route_that_failed_tells_when_that_was():
    endpoint = IceEndpoint(Role.CONTROLLING, hosts=lambda: ["127.0.0.1"], rescan=0)
    async with endpoint:
        await endpoint.gather()
        endpoint.set_remote(Description(Credentials.generate(Random(1)), (), end_of_candidates=True))
        await until(lambda: endpoint.state is AgentState.FAILED)
        failed_after = endpoint.report().seconds
        await asyncio.sleep(0.05)
        assert endpoint.report().seconds == failed_after
