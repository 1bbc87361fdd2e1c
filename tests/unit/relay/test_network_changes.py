"""What changes on a machine's network is told at once."""

import asyncio
from contextlib import ExitStack

import pytest
from support.netns import Network, inside
from support.requirements import require_program, require_root_and_netns
from turnrelay.relay.network_changes import NetworkChanges

LONG, PATIENCE = 600, 20


@pytest.fixture(scope="module")
def host():
    require_root_and_netns()
    with Network() as network:
        here, there = network.host("here"), network.host("there")
        network.connect(here, "10.88.9.1/24", there, "10.88.9.2/24")
        yield here, there


CHANGES = {
    "an address comes": (0, "ip", "address", "add", "10.88.9.7/24", "dev", "left0"),
    "an address goes": (0, "ip", "address", "del", "10.88.9.7/24", "dev", "left0"),
    "an IPv6 address comes": (0, "ip", "address", "add", "fd88:9::1/64", "dev", "left0"),
    "a device changes": (0, "ip", "link", "set", "left0", "mtu", "1400"),
    "a device goes down": (0, "ip", "link", "set", "left0", "down"),
    "a device comes up": (0, "ip", "link", "set", "left0", "up"),
    "a device takes frames from XDP": (1, "ethtool", "-K", "right0", "gro", "on"),
    "a device no longer takes frames from XDP": (1, "ethtool", "-K", "right0", "gro", "off"),
    "a device goes": (1, "ip", "link", "del", "right0"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_told(host, change):
    whose, program, *arguments = change

    async def told() -> None:
        with ExitStack() as stack:
            with inside(host[0]):
                changes = stack.enter_context(NetworkChanges())
            host[whose].command(require_program(program), *arguments)
            async with asyncio.timeout(PATIENCE):
                await changes.wait(LONG)

    asyncio.run(told())


def test_without_a_change_the_time_runs_out(host):
    async def quiet() -> None:
        with NetworkChanges() as changes:
            await changes.wait(0.01)

    asyncio.run(quiet())
