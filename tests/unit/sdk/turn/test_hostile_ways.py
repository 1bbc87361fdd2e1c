"""Proxies and tunnels that mean ill, or are broken: one clear error each, in time."""

import asyncio
import contextlib
import itertools
import time

import pytest
from peerpath.errors import ServerError
from peerpath.fallbacks import USUAL_FALLBACKS
from peerpath.ice import AgentOptions, Pacer, Role
from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.relay_plan import RelayOptions
from peerpath.net.proxies import Proxy
from peerpath.net.proxy_rules import ProxyRules
from peerpath.turn import LongTermCredentials
from peerpath.turn.carriers import parse_relay_uri
from peerpath.turn.connection import allocate
from stunwire import TransportAddress, TurnUri
from websockets.asyncio.server import serve
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

CREDENTIALS = LongTermCredentials("alice", "wonderland")


@contextlib.asynccontextmanager
async def listening(behaviour):
    """A server that treats every connection like this; its port."""
    connections = set()

    async def accept(reader, writer):
        connections.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, EOFError, asyncio.CancelledError):
            await behaviour(reader, writer)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def silent(reader, writer):
    await asyncio.sleep(60)


async def hangs_up(reader, writer):
    await reader.read(10)


async def says_garbage(reader, writer):
    writer.write(bytes(range(256)) * 100)
    await silent(reader, writer)


async def never_ends_its_headers(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in itertools.count():
        writer.write(b"X-%d: y\r\n" % number)
        await asyncio.sleep(0)


async def drips(reader, writer):
    for byte in itertools.cycle(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000):
        writer.write(bytes([byte]))
        await asyncio.sleep(0.05)


async def wants_a_password_for_ever(reader, writer):
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")


async def agrees_and_hangs_up(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await writer.drain()


async def agrees_and_echoes(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while data := await reader.read(4096):
        writer.write(b"\xff" + data)


async def agrees_to_everything(reader, writer):
    if (await reader.read(1000)).startswith(b"CONNECT"):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    else:
        writer.write(b"\x05\x00")
        await reader.read(1000)
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
    await silent(reader, writer)


async def socks_picks_what_was_not_offered(reader, writer):
    await reader.read(10)
    writer.write(b"\x05\x02")
    await silent(reader, writer)


async def socks_says_nonsense(reader, writer):
    await reader.read(10)
    writer.write(b"\x05\x00")
    await reader.read(300)
    writer.write(b"\x05\x00\x00\x77" + bytes(300))
    await silent(reader, writer)


PROXIES = {
    ("http", silent): "no connection within",
    ("http", hangs_up): "without an answer|reset",
    ("http", says_garbage): "not HTTP",
    ("http", never_ends_its_headers): "longer than",
    ("http", drips): "no connection within",
    ("http", wants_a_password_for_ever): "407",
    ("http", agrees_and_hangs_up): "closed|reset",
    ("http", agrees_and_echoes): "not STUN",
    ("socks5h", silent): "no connection within",
    ("socks5h", hangs_up): "closed|reset",
    ("socks5h", says_garbage): "SOCKS",
    ("socks5h", socks_picks_what_was_not_offered): "(?i)authentication",
    ("socks5h", socks_says_nonsense): ".",
}


@pytest.mark.parametrize(
    ("scheme", "behaviour", "reason"),
    [(*key, reason) for key, reason in PROXIES.items()],
    ids=[f"{scheme} {behaviour.__name__}" for scheme, behaviour in PROXIES],
)
async def test_a_hostile_proxy_is_one_clear_error(scheme, behaviour, reason):
    began = time.monotonic()
    async with listening(behaviour) as port:
        proxy = Proxy.parse(f"{scheme}://127.0.0.1:{port}")
        uri = parse_relay_uri("turn:relay.test:3478?transport=tcp")
        address = TransportAddress(uri.host, uri.port)
        with pytest.raises(ServerError, match=reason) as failed:
            await allocate(uri, address, CREDENTIALS, proxy=proxy, patience=1)
    assert failed.value.server == str(uri)
    assert time.monotonic() - began < 10


# -- tunnels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (hangs_up, "127.0.0.1:{}: it closed the connection"),
        (says_garbage, "127.0.0.1:{}: no TLS with it: "),
        (None, "127.0.0.1:{}: Connection refused"),
    ],
)
async def test_what_speaks_no_tls_is_one_clear_error(behaviour, reason):
    async with listening(behaviour or hangs_up) as port:
        port = port if behaviour else 1
        uri, address = parse_relay_uri(f"turns:relay.test:{port}"), TransportAddress("127.0.0.1", port)
        with pytest.raises(ServerError, match=reason.format(port)):
            await allocate(uri, address, CREDENTIALS, patience=5)


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.parametrize("name", ["relay..test", "b" * 64 + ".test", ".".join(["b" * 60] * 5)])
async def test_a_name_that_is_none_is_an_error_of_the_server_that_has_it(scheme, name):
    """What takes URIs refuses it; a caller who makes one is told the same way."""
    async with listening(agrees_to_everything) as port:
        proxy = Proxy.parse(f"{scheme}://127.0.0.1:{port}")
        uri = TurnUri(name, 443, secure=True, transport="tcp")
        with pytest.raises(ServerError, match=r"not a host name|cannot be said|SERVERNAME"):
            await allocate(uri, TransportAddress(name, 443), CREDENTIALS, proxy=proxy, patience=5)


async def sends_text(websocket):
    await websocket.send("hello")
    await websocket.wait_closed()


async def sends_noise(websocket):
    for _ in range(100):
        await websocket.send(b"\xff" * 100)
    await websocket.wait_closed()


async def sends_what_is_too_long(websocket):
    await websocket.send(bytes(1 << 20))
    await websocket.wait_closed()


async def closes(websocket):
    await websocket.close(1013, "come again later")


async def says_nothing(websocket):
    await websocket.wait_closed()


TUNNELS = {
    sends_text: "text",
    sends_noise: "no allocation within",
    sends_what_is_too_long: "rules of WebSocket",
    closes: "come again later",
    says_nothing: "no allocation within",
}


@pytest.mark.parametrize(("behaviour", "reason"), TUNNELS.items(), ids=[each.__name__ for each in TUNNELS])
async def test_a_hostile_tunnel_is_one_clear_error(behaviour, reason):
    async with serve(behaviour, "127.0.0.1", 0, subprotocols=["turn"]) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ServerError, match=reason):
            await allocate(
                parse_relay_uri(f"ws://127.0.0.1:{port}"),
                TransportAddress("127.0.0.1", port),
                CREDENTIALS,
                patience=1,
            )


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (silent, "no connection within"),
        (hangs_up, "closed|reset"),
        (says_garbage, "WebSocket"),
        (never_ends_its_headers, "WebSocket"),
        (drips, "no connection within"),
        (agrees_and_hangs_up, "200 OK where 101"),
    ],
)
async def test_what_is_no_tunnel_at_all_is_one_clear_error(behaviour, reason):
    async with listening(behaviour) as port:
        with pytest.raises(ServerError, match=reason):
            await allocate(
                parse_relay_uri(f"ws://127.0.0.1:{port}"),
                TransportAddress("127.0.0.1", port),
                CREDENTIALS,
                patience=1,
            )


