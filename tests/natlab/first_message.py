"""The time from the call to the first application message, ours or aioice with aiortc's DTLS, on two hosts.

Both are handed the same servers, and signaling that takes as long. The clock runs from the moment when the
dialer is told to call, with everything imported, to the arrival of its first message at the other side's
application: gathering, signaling, connectivity checks, handshake, message.
"""

import asyncio
import json
import sys
import time
from typing import Any

from peerpath.identity import Identity
from support.netns import Namespace
from support.turnrelay_server import TurnRelayServer

from natlab import setup_peer
from natlab.lab import Site

ONE_WAY = 0.02  # seconds from each site to the internet
SIGNALING = 0.04  # seconds for a message from one side to the other
PATIENCE = 30.0


def servers_of(relay: TurnRelayServer) -> list[str]:
    """What both are handed: a STUN URI, a TURN URI, user name and password."""
    address = f"{relay.site.address}:{relay.port}"
    return [
        f"stun:{address}",
        f"turn:{address}?transport=udp",
        relay.access.username,
        relay.access.password,
    ]


class Side:
    """A process that is told what to do, and tells what it has done, in lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, namespace: Namespace, program: str, *arguments: str) -> "Side":
        """`program` is a file of Python, which has a natlab.setup_peer.Wire."""
        argv = ["setpriv", "--pdeathsig", "KILL", *namespace.prefix, sys.executable, "-P", program]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv, *arguments, stdin=pipe, stdout=pipe, limit=1 << 20
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

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
    """Seconds; `kind` is "ours" or "aiortc"."""
    identities = Identity.generate(), Identity.generate()
    sides = []
    for role, site, own, peer in zip(
        ("dialer", "listener"), sites, identities, reversed(identities), strict=True
    ):
        seed = own.private_key.private_bytes_raw().hex()
        namespace = site.host.namespace
        sides.append(
            await Side.start(namespace, setup_peer.__file__, kind, role, *servers, seed, str(peer.public_key))
        )
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
