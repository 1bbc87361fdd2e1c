"""TCP relays (RFC 6062) of the SDK: at coturn and at our relay, over TCP and TLS, with plain peers."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from interop.conftest import LOOPBACK_ACCESS
from peerpath.calls.paths import application_path
from peerpath.connection import PathKind
from peerpath.errors import ServerError
from peerpath.fallbacks import Fallback
from peerpath.ice import AddressPolicy, AgentOptions, Pacer, Role
from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.relay_plan import RelayOptions
from peerpath.net.proxies import Proxy
from peerpath.turn.connection import TurnRefused
from peerpath.turn.outputs import PeerArrived
from peerpath.turn.tcp_allocation import PeerUnavailable, TcpAllocation
from stunwire import TransportAddress
from support.ports import loopback_address
from support.proxy_servers import microsocks, tinyproxy
from support.relay import Relay, Site, Transport, uri_of
from support.turnrelay_server import TurnRelayServer

STREAMS: tuple[Transport, ...] = ("tcp", "tls")
PATIENCE = 40
HTTP_PORT, SOCKS_PORT = 8080, 1080


@pytest.fixture(scope="module")
def ours(scratch: Path) -> Iterator[Relay]:
    with (
        loopback_address() as address,
        TurnRelayServer(
            Site.prepare(scratch / "tcp-relays", address), LOOPBACK_ACCESS, flags=["--tcp-relay", "on"]
        ) as server,
    ):
        yield server


@pytest.fixture(params=["control", "ours"])
def relay(request: pytest.FixtureRequest) -> Relay:
    """coturn, which relays TCP unless told otherwise, and ours."""
    found: Relay = request.getfixturevalue(request.param)
    return found


async def allocation(relay: Relay, transport: Transport = "tcp", proxy: str = "") -> TcpAllocation:
    return await TcpAllocation.open(
        uri_of(relay, transport),
        relay.access.username,
        relay.access.password,
        tls=ssl.create_default_context(cafile=str(relay.site.certificates.authority)),
        proxy=Proxy.parse(proxy) if proxy else None,
        patience=PATIENCE,
    )


class Peer:
    """A server that sends everything back, and ends when it has all."""

    def __init__(self) -> None:
        self.met: list[TransportAddress] = []

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[TransportAddress]:
        with loopback_address() as host:
            async with await asyncio.start_server(self._echo, host, 0) as server:
                yield TransportAddress(*server.sockets[0].getsockname())

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.met.append(TransportAddress(*writer.get_extra_info("peername")))
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()


@pytest.mark.parametrize("transport", STREAMS)
async def test_a_connection_to_a_peer_carries_what_both_say(relay: Relay, transport: Transport) -> None:
    peer, words = Peer(), os.urandom(1 << 20)
    async with (
        asyncio.timeout(PATIENCE),
        peer.serve() as address,
        await allocation(relay, transport) as turn,
        await turn.connect(address) as stream,
    ):
        sending = asyncio.create_task(_send(stream.writer, words))
        assert await stream.reader.readexactly(len(words)) == words
        await sending
        assert peer.met == [turn.relayed], "it does not come from the relayed address"


async def ends(reader: asyncio.StreamReader) -> bool:
    """Whether nothing but the end comes: coturn resets where ours says goodbye."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def _send(writer: asyncio.StreamWriter, words: bytes) -> None:
    writer.write(words)
    await writer.drain()