async def pings_and_never_reads(reader, writer):
    protocol = ServerProtocol(subprotocols=["turn"])
    protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
    [request] = protocol.events_received()
    protocol.send_response(protocol.accept(request))
    writer.writelines(protocol.data_to_send())
    ping = Frame(Opcode.PING, bytes(125)).serialize(mask=False)
    while True:
        writer.write(ping * 1000)
        await writer.drain()
        await asyncio.sleep(0)


async def test_a_tunnel_that_pings_and_does_not_read_the_answers_is_given_up():
    async with listening(pings_and_never_reads) as port:
        with pytest.raises(ServerError, match="reads no answers"):
            await allocate(
                parse_relay_uri(f"ws://127.0.0.1:{port}"),
                TransportAddress("127.0.0.1", port),
                CREDENTIALS,
                patience=20,
            )


# -- the ladder -------------------------------------------------------------------------------------------


async def test_the_ladder_goes_on_past_all_of_them_and_the_report_names_each():
    async with (
        listening(says_garbage) as turn,
        serve(sends_text, "127.0.0.1", 0, subprotocols=["turn"]) as tunnel,
        listening(wants_a_password_for_ever) as proxy,
        listening(socks_says_nonsense) as tor,
    ):
        ws = tunnel.sockets[0].getsockname()[1]
        servers = [
            IceServer(f"turn:127.0.0.1:{turn}?transport=tcp", "u", "p"),
            IceServer(f"ws://127.0.0.1:{ws}/v1/tunnel", "u", "p"),
        ]
        relaying = RelayOptions(
            proxies=ProxyRules.always(Proxy.parse(f"http://127.0.0.1:{proxy}")),
            tor=Proxy.tor(f"socks5h://127.0.0.1:{tor}"),
            head_start=30,  # so that failures alone lead on
        )
        async with IceEndpoint(
            Role.CONTROLLING,
            servers,
            options=AgentOptions(relay_only=True),
            hosts=lambda: ["127.0.0.1"],
            pacer=Pacer(),
            relaying=relaying,
        ) as endpoint:
            await endpoint.gather()
            async with asyncio.timeout(10):
                assert [found async for found in endpoint.candidates()] == []
            report = endpoint.report()
    assert [entry.fallback for entry in report.fallbacks if entry.tried] == list(USUAL_FALLBACKS)
    reasons = {(entry.transport, entry.proxy): entry.reason for entry in report.servers}
    assert "not STUN" in reasons["tcp", ""]
    assert "text" in reasons["ws", ""]
    assert "407" in reasons["tcp", "http"]
    assert "proxy socks5h://127.0.0.1" in reasons["ws", "tor"]
