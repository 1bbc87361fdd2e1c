"""The SDK's agent and libnice's: both nomination modes of either side, a lite peer, relays."""

import asyncio
import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from peerpath.ice import AddressPolicy, AgentOptions, Pacer, Role
from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.sdp import format_candidate, parse_description
from support.relay import uri_of
from support.requirements import require_library

PROGRAM = Path(__file__).with_name("nice_agent.py")
LOOPBACK = AddressPolicy(allow=["127.0.0.0/8"])


@pytest.fixture(scope="module", autouse=True)
def _libnice_is_there():
    require_library("libnice.so.10")


@pytest.fixture(params=["control", "subject"])
def relay(request):
    return request.getfixturevalue(request.param)


class NiceAgent:
    """The program, and what it says."""

    def __init__(self, process):
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, **wanted):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAM),
            json.dumps(wanted),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield cls(process)
        finally:
            process.kill()
            await process.wait()

    async def hear(self, key, value=None):
        """The next thing it says under `key`, or the one that says `value`."""
        async with asyncio.timeout(15):
            while True:
                line = await self._process.stdout.readline()
                assert line, "libnice's agent has ended"
                said = json.loads(line).get(key)
                if said is not None and value in (None, said):
                    return said

    def tell(self, description):
        document = {
            "ufrag": description.credentials.ufrag,
            "password": description.credentials.password,
            "candidates": [format_candidate(candidate) for candidate in description.candidates],
        }
        self._process.stdin.write(json.dumps(document).encode() + b"\n")


async def converse(ours, theirs, *, lite=False):
    """Signaling, then echoes. Returns when data has gone both ways a hundred times.

    libnice does not write a=ice-lite, so it has to be said.
    """
    await ours.gather()
    description, errors = parse_description(await theirs.hear("sdp"))
    assert not errors
    async for _ in ours.candidates():
        pass
    theirs.tell(ours.description)
    ours.set_remote(replace(description, lite=lite))
    ours.add_remote_candidate(None)
    await ours.nominated(within=15)
    for number in range(100):
        await echoed(ours, number)


async def echoed(ours, number: int) -> None:
    """Datagrams may be lost, so it is said again."""
    for _ in range(10):
        ours.send(b"%d" % number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while await ours.recv() != b"nice %d" % number:
                    pass
                return
    pytest.fail(f"no echo of {number}")


def endpoint(role, servers=(), **options):
    return IceEndpoint(
        role,
        servers,
        options=AgentOptions(addresses=LOOPBACK, **options),
        hosts=lambda: ["127.0.0.1"],
        pacer=Pacer(),
        patience=10,
    )


@pytest.mark.parametrize(
    "nice_options",
    [[], ["regular"], ["regular", "renomination"], ["regular", "consent", "trickle"]],
    ids=["aggressive", "regular", "renomination", "consent"],
)
@pytest.mark.parametrize("role", Role)
async def test_direct(role, nice_options):
    wanted = {"controlling": role is Role.CONTROLLED, "address": "127.0.0.2", "options": nice_options}
    async with NiceAgent.start(**wanted) as theirs, endpoint(role) as ours:
        await converse(ours, theirs)
        await theirs.hear("state", "ready")


@pytest.mark.parametrize("who", ["ours", "theirs", "both"])
@pytest.mark.parametrize("role", Role)
async def test_relayed(relay, role, who):
    access = relay.access
    turn = {
        "host": relay.site.address,
        "port": relay.port,
        "username": access.username,
        "password": access.password,
    }
    wanted = {"controlling": role is Role.CONTROLLED, "address": "127.0.0.2", "options": ["regular"]}
    if who != "ours":
        wanted |= {"turn": turn, "relay_only": True}
    servers = [IceServer(uri_of(relay, "udp"), access.username, access.password)] if who != "theirs" else []
    async with (
        NiceAgent.start(**wanted) as theirs,
        endpoint(role, servers, relay_only=who != "theirs") as ours,
    ):
        await converse(ours, theirs)
        assert ours.path.is_relayed


async def test_a_lite_peer():
    wanted = {"controlling": False, "address": "127.0.0.2", "options": ["lite"]}
    async with NiceAgent.start(**wanted) as theirs, endpoint(Role.CONTROLLED) as ours:
        await converse(ours, theirs, lite=True)
        assert ours.stack.agent.role is Role.CONTROLLING


@pytest.mark.parametrize("role", Role)
async def test_both_claim_the_same_role(role):
    wanted = {"controlling": role is Role.CONTROLLING, "address": "127.0.0.2", "options": ["regular"]}
    async with NiceAgent.start(**wanted) as theirs, endpoint(role) as ours:
        await converse(ours, theirs)


async def test_libnice_keeps_its_consent():
    wanted = {"controlling": False, "address": "127.0.0.2", "options": ["regular", "consent"]}
    async with NiceAgent.start(**wanted) as theirs, endpoint(Role.CONTROLLING) as ours:
        await converse(ours, theirs)
        await asyncio.sleep(15)
        ours.send(b"still")
        assert await asyncio.wait_for(ours.recv(), 5) == b"nice still"
