"""The SDK gets to a relay through proxies that nobody here wrote: tinyproxy and microsocks."""

import asyncio
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from peerpath import Settings
from peerpath.errors import ServerError
from peerpath.fallbacks import Fallback
from peerpath.ice import AddressPolicy, AgentOptions, CandidateType, Pacer, Role
from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.relay_plan import RelayOptions
from peerpath.identity import Identity
from peerpath.net.datagrams import DatagramSocket
from peerpath.net.proxies import Proxy
from peerpath.net.proxy_connector import connector_for
from peerpath.net.proxy_rules import ProxyRules
from peerpath.net.resolving import Resolver
from peerpath.server_check import check_server
from peerpath.signaling import Dialing, PeerAbsent, Rendezvous, RendezvousError
from peerpath.turn import LongTermCredentials, PeerData, PermissionInstalled
from peerpath.turn.carriers import parse_relay_uri
from peerpath.turn.connection import allocate
from stunwire import TransportAddress
from support.ports import loopback_address
from support.proxy_servers import PASSWORD, USER, microsocks, tinyproxy
from support.relay import Access, Site
from support.turnrelay_server import TurnRelayServer

ACCESS = Access(allowed_peers=("127.0.0.0/8",))
PORTS = {"http": 8080, "http with a password": 8081, "socks5h": 1080, "socks5h with a password": 1081}


@pytest.fixture(scope="module")
def relay(scratch: Path) -> Iterator[TurnRelayServer]:
    with loopback_address() as address:
        flags = ["--shared", f"{address}:443"]
        with TurnRelayServer(Site.prepare(scratch / "shared", address), ACCESS, flags=flags) as server:
            yield server


@pytest.fixture(scope="module")
def proxy_host(scratch: Path) -> Iterator[str]:
    with loopback_address() as address, ExitStack() as stack:
        for name, port in PORTS.items():
            password = name.endswith("password")
            if name.startswith("http"):
                stack.enter_context(tinyproxy(scratch, address, port, password=password))
            else:
                stack.enter_context(microsocks(address, port, password=password))
        yield address


def proxy_url(name: str, host: str, who: str | None = None) -> str:
    who = who or (f"{USER}:{PASSWORD}@" if name.endswith("password") else "")
    return f"{name.split()[0]}://{who}{host}:{PORTS[name]}"


def uris(relay: TurnRelayServer) -> dict[str, str]:
    host = relay.site.address
    return {
        "tcp": f"turn:{host}:3478?transport=tcp",
        "tls": f"turns:{host}:443?transport=tcp",
        "ws": f"ws://{host}:9641/v1/tunnel",
        "wss": f"wss://{host}/v1/tunnel",
    }


def trusting(relay: TurnRelayServer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(relay.site.certificates.authority))


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
        ("http with a password", "bob:wrong@", "407|401"),
        ("socks5h with a password", "", "authentication"),
        ("socks5h with a password", "bob:wrong@", "(?i)auth"),
    ],
)
async def test_a_proxy_that_refuses_us_is_named_with_its_reason(relay, proxy_host, name, who, reason):
    proxy = Proxy.parse(f"{name.split()[0]}://{who}{proxy_host}:{PORTS[name]}")
    with pytest.raises(ServerError, match=reason) as refused:
        await open_turn(relay, "tls", proxy)
    assert f"proxy {name.split()[0]}://{proxy_host}:{PORTS[name]}" in str(refused.value)
    assert "wrong" not in str(refused.value)


@pytest.mark.parametrize("name", ["http", "socks5h"])
async def test_a_relay_that_the_proxy_cannot_reach(relay, proxy_host, name):
    credentials = LongTermCredentials("alice", "wonderland")
    nobody, address = parse_relay_uri(f"turns:{proxy_host}:5"), TransportAddress(proxy_host, 5)
    with pytest.raises(ServerError, match=r"(?i)could not reach|refused|500"):
        await allocate(nobody, address, credentials, proxy=Proxy.parse(proxy_url(name, proxy_host)))


# -- as relays of ICE -------------------------------------------------------------------------------------


