"""The SDK gets to a relay through proxies that nobody here wrote: tinyproxy, Squid, microsocks and Dante."""

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from peerpath import Settings
from peerpath.errors import ServerError
from peerpath.fallbacks import Fallback
from peerpath.ice import CandidateType
from peerpath.ice.relay_plan import RelayOptions
from peerpath.identity import Identity
from peerpath.net.datagrams import DatagramSocket
from peerpath.net.dialing import dial_host
from peerpath.net.proxies import Proxy
from peerpath.net.proxy_rules import ProxyRules
from peerpath.net.resolving import Resolver
from peerpath.net.waits import Waits
from peerpath.net.way_out import dial_for
from peerpath.server_check import check_server
from peerpath.signaling import Dialing, PeerAbsent, Rendezvous, RendezvousError
from peerpath.turn import LongTermCredentials, PeerData, PermissionInstalled
from peerpath.turn.carriers import parse_relay_uri
from peerpath.turn.connection import allocate
from stunwire import TransportAddress
from support.certificates import Certificates
from support.ports import loopback_address
from support.proxy_servers import DENIED_PORT, PASSWORD, USER, dante, microsocks, squid, tinyproxy
from support.relay import Site
from support.relayed_ends import ACCESS, Ends, trusting, uris
from support.requirements import require_root_and_netns
from support.turnrelay_server import TurnRelayServer

PORTS = {"http": 8080, "http with a password": 8081, "socks5h": 1080, "socks5h with a password": 1081}
SQUID = {"http by Squid": 3128, "http by Squid with a password": 3129, "https by Squid with a password": 3130}
DIGEST_ALONE = 3131
HASTE = Waits(connect=0.5, answer=0.5)
DANTE = {"socks5h by Dante": 1082, "socks5h by Dante with a password": 1083}
PORTS |= SQUID | DANTE


@pytest.fixture(scope="module")
def relay(scratch: Path) -> Iterator[TurnRelayServer]:
    with loopback_address() as address:
        flags = ["--shared", f"{address}:443"]
        with TurnRelayServer(Site.prepare(scratch / "shared", address), ACCESS, flags=flags) as server:
            yield server


@pytest.fixture(scope="module")
def proxy_host(scratch: Path) -> Iterator[str]:
    with loopback_address() as address, ExitStack() as stack:
        certificates = Certificates.issue(scratch, address)
        for name, port in PORTS.items():
            password = name.endswith("password")
            if name in SQUID:
                authentication = "basic" if password else ""
                tls = certificates if name.startswith("https") else None
                started = squid(scratch, address, port, authentication=authentication, certificates=tls)
                stack.enter_context(started)
            elif name in DANTE:
                require_root_and_netns()  # mounts, rather
                stack.enter_context(dante(scratch, address, port, password=password))
            elif name.startswith("http"):
                stack.enter_context(tinyproxy(scratch, address, port, password=password))
            else:
                stack.enter_context(microsocks(address, port, password=password))
        stack.enter_context(squid(scratch, address, DIGEST_ALONE, authentication="digest"))
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        patched.setenv("SSL_CERT_FILE", str(certificates.authority))
        yield address


def proxy_url(name: str, host: str, who: str | None = None) -> str:
    who = who or (f"{USER}:{PASSWORD}@" if name.endswith("password") else "")
    return f"{name.split()[0]}://{who}{host}:{PORTS[name]}"


async def open_turn(relay, via, proxy=None, heard=None, host=None):
    uri = parse_relay_uri(uris(relay)[via])
    address = TransportAddress(host or uri.host, uri.port)
    credentials = LongTermCredentials(ACCESS.username, ACCESS.password)
    return await allocate(uri, address, credentials, heard, tls=trusting(relay), proxy=proxy, patience=10)


async def must_relay(relay, via, proxy=None, host=None):
    """Data through the relay to an echo and back, by Send indication and by channel."""
    heard: asyncio.Queue = asyncio.Queue()
    echo = await DatagramSocket.open((relay.site.address, 0))
    echo.on_datagram = echo.send

    async def until(kind):
        async with asyncio.timeout(5):
            while not isinstance(output := await heard.get(), kind):
                pass
        return output

    async with await open_turn(relay, via, proxy, heard.put_nowait, host) as turn:
        turn.permit([echo.local])
        await until(PermissionInstalled)
        for size in (1, 3, 1200):
            turn.send(echo.local, bytes(size))
            assert await until(PeerData) == PeerData(echo.local, bytes(size))
        turn.bind(echo.local)
        for size in (1, 3, 1200):
            turn.send(echo.local, bytes(size))
            assert await until(PeerData) == PeerData(echo.local, bytes(size))
    echo.close()