async def test_a_question_that_ends_is_answered(ours: Relay) -> None:
    """coturn closes both directions with the first."""
    words = os.urandom(1 << 20)
    async with (
        asyncio.timeout(PATIENCE),
        Peer().serve() as address,
        await allocation(ours) as turn,
        await turn.connect(address) as stream,
    ):
        sending = asyncio.create_task(_send(stream.writer, words))
        received = await stream.reader.readexactly(len(words) // 2)
        await sending
        stream.writer.write_eof()
        assert received + await stream.reader.read() == words


@pytest.mark.parametrize("transport", STREAMS)
async def test_permitted_peers_connect_and_their_first_words_are_kept(
    relay: Relay, transport: Transport
) -> None:
    async with asyncio.timeout(PATIENCE), await allocation(relay, transport) as turn:
        await turn.permit([TransportAddress("127.0.0.1", 1)])
        incoming = turn.incoming()
        for number in range(3):
            reader, writer = await asyncio.open_connection(*turn.relayed, local_addr=("127.0.0.1", 0))
            writer.write(b"early %d" % number)
            async with await anext(incoming) as stream:
                assert stream.peer == TransportAddress(*writer.get_extra_info("sockname"))
                assert await stream.reader.readexactly(7) == b"early %d" % number
                stream.writer.write(b"answer")
                assert await reader.readexactly(6) == b"answer"
            assert await ends(reader)
            writer.close()


async def test_two_allocations_meet(relay: Relay) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        await allocation(relay, "tcp") as one,
        await allocation(relay, "tls") as other,
    ):
        await other.permit([one.relayed])
        async with await one.connect(other.relayed) as there, await anext(other.incoming()) as back:
            assert back.peer == one.relayed
            there.writer.write(b"hello")
            assert await back.reader.readexactly(5) == b"hello"


async def test_what_goes_wrong_is_said_in_words(relay: Relay) -> None:
    async with asyncio.timeout(PATIENCE), Peer().serve() as address, await allocation(relay) as turn:
        with pytest.raises(PeerUnavailable, match="it took no connection: it refused") as refused:
            await turn.connect(address._replace(port=1))
        assert (refused.value.code, refused.value.peer.port) == (447, 1)
        async with await turn.connect(address):
            with pytest.raises(PeerUnavailable, match="has a connection with it already") as twice:
                await turn.connect(address)
            assert twice.value.code == 446
        with pytest.raises(PeerUnavailable, match="another address family") as family:
            await turn.connect(TransportAddress("2001:db8::1", 80))
        assert family.value.code == 443


async def test_a_peer_that_the_operator_forbids(ours: Relay) -> None:
    async with asyncio.timeout(PATIENCE), await allocation(ours) as turn:
        with pytest.raises(PeerUnavailable, match=r"10\.0\.0\.1:80: the relay forbids") as forbidden:
            await turn.connect(TransportAddress("10.0.0.1", 80))
        assert forbidden.value.code == 403
        with pytest.raises(ServerError, match=r"answers 403 when asked to let 10\.0\.0\.1 connect"):
            await turn.permit(["10.0.0.1"])


async def test_a_connection_that_has_gone_cannot_be_bound(relay: Relay) -> None:
    """As one that is bound too late: the relay knows its number no more. coturn just ends the connection."""
    words = "the relay has given the connection up" if relay.name == "turnrelay" else "closed the data conn"
    async with asyncio.timeout(PATIENCE), await allocation(relay) as turn:
        with pytest.raises(PeerUnavailable, match=words) as late:
            await turn.accept(PeerArrived(TransportAddress("192.0.2.1", 80), 12345), asyncio.Protocol)
        assert late.value.code == (400 if relay.name == "turnrelay" else None)


async def test_a_relay_without_tcp_relays_says_so(subject: Relay) -> None:
    with pytest.raises(TurnRefused, match="442 it offers no TCP relays") as refused:
        await allocation(subject)
    assert refused.value.code == 442


async def test_the_end_of_the_allocation_ends_what_waits(relay: Relay) -> None:
    async with asyncio.timeout(PATIENCE), Peer().serve() as address, await allocation(relay) as turn:
        stream = await turn.connect(address)
        arriving = asyncio.ensure_future(anext(turn.incoming(), None))
        await asyncio.sleep(0)
        turn.connection.abort()
        assert await arriving is None
        assert turn.ended
        assert await ends(stream.reader)
        with pytest.raises(PeerUnavailable):
            await turn.connect(address)


@pytest.mark.parametrize("transport", STREAMS)
@pytest.mark.parametrize("kind", ["http", "socks5h"])
async def test_data_connections_take_the_proxy_of_the_control_connection(
    ours: Relay, tmp_path: Path, transport: Transport, kind: str
) -> None:
    with (
        loopback_address() as host,
        tinyproxy(tmp_path, host, HTTP_PORT) if kind == "http" else microsocks(host, SOCKS_PORT),
    ):
        proxy = f"{kind}://{host}:{HTTP_PORT if kind == 'http' else SOCKS_PORT}"
        peer = Peer()
        async with asyncio.timeout(PATIENCE), peer.serve() as address:
            turn = await allocation(ours, transport, proxy)
            async with turn, await turn.connect(address) as stream:
                stream.writer.write(b"hello")
                assert await stream.reader.readexactly(5) == b"hello"
                sock: socket.socket = stream.writer.get_extra_info("socket")
                assert sock.getpeername()[0] == host, "the data connection passes the proxy by"


