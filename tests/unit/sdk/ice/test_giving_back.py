"""What an endpoint that closes leaves at its relay: nothing, whatever was under way or got lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from peerpath.ice import AgentOptions, Pacer, Role
from peerpath.ice import endpoint as endpoint_module
from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from peerpath.net.datagrams import DatagramSocket
from stunwire import LIFETIME, Message, Method, TransportAddress
from unit.sdk.turn.relay_in_memory import ClientAddress, FiveTuple, Relay, ServerAddress, Transport


def never(_: Message) -> bool:
    return False


def always(_: Message) -> bool:
    return True


def is_deletion(request: Message) -> bool:
    return request.method == Method.REFRESH and request.get(LIFETIME) == 0


class RelayOnLoopback:
    """The core of our server on a socket. Answers take `delay` seconds; what `loses` says never arrives."""

    def __init__(self, *, delay: float = 0.0, loses: Callable[[Message], bool] = never) -> None:
        self.loses = loses
        self.deletions = 0
        self.ahead = 0.0
        """Seconds that its clock has been put forward."""
        self._relay = Relay(nonce_lifetime=300)
        self._delay = delay
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        self.socket = await DatagramSocket.open(("127.0.0.1", 0), self._received)

    @property
    def allocations(self) -> int:
        return len(self._relay.server.state.allocations)

    def _received(self, data: bytes, source: TransportAddress) -> None:
        request = Message.decode(data)
        self.deletions += is_deletion(request)
        if self.loses(request):
            return
        path = FiveTuple(Transport.UDP, ServerAddress(self.socket.local), ClientAddress(source))
        for answer in self._relay.receive(data, path, self._loop.time() + self.ahead):
            self._loop.call_later(self._delay, self.socket.send, answer, source)


@asynccontextmanager
async def asking(relay: RelayOnLoopback) -> AsyncIterator[IceEndpoint]:
    """An endpoint that has begun to gather; closed at the end, which must not take long."""
    await relay.open()
    server = IceServer(f"turn:127.0.0.1:{relay.socket.local.port}?transport=udp", "alice", "wonderland")
    options = AgentOptions(relay_only=True)
    made = IceEndpoint(
        Role.CONTROLLING, [server], options=options, hosts=lambda: ["127.0.0.1"], rescan=0, pacer=Pacer()
    )
    await made.gather()
    try:
        yield made
    finally:
        async with asyncio.timeout(20):
            await made.close()
        relay.socket.close()


async def relayed(endpoint: IceEndpoint) -> None:
    async with asyncio.timeout(20):
        async for _ in endpoint.candidates():
            return


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for nothing does it for longer than a test may take."""
    monkeypatch.setattr(endpoint_module, "FAREWELL_SECONDS", 60)


async def test_an_allocation_whose_answer_is_under_way() -> None:
    relay = RelayOnLoopback(delay=0.1)
    async with asking(relay):
        async with asyncio.timeout(20):
            while not relay.allocations:
                await asyncio.sleep(0.01)
    assert relay.allocations == 0


async def test_an_allocation_whose_deletion_gets_lost() -> None:
    relay = RelayOnLoopback(loses=lambda request: is_deletion(request) and relay.deletions == 1)
    async with asking(relay) as endpoint:
        await relayed(endpoint)
        assert relay.allocations == 1
    assert (relay.allocations, relay.deletions) == (0, 2)


async def test_an_allocation_whose_nonce_has_gone_stale(patient: None) -> None:
    relay = RelayOnLoopback()
    async with asking(relay) as endpoint:
        await relayed(endpoint)
        relay.ahead = 400
    assert (relay.allocations, relay.deletions) == (0, 2)


async def test_the_servers_word_ends_the_wait(patient: None) -> None:
    async with asking(RelayOnLoopback()) as endpoint:
        await relayed(endpoint)


async def test_a_server_that_has_never_answered_is_not_waited_for(patient: None) -> None:
    async with asking(RelayOnLoopback(loses=always)):
        pass


async def test_a_server_that_has_died_is_not_waited_for_long() -> None:
    relay = RelayOnLoopback(loses=is_deletion)
    async with asking(relay) as endpoint:
        await relayed(endpoint)
    assert relay.deletions >= 2
