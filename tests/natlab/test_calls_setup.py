"""From the call to the first application message, beside aioice with aiortc's DTLS on the same two hosts.

Both are handed the same servers, and signaling that takes as long. The clock runs from the moment when the
dialer is told to call, with everything imported, to the arrival of its first message at the other side's
application: gathering, signaling, connectivity checks, handshake, message. Rounds of the two are interleaved.
"""

import asyncio
import json
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from peerpath.identity import Identity
from support.netns import Namespace

from natlab import setup_peer
from natlab.callers import start_relay
from natlab.lab import Lab, Site

ONE_WAY = 0.02  # seconds from each site to the internet
SIGNALING = 0.04  # seconds for a message from one side to the other
ROUNDS = 5
PATIENCE = 30.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Side:
    """A process that waits to be told to begin."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, namespace: Namespace, *arguments: str) -> "Side":
        argv = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            *namespace.prefix,
            sys.executable,
            "-P",
            setup_peer.__file__,
        ]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv, *arguments, stdin=pipe, stdout=pipe, limit=1 << 20
        )
        return cls(process)

    def tell(self, **values: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(values).encode() + b"\n")

    async def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the process has ended"
        told: dict[str, Any] = json.loads(line)
        return told

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


async def time_to_first_message(kind: str, sites: tuple[Site, Site], servers: list[str]) -> float:
    identities = Identity.generate(), Identity.generate()
    sides = []
    for role, site, own, peer in zip(
        ("dialer", "listener"), sites, identities, reversed(identities), strict=True
    ):
        seed = own.private_key.private_bytes_raw().hex()
        namespace = site.host.namespace
        sides.append(await Side.start(namespace, kind, role, *servers, seed, str(peer.public_key)))
    try:
        async with asyncio.timeout(PATIENCE):
            for side in sides:
                assert (await side.hear())["ready"]
            sides[1].tell(do="go")
            await asyncio.sleep(0.2)  # the listener listens before anybody calls
            began = time.monotonic()
            sides[0].tell(do="go")
            forwarding = asyncio.create_task(_forward(sides[0], sides[1]))
            try:
                return await _forward(sides[1], sides[0]) - began
            finally:
                forwarding.cancel()
    finally:
        for side in sides:
            await side.stop()


async def _forward(source: Side, target: Side) -> float:
    """Carries signals until the first message has come; when that was."""
    while "first" not in (told := await source.hear()):
        asyncio.get_running_loop().call_later(SIGNALING, lambda told=told: target.tell(**told))
    return float(told["first"])


@pytest.mark.parametrize("kinds", [("port-restricted", "linux"), ("symmetric", "symmetric")])
def test_the_first_message_arrives_sooner_than_with_aiortc(
    lab: Lab, tmp_path: Path, kinds: tuple[str, str]
) -> None:
    with ExitStack() as stack:
        relay = stack.enter_context(start_relay(lab, tmp_path))
        sites = lab.site(kinds[0], delay=ONE_WAY), lab.site(kinds[1], delay=ONE_WAY)
        address = f"{relay.site.address}:{relay.port}"
        access = relay.access
        servers = [f"stun:{address}", f"turn:{address}?transport=udp", access.username, access.password]
        times: dict[str, list[float]] = {"ours": [], "aiortc": []}
        for _ in range(ROUNDS):
            for kind, found in times.items():
                found.append(asyncio.run(time_to_first_message(kind, sites, servers)))
    medians = {kind: statistics.median(found) for kind, found in times.items()}
    told = ", ".join(
        f"{kind} {medians[kind] * 1000:.0f} ms (from {min(found) * 1000:.0f} to {max(found) * 1000:.0f})"
        for kind, found in times.items()
    )
    print(f"\n{kinds}: {told}")
    assert medians["ours"] < medians["aiortc"]