@pytest.mark.parametrize("via", ["ws", "wss"])
async def test_the_tunnel_carries_turn(relay, via):
    await must_relay(relay, via)


@pytest.mark.parametrize("name", PORTS)
@pytest.mark.parametrize("via", ["tcp", "tls", "ws", "wss"])
async def test_every_way_goes_through_every_proxy(relay, proxy_host, name, via):
    await must_relay(relay, via, Proxy.parse(proxy_url(name, proxy_host)))


@pytest.mark.parametrize("name", ["http", "socks5h"])
async def test_names_are_left_for_the_proxy_to_resolve(relay, proxy_host, name, monkeypatch):
    """Not this process but the proxy's asks the system for localhost, where nobody serves that port."""

    async def nobody(self, host, port):
        assert host == proxy_host
        return [TransportAddress(host, port)]

    monkeypatch.setattr(Resolver, "addresses", nobody)
    with pytest.raises(ServerError, match="proxy"):
        await open_turn(relay, "tcp", Proxy.parse(proxy_url(name, proxy_host)), host="localhost")


@pytest.mark.parametrize(
    ("name", "who", "reason"),
    [
        ("http with a password", "", "wants a user name and a password"),
        ("http with a password", "bob:wrong@", "401: it refuses the connection"),
        ("http by Squid with a password", "", "407: it wants a user name and a password"),
        ("http by Squid with a password", "bob:wrong@", "407: it does not accept the user name and password"),
        ("https by Squid with a password", "", "407: it wants a user name and a password"),
        ("socks5h with a password", "", "it wants authentication: a user name and a password"),
        ("socks5h with a password", "bob:wrong@", "it does not accept the user name and password"),
        ("socks5h by Dante with a password", "", "it wants authentication: a user name and a password"),
        ("socks5h by Dante with a password", "bob:wrong@", "it does not accept the user name and password"),
    ],
)
async def test_a_proxy_that_refuses_us_is_named_with_its_reason(relay, proxy_host, name, who, reason):
    proxy = Proxy.parse(f"{name.split()[0]}://{who}{proxy_host}:{PORTS[name]}")
    with pytest.raises(ServerError, match=reason) as refused:
        await open_turn(relay, "tls", proxy)
    assert f"proxy {name.split()[0]}://{proxy_host}:{PORTS[name]}" in str(refused.value)
    assert "wrong" not in str(refused.value)


async def refusal(proxy, port, waits=None):
    """What is said of a connection to this port of the proxy's own host."""
    uri, address = parse_relay_uri(f"turns:{proxy.host}:{port}"), TransportAddress(proxy.host, port)
    with pytest.raises(ServerError) as refused:
        await allocate(uri, address, LongTermCredentials("alice", "wonderland"), proxy=proxy, waits=waits)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("http", "it answered 500: it refuses the connection"),
        ("http by Squid", "it answered 503: it could not reach the destination"),
        ("https by Squid with a password", "it answered 503: it could not reach the destination"),
        ("socks5h", "it answered 5: the destination refuses the connection"),
        ("socks5h by Dante with a password", "it answered 5: the destination refuses the connection"),
    ],
)
async def test_a_relay_that_the_proxy_cannot_reach(proxy_host, name, reason):
    proxy = Proxy.parse(proxy_url(name, proxy_host))
    assert f"proxy {proxy}: {reason}" in await refusal(proxy, 5)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("http by Squid", "it answered 403: it does not permit this destination"),
        ("https by Squid with a password", "it answered 403: it does not permit this destination"),
        ("socks5h by Dante", "it answered 2: it does not permit this destination"),
    ],
)
async def test_a_port_that_the_proxy_does_not_let_through(proxy_host, name, reason):
    proxy = Proxy.parse(proxy_url(name, proxy_host))
    assert f"proxy {proxy}: {reason}" in await refusal(proxy, DENIED_PORT)


@pytest.mark.parametrize("who", ["", f"{USER}:{PASSWORD}@"])
async def test_authentication_that_is_not_spoken_is_named(proxy_host, who):
    proxy = Proxy.parse(f"http://{who}{proxy_host}:{DIGEST_ALONE}")
    assert "407: it wants Digest authentication, and only Basic is spoken here" in await refusal(proxy, 443)