async def connected(relay, uris, relaying, options=None):
    """Two endpoints that have only these relays; both, with a path."""
    servers = [IceServer(uri, ACCESS.username, ACCESS.password) for uri in uris]
    options = options or AgentOptions(relay_only=True, addresses=AddressPolicy(allow=["127.0.0.0/8"]))
    ends = [
        IceEndpoint(
            role,
            servers,
            options=options,
            hosts=lambda: ["127.0.0.1"],
            pacer=Pacer(),
            tls=trusting(relay),
            relaying=relaying,
        )
        for role in (Role.CONTROLLING, Role.CONTROLLED)
    ]
    for end in ends:
        await end.gather()
    ends[0].set_remote(ends[1].description)
    ends[1].set_remote(ends[0].description)

    async def trickle(sender, receiver):
        async for local in sender.candidates():
            receiver.add_remote_candidate(local.candidate)
        receiver.add_remote_candidate(None)

    async with asyncio.timeout(20):
        await asyncio.gather(trickle(*ends), trickle(*reversed(ends)))
        await asyncio.gather(*(end.nominated() for end in ends))
    for sender, receiver in (ends, reversed(ends)):
        sender.send(b"hello")
        assert await asyncio.wait_for(receiver.recv(), 5) == b"hello"
    return ends


async def close(ends):
    await asyncio.gather(*(end.close() for end in ends))


@pytest.mark.parametrize("via", ["ws", "wss", "tls"])
@pytest.mark.parametrize("name", [None, "http with a password", "socks5h"])
async def test_a_path_tells_what_carries_it(relay, proxy_host, name, via):
    rules = ProxyRules() if name is None else ProxyRules.always(Proxy.parse(proxy_url(name, proxy_host)))
    fallbacks = tuple(Fallback) if name is None else (Fallback.PROXY,)
    ends = await connected(relay, [uris(relay)[via]], RelayOptions(fallbacks, rules))
    for end in ends:
        local = end.path.local
        assert (local.type, local.via) == (CandidateType.RELAYED, via)
        assert local.proxy == ("" if name is None else name.split()[0].removesuffix("h"))
        [entry] = [entry for entry in end.report().servers if entry.result]
        assert (entry.transport, entry.proxy) == (local.via, local.proxy)
    await close(ends)


async def test_where_turn_works_the_proxy_and_the_tunnel_are_left_alone(relay, proxy_host):
    rules = ProxyRules.always(Proxy.parse(proxy_url("http", proxy_host)))
    both = [uris(relay)["tcp"], uris(relay)["wss"]]
    ends = await connected(relay, both, RelayOptions(proxies=rules))
    report = ends[0].report()
    assert {entry.fallback: entry.tried for entry in report.fallbacks} == {
        "turn": True,
        "http_tunnel": False,
        "proxy": False,
        "onion": False,
    }
    reasons = [entry.reason for entry in report.servers if entry.reason]
    assert reasons == ["not tried: turn gave a relayed address first"] * 3
    await close(ends)


async def test_the_next_fallback_comes_to_the_rescue_of_one_that_fails(relay, proxy_host):
    """The tunnel's port is nobody's, TURN's password is wrong: the proxy alone leads to the relay."""
    host = relay.site.address
    rules = ProxyRules.always(Proxy.parse(proxy_url("socks5h", proxy_host)))
    dead = [f"turn:{proxy_host}:7?transport=tcp", f"wss://{proxy_host}:9/v1/tunnel"]
    fallbacks = (Fallback.TURN, Fallback.PROXY)
    ends = await connected(
        relay, [*dead, f"wss://{host}/v1/tunnel"], RelayOptions(fallbacks, rules, head_start=10)
    )
    assert (ends[0].path.local.via, ends[0].path.local.proxy) == ("wss", "socks5")
    assert ends[0].report().seconds < 10
    assert "it is left out of the settings" in str(ends[0].report())
    await close(ends)


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


@pytest.mark.parametrize("name", ["http with a password", "socks5h"])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_the_rendezvous_is_reached_through_a_proxy(relay, proxy_host, name, scheme):
    host = relay.site.address
    url = f"wss://{host}" if scheme == "wss" else f"ws://{host}:9641"
    connector = connector_for(url, Settings.load(proxy=proxy_url(name, proxy_host)))
    assert connector is not None
    alice, bob = Identity.generate(), Identity.generate()
    async with Rendezvous(url, alice, tls=trusting(relay), connector=connector) as here:
        offer = Dialing(alice, bob.public_key, now=time.time()).seal("offer", {})
        with pytest.raises(PeerAbsent):
            await here.channel(bob.public_key).send(offer)


async def test_a_rendezvous_behind_a_proxy_that_refuses_says_so(relay, proxy_host):
    url = f"wss://{relay.site.address}"
    port = PORTS["http with a password"]
    connector = connector_for(url, Settings.load(proxy=f"http://{proxy_host}:{port}"))
    with pytest.raises(RendezvousError, match="wants a user name and a password"):
        async with Rendezvous(url, Identity.generate(), tls=trusting(relay), connector=connector):
            pass


def test_without_a_proxy_the_rendezvous_is_reached_directly():
    assert connector_for("wss://relay.test", Settings.load(proxy="off")) is None
