"""An endpoint that is closed while it looks for an address, or was before: no socket comes of it."""

import asyncio

import pytest
from peerpath.errors import TraversalError
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.role import Role
from unit.sdk.calls.people import nothing_left


async def test_closing_ends_the_search_for_an_address():
    hosts: list[str] = []
    async with nothing_left():
        endpoint = IceEndpoint(Role.CONTROLLING, hosts=lambda: hosts, address_patience=30)
        gathering = asyncio.create_task(endpoint.gather())
        await asyncio.sleep(0)
        await endpoint.close()
        hosts.append("127.0.0.1")
        with pytest.raises(TraversalError, match="the endpoint was closed"):
            await asyncio.wait_for(gathering, 10)


async def test_a_closed_endpoint_opens_nothing():
    async with nothing_left():
        endpoint = IceEndpoint(Role.CONTROLLING, hosts=lambda: ["127.0.0.1"])
        await endpoint.close()
        with pytest.raises(TraversalError, match="the endpoint was closed"):
            await endpoint.gather()