async def test_a_proxy_whose_certificate_nobody_vouches_for(proxy_host, monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(Certificates.issue(tmp_path, proxy_host).authority))
    proxy = Proxy.parse(proxy_url("https by Squid with a password", proxy_host))
    assert f"proxy {proxy}: its certificate is not accepted: " in await refusal(proxy, 443)


@pytest.mark.parametrize(
    ("scheme", "name", "reason"),
    [
        ("https", "http by Squid", "no TLS with it: "),
        ("http", "https by Squid with a password", "it closed the connection without an answer|not HTTP"),
        ("http", "socks5h", "it closed the connection without an answer|not HTTP"),
        # It waits for the end of a line that never comes.
        ("socks5h", "http by Squid", "no answer within"),
    ],
)
async def test_a_proxy_of_another_kind_than_was_said(proxy_host, scheme, name, reason):
    proxy = Proxy.parse(f"{scheme}://{proxy_host}:{PORTS[name]}")
    waits = HASTE if reason.startswith("no answer") else None
    assert re.search(reason, await refusal(proxy, 443, waits))


# -- those who are silent ---------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def listener(answer):
    """Takes every connection and does the same to each; gives its port."""
    serving = set()

    async def serve(_, writer):
        serving.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await answer(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for task in serving:
            task.cancel()
        server.close()
        await server.wait_closed()


async def silent(writer):
    await asyncio.sleep(60)


async def dripping(writer):
    for byte in itertools.cycle(b"HTTP/1.1 200 " + b"x" * 1000):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("scheme", "answer", "reason"),
    [
        ("http", silent, "no answer within"),
        ("http", dripping, "no answer within"),
        ("socks5h", silent, "no answer within"),
        ("https", silent, "no TLS handshake within"),
    ],
)
async def test_a_proxy_that_is_silent_or_drips_is_given_up(scheme, answer, reason):
    async with listener(answer) as port:
        proxy = Proxy.parse(f"{scheme}://127.0.0.1:{port}")
        with pytest.raises(ServerError, match=f"proxy {scheme}://127.0.0.1:{port}: {reason}"):
            await allocate(
                parse_relay_uri("turns:relay.test"),
                TransportAddress("relay.test", 443),
                LongTermCredentials("alice", "wonderland"),
                proxy=proxy,
                waits=HASTE,
            )


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("turns:127.0.0.1:{}?transport=tcp", "no TLS handshake within"),
        ("wss://127.0.0.1:{}/v1/tunnel", "no TLS handshake within"),
        ("ws://127.0.0.1:{}/v1/tunnel", "no agreement to a WebSocket within"),
        ("turn:127.0.0.1:{}?transport=tcp", "no allocation within"),
    ],
)
async def test_a_relay_that_is_silent_is_given_up_with_the_step_that_was_missing(uri, reason):
    async with listener(silent) as port:
        uri = parse_relay_uri(uri.format(port))
        address = TransportAddress(uri.host, uri.port)
        with pytest.raises(ServerError, match=reason):
            await allocate(uri, address, LongTermCredentials("alice", "wonderland"), waits=HASTE)


async def test_on_a_long_way_every_step_gets_more_time():
    waits = Waits()
    assert [waits.for_answer(round_trip) for round_trip in (0.05, 0.6, 2.0)] == [5.0, 5.0, 16.0]


async def test_the_next_fallback_does_not_wait_for_a_silent_one(relay, proxy_host):
    """Nothing but the failure of the first lets the second begin."""
    async with listener(silent) as port:
        rules = ProxyRules.always(Proxy.parse(proxy_url("http by Squid", proxy_host)))
        servers = [f"ws://127.0.0.1:{port}/v1/tunnel", uris(relay)["tls"]]
        # The proxy has to answer within this, too.
        waits = Waits(connect=2, answer=2)
        options = RelayOptions((Fallback.HTTP_TUNNEL, Fallback.PROXY), rules, waits=waits, head_start=60)
        async with Ends(relay, servers, options) as ends:
            await ends.connected()
            assert (ends[0].path.local.via, ends[0].path.local.proxy) == ("tls", "http")
            servers = ends[0].report().servers
        [tunnel] = [entry for entry in servers if (entry.transport, entry.proxy) == ("ws", "")]
        assert "no agreement to a WebSocket within" in tunnel.reason


# -- as relays of ICE -------------------------------------------------------------------------------------


