"""Two ends of an ICE session in this process that have a running relay, or several, between them."""

import asyncio
import ssl
from collections.abc import Callable, Sequence

from peerpath.ice import AddressPolicy, AgentOptions, Pacer, Role
from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.relay_plan import RelayOptions

from support.relay import Access
from support.turnrelay_server import TurnRelayServer

ACCESS = Access(allowed_peers=("127.0.0.0/8",))
ON_LOOPBACK = AgentOptions(addresses=AddressPolicy(allow=["127.0.0.0/8"]))
RELAYED_ALONE = AgentOptions(relay_only=True, addresses=AddressPolicy(allow=["127.0.0.0/8"]))


def uris(relay: TurnRelayServer) -> dict[str, str]:
    """By what carries them; the relay has a shared port 443."""
    host = relay.site.address
    return {
        "tcp": f"turn:{host}:3478?transport=tcp",
        "tls": f"turns:{host}:443?transport=tcp",
        "ws": f"ws://{host}:9641/v1/tunnel",
        "wss": f"wss://{host}/v1/tunnel",
    }


def trusting(relay: TurnRelayServer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(relay.site.certificates.authority))


class Ends:
    """The controlling end and the other; candidates trickle between them for as long as there are both."""

    def __init__(
        self,
        relay: TurnRelayServer,
        uris: Sequence[str],
        relaying: RelayOptions,
        options: AgentOptions = RELAYED_ALONE,
        hosts: Callable[[], Sequence[str]] = lambda: ["127.0.0.1"],
        other_uris: Sequence[str] = (),
    ) -> None:
        """`hosts` and `uris` are those of the controlling end; with `other_uris` the other has its own."""
        self.both = [
            IceEndpoint(
                role,
                [IceServer(uri, ACCESS.username, ACCESS.password) for uri in known],
                options=options,
                hosts=theirs,
                rescan=0.2,
                pacer=Pacer(),
                tls=trusting(relay),
                relaying=relaying,
            )
            for role, known, theirs in (
                (Role.CONTROLLING, uris, hosts),
                (Role.CONTROLLED, other_uris or uris, lambda: ["127.0.0.1"]),
            )
        ]
        self._trickling: list[asyncio.Task[None]] = []

    def __getitem__(self, number: int) -> IceEndpoint:
        return self.both[number]

    async def __aenter__(self) -> "Ends":
        here, there = self.both
        for end in self.both:
            await end.gather()
        here.set_remote(there.description)
        there.set_remote(here.description)
        self._trickling = [asyncio.create_task(_trickle(*way)) for way in ((here, there), (there, here))]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._trickling:
            task.cancel()
        await asyncio.gather(*(end.close() for end in self.both), *self._trickling, return_exceptions=True)

    async def connected(self) -> None:
        """Waits for the path to be nominated, and for data to get through both ways."""
        await asyncio.gather(*(end.nominated(within=20) for end in self.both))
        await self.must_talk()

    async def must_talk(self) -> None:
        for sender, receiver in (self.both, reversed(self.both)):
            sender.send(b"hello")
            assert await asyncio.wait_for(receiver.recv(), 5) == b"hello"


async def _trickle(sender: IceEndpoint, receiver: IceEndpoint) -> None:
    while True:
        async for local in sender.candidates():
            receiver.add_remote_candidate(local.candidate)
        receiver.add_remote_candidate(None)