# -- as paths of ICE --------------------------------------------------------------------------------------


def endpoint(role: Role, relay: Relay, fallbacks: Sequence[Fallback], *transports: Transport) -> IceEndpoint:
    access = relay.access
    return IceEndpoint(
        role,
        [IceServer(uri_of(relay, transport), access.username, access.password) for transport in transports],
        options=AgentOptions(relay_only=True, addresses=AddressPolicy(allow=["127.0.0.0/8"])),
        hosts=lambda: ["127.0.0.1"],
        pacer=Pacer(),
        tls=ssl.create_default_context(cafile=str(relay.site.certificates.authority)),
        relaying=RelayOptions(tuple(fallbacks), head_start=10),
    )


async def introduce(ends: Sequence[IceEndpoint]) -> None:
    """Each gets what the other one has to say, as it comes."""

    async def tell(sender: IceEndpoint, receiver: IceEndpoint) -> None:
        async for local in sender.candidates():
            receiver.add_remote_candidate(local.candidate)
        receiver.add_remote_candidate(None)

    for end in ends:
        await end.gather()
    ends[0].set_remote(ends[1].description)
    ends[1].set_remote(ends[0].description)
    await asyncio.gather(tell(*ends), tell(*reversed(ends)))


@pytest.mark.parametrize("transports", [("tcp", "tcp"), ("tls", "tcp")])
async def test_two_agents_connect_by_tcp_relays_alone(
    relay: Relay, transports: tuple[Transport, Transport]
) -> None:
    only = [Fallback.TCP_RELAY]
    ends = [endpoint(role, relay, only, transport) for role, transport in zip(Role, transports, strict=True)]
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        for end in ends:
            await stack.enter_async_context(end)
        await introduce(ends)
        await asyncio.gather(*(end.nominated() for end in ends))
        for end, transport in zip(ends, transports, strict=True):
            assert end.path is not None
            assert application_path(end.path).kind is PathKind.TCP_RELAY
            assert end.path.local.way == f"turn-{transport}-tcp"
        for sender, receiver in (ends, reversed(ends)):
            for size in (1, 1200, 60_000):
                sender.send(bytes(size))
                assert await receiver.recv() == bytes(size)
        report = ends[0].report()
        [server] = report.servers
        assert server.inquiry == "relayed address for TCP"
        assert server.result


async def test_a_relay_for_udp_is_preferred_and_tcp_relays_are_left_alone(ours: Relay) -> None:
    ends = [endpoint(role, ours, [Fallback.TURN, Fallback.TCP_RELAY], "tcp") for role in Role]
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        for end in ends:
            await stack.enter_async_context(end)
        await introduce(ends)
        await asyncio.gather(*(end.nominated() for end in ends))
        for end in ends:
            assert end.path is not None
            assert application_path(end.path).kind is PathKind.RELAY
            entries = {entry.fallback: entry for entry in end.report().fallbacks}
            assert (entries["tcp_relay"].tried, entries["tcp_relay"].reason) == (
                False,
                "turn gave a relayed address first",
            )


async def test_a_report_says_that_a_relay_has_no_tcp_relays(subject: Relay) -> None:
    only = [Fallback.TCP_RELAY]
    async with asyncio.timeout(PATIENCE), endpoint(Role.CONTROLLING, subject, only, "tcp") as end:
        await end.gather()
        assert [local async for local in end.candidates()] == []
        report = str(end.report())
        assert "relayed address for TCP: " in report
        assert "442 it offers no TCP relays (RFC 6062)" in report
        assert "fallback tcp_relay: no relayed address" in report


async def test_streams_alone_carry_tcp_relays() -> None:
    for uri in ("turn:192.0.2.1", "wss://192.0.2.1/v1/tunnel"):
        with pytest.raises(ValueError, match="TCP relays want"):
            await TcpAllocation.open(uri, "alice", "wonderland")