@pytest.mark.parametrize("via", ["ws", "wss", "tls"])
@pytest.mark.parametrize("name", [None, "http with a password", "https by Squid with a password", "socks5h"])
async def test_a_path_tells_what_carries_it(relay, proxy_host, name, via):
    rules = ProxyRules() if name is None else ProxyRules.always(Proxy.parse(proxy_url(name, proxy_host)))
    fallbacks = tuple(Fallback) if name is None else (Fallback.PROXY,)
    async with Ends(relay, [uris(relay)[via]], RelayOptions(fallbacks, rules)) as ends:
        await ends.connected()
        for end in ends.both:
            local = end.path.local
            assert (local.type, local.via) == (CandidateType.RELAYED, via)
            assert local.proxy == ("" if name is None else re.match("http|socks5", name)[0])
            [entry] = [entry for entry in end.report().servers if entry.result]
            assert (entry.transport, entry.proxy) == (local.via, local.proxy)


async def test_where_turn_works_the_proxy_and_the_tunnel_are_left_alone(relay, proxy_host):
    rules = ProxyRules.always(Proxy.parse(proxy_url("http", proxy_host)))
    both = [uris(relay)["tcp"], uris(relay)["wss"]]
    async with Ends(relay, both, RelayOptions(proxies=rules, head_start=10)) as ends:
        await ends.connected()
        report = ends[0].report()
    assert {entry.fallback: entry.tried for entry in report.fallbacks} == {
        "turn": True,
        "tcp_relay": False,
        "http_tunnel": False,
        "proxy": False,
        "onion": False,
    }
    reasons = [entry.reason for entry in report.servers if entry.reason]
    assert reasons == ["not tried: turn gave a relayed address first"] * 3


async def test_the_next_fallback_comes_to_the_rescue_of_one_that_fails(relay, proxy_host):
    """The tunnel's port is nobody's, TURN's password is wrong: the proxy alone leads to the relay."""
    host = relay.site.address
    rules = ProxyRules.always(Proxy.parse(proxy_url("socks5h", proxy_host)))
    dead = [f"turn:{proxy_host}:7?transport=tcp", f"wss://{proxy_host}:9/v1/tunnel"]
    fallbacks = (Fallback.TURN, Fallback.PROXY)
    servers = [*dead, f"wss://{host}/v1/tunnel"]
    async with Ends(relay, servers, RelayOptions(fallbacks, rules, head_start=10)) as ends:
        await ends.connected()
        assert (ends[0].path.local.via, ends[0].path.local.proxy) == ("wss", "socks5")
        assert ends[0].report().seconds < 10
        assert "it is left out of the settings" in str(ends[0].report())


@pytest.mark.parametrize("via", ["tls", "ws", "wss"])
async def test_a_tunnel_is_checked_like_any_turn_server(relay, via):
    steps = []
    authority = str(relay.site.certificates.authority)
    uri = uris(relay)[via]
    await check_server(uri, ACCESS.username, ACCESS.password, authority=authority, on_step=steps.append)
    assert all(step.ok for step in steps), steps
    assert [step.name for step in steps if step.name != "Binding"] == [
        "Name",
        "Allocate",
        "Relayed round trip",
    ]


# -- signaling --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["http with a password", "https by Squid with a password", "socks5h"])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_the_rendezvous_is_reached_through_a_proxy(relay, proxy_host, name, scheme):
    host = relay.site.address
    url = f"wss://{host}" if scheme == "wss" else f"ws://{host}:9641"
    dial = dial_for(url, Settings.load(proxy=proxy_url(name, proxy_host)))
    alice, bob = Identity.generate(), Identity.generate()
    async with Rendezvous(url, alice, tls=trusting(relay), dial=dial) as here:
        offer = Dialing(alice, bob.public_key, now=time.time()).seal("offer", {})
        with pytest.raises(PeerAbsent):
            await here.channel(bob.public_key).send(offer)


async def test_a_rendezvous_behind_a_proxy_that_refuses_says_so(relay, proxy_host):
    url = f"wss://{relay.site.address}"
    port = PORTS["http with a password"]
    dial = dial_for(url, Settings.load(proxy=f"http://{proxy_host}:{port}"))
    with pytest.raises(RendezvousError, match="wants a user name and a password"):
        async with Rendezvous(url, Identity.generate(), tls=trusting(relay), dial=dial):
            pass


def test_without_a_proxy_the_rendezvous_is_reached_directly():
    assert dial_for("wss://relay.test", Settings.load(proxy="off")) is dial_host
