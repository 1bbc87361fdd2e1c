"""The rendezvous for a WebSocket implementation of somebody else, by the letter of docs/rendezvous.md."""

import asyncio
import struct
import time

import pytest
from peerpath.identity import Identity
from peerpath.signaling import Answering, Dialing, Rendezvous, ReplayGuard
from support.ports import loopback_address
from support.relay import Access, Site
from support.turnrelay_server import TurnRelayServer
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

SUBPROTOCOL = "turnrelay.rendezvous.1"


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    with (
        loopback_address() as address,
        TurnRelayServer(Site.prepare(tmp_path_factory.mktemp("relay"), address), Access()) as server,
    ):
        yield server


@pytest.fixture
def authority(relay):
    return f"{relay.site.address}:9641"


def join(authority, **options):
    return connect(f"ws://{authority}/v1/rendezvous", subprotocols=[SUBPROTOCOL], **options)


async def register(socket, identity, authority):
    challenge = await socket.recv()
    assert (challenge[0], len(challenge)) == (0x01, 33)
    name = authority.encode()
    signed = b"turnrelay rendezvous 1 registration\0" + challenge[1:] + struct.pack(">H", len(name)) + name
    await socket.send(b"\x11" + identity.public_key.raw + identity.sign(signed))
    confirmed = await socket.recv()
    assert (confirmed[0], len(confirmed)) == (0x02, 9)


async def test_two_of_them_talk_whole_fragmented_and_past_pings(authority):
    alice, bob = Identity.generate(), Identity.generate()
    async with join(authority) as here, join(authority) as there:
        assert here.subprotocol == SUBPROTOCOL
        assert "Sec-WebSocket-Extensions" not in here.response.headers
        await register(here, alice, authority)
        await register(there, bob, authority)
        await asyncio.wait_for(await here.ping(), 20)
        head = b"\x12\x00\x00\x00\x09" + bob.public_key.raw
        await here.send([head, b"in three", b" pieces"])
        assert await here.recv() == b"\x04\x00\x00\x00\x09\x00"
        assert await there.recv() == b"\x03" + alice.public_key.raw + b"in three pieces"
        await here.send(b"\x12\x00\x00\x00\x0a" + Identity.generate().public_key.raw + b"?")
        assert await here.recv() == b"\x04\x00\x00\x00\x0a\x01"


async def test_one_of_them_carries_envelopes_to_the_sdk(authority):
    """A dialer whose envelopes are the SDK's, and whose connection is not."""
    alice, bob = Identity.generate(), Identity.generate()
    async with Rendezvous(f"ws://{authority}", bob) as rendezvous, join(authority) as here:
        await register(here, alice, authority)
        dialing = Dialing(alice, bob.public_key, now=time.time())
        offer = dialing.seal("offer", {"hello": "bob"})
        await here.send(b"\x12\x00\x00\x00\x01" + bob.public_key.raw + offer)
        peer, channel = await asyncio.wait_for(anext(rendezvous.incoming()), 20)
        answering = Answering.open_offer(bob, await channel.recv(), ReplayGuard(), now=time.time())
        assert (answering.peer, answering.body) == (peer, {"hello": "bob"})
        await channel.send(answering.seal("answer", {"hello": "alice"}))
        assert await here.recv() == b"\x04\x00\x00\x00\x01\x00"
        frame = await here.recv()
        assert frame[:33] == b"\x03" + bob.public_key.raw
        assert dialing.open(frame[33:]) == ("answer", {"hello": "alice"})


async def test_a_wrong_signature_is_refused_with_its_code(authority):
    async with join(authority) as here:
        await here.recv()
        await here.send(b"\x11" + Identity.generate().public_key.raw + bytes(64))
        with pytest.raises(ConnectionClosed) as closed:
            await here.recv()
        assert closed.value.rcvd.code == 4401


async def test_a_connection_under_another_name_is_refused(authority, relay):
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            "ws://evil.example:9641/v1/rendezvous",
            subprotocols=[SUBPROTOCOL],
            host=relay.site.address,
            port=9641,
        ):
            pass
    assert refused.value.response.status_code == 421
