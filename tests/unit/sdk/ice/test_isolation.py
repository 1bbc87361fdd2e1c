"""Whom Tor's SOCKS port takes us for: each peer is somebody else."""

import asyncio
import contextlib

from peerpath.fallbacks import Fallback
from peerpath.ice import Pacer, Role
from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.relay_plan import RelayOptions
from peerpath.net.proxies import Proxy


@contextlib.asynccontextmanager
async def socks_port(seen):
    """Says no to everybody, and writes down who asked for which name."""

    async def accept(reader, writer):
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(b"\x05\x02")
        who = [(await reader.readexactly((await reader.readexactly(2 - n))[-1])) for n in (0, 1)]
        writer.write(b"\x01\x00")
        length = (await reader.readexactly(5))[-1]
        name = await reader.readexactly(length + 2)
        seen.append((b":".join(who), name[:-2]))
        writer.write(b"\x05\x04\x00\x01" + bytes(6))
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def asked(isolation):
    """The user and the name in each request of one endpoint with two servers."""
    seen = []
    async with socks_port(seen) as port:
        tor = Proxy.tor(f"socks5h://127.0.0.1:{port}")
        relaying = RelayOptions((Fallback.ONION,), tor=tor, onion_only=True, isolation=isolation)
        servers = [IceServer(f"turns:{name}.onion:443", "u", "p") for name in ("one", "two")]
        async with IceEndpoint(Role.CONTROLLING, servers, pacer=Pacer(), relaying=relaying) as endpoint:
            await endpoint.gather()
            async with asyncio.timeout(10):
                assert [found async for found in endpoint.candidates()] == []
    return seen


async def test_circuits_are_shared_for_one_peer_and_between_no_two():
    alice, again, bob, nobody, other = [await asked(who) for who in (b"a", b"a", b"b", b"", b"")]
    for seen in (alice, again, bob, nobody, other):
        assert sorted(name for _, name in seen) == [b"one.onion", b"two.onion"]
    users = [{user for user, _ in seen} for seen in (alice, again, bob, nobody, other)]
    assert [len(each) for each in users] == [1] * 5
    assert users[0] == users[1]
    assert len({each.pop() for each in users}) == 4
