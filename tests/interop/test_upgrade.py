"""coturn's client and aioice, whose calls go on while the relay is upgraded under them."""

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest
from interop.conftest import LOOPBACK_ACCESS
from interop.test_aioice import meet, relayed_agent
from reliability.upgradable import UpgradableRelay
from support.ports import loopback_address
from support.relay import Site
from support.uclient import Report, UClient

pytestmark = pytest.mark.slow

MESSAGES, LENGTH, CLIENTS = 600, 200, 4


@pytest.fixture(params=["1", "2"], ids=["alone", "workers"])
def relay(tmp_path: Path, request: pytest.FixtureRequest):
    flags = ["--workers", request.param]
    with (
        loopback_address() as address,
        UpgradableRelay(Site.prepare(tmp_path / "relay", address), LOOPBACK_ACCESS, flags=flags) as relay,
    ):
        yield relay


def test_uclient_loses_nothing_by_channels_indications_and_tcp(relay: UpgradableRelay) -> None:
    with ExitStack() as stack:
        common = ("-y", "-c", "-m", str(CLIENTS))
        runs = [
            stack.enter_context(UClient(relay, transport, flags, messages=MESSAGES, length=LENGTH))
            for transport, flags in (("udp", common), ("udp", ("-s", *common)), ("tcp", common))
        ]
        # Sending begins a second to six after the start, and takes twelve.
        for run in runs:
            run.process.wait_until(lambda: relay.log().count("allocation created") > 2 * CLIENTS)
        relay.upgrade()
        relay.upgrade()
        sent = MESSAGES * CLIENTS
        for run in runs:
            assert run.report(90) == Report(sent=sent, received=sent, lost=0, dropped=0)


async def test_agents_of_aioice_go_on(relay: UpgradableRelay) -> None:
    caller, callee = relayed_agent(relay, "udp"), relayed_agent(relay, "tcp")
    caller.ice_controlling = True
    try:
        await meet(caller, callee)
        upgrading = asyncio.create_task(asyncio.to_thread(relay.upgrade))
        number = 0
        while not upgrading.done() or number < 200:
            data = number.to_bytes(4, "big")
            await caller.send(data)
            assert await asyncio.wait_for(callee.recv(), timeout=5) == data
            await callee.send(data)
            assert await asyncio.wait_for(caller.recv(), timeout=5) == data
            number += 1
            await asyncio.sleep(0.005)
        await upgrading
    finally:
        await caller.close()
        await callee.close()
