"""The SDK's TURN client against relays of flesh and blood: coturn and our own, over UDP, TCP and TLS."""

import asyncio
import contextlib
import ssl

import pytest
from peerpath.net.datagrams import DatagramSocket
from peerpath.turn import (
    ChannelBound,
    LongTermCredentials,
    PeerData,
    PermissionInstalled,
)
from peerpath.turn.connection import TurnRefused, allocate
from stunwire import TransportAddress, TurnUri
from support.relay import TRANSPORTS, port_of, uri_of


@pytest.fixture(params=["control", "subject"])
def relay(request):
    return request.getfixturevalue(request.param)


def _arguments(relay, transport, **changed):
    access = relay.access
    credentials = LongTermCredentials(access.username, changed.pop("password", access.password))
    tls = ssl.create_default_context(cafile=str(relay.site.certificates.authority))
    address = TransportAddress(relay.site.address, port_of(relay, transport))
    return TurnUri.parse(uri_of(relay, transport)), address, credentials, {"tls": tls} | changed


@contextlib.asynccontextmanager
async def _echo(host):
    """A peer that sends everything back."""
    peer = await DatagramSocket.open((host, 0))
    peer.on_datagram = peer.send
    try:
        yield peer.local
    finally:
        peer.close()


class _Heard:
    """What the connection said, and a way to wait for it."""

    def __init__(self):
        self.outputs = asyncio.Queue()

    async def until(self, kind):
        async with asyncio.timeout(5):
            while True:
                output = await self.outputs.get()
                if isinstance(output, kind):
                    return output


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_data_goes_through_the_relay_and_back(relay, transport):
    uri, address, credentials, options = _arguments(relay, transport)
    heard = _Heard()
    async with (
        _echo(relay.site.address) as peer,
        await allocate(uri, address, credentials, heard.outputs.put_nowait, **options) as turn,
    ):
        assert [relayed.host for relayed in turn.client.relayed] == [relay.site.address]
        assert turn.client.mapped == turn.local

        turn.permit([peer])
        await heard.until(PermissionInstalled)
        turn.send(peer, b"by Send indication")
        assert await heard.until(PeerData) == PeerData(peer, b"by Send indication")

        turn.bind(peer)
        await heard.until(ChannelBound)
        # Lengths that need padding on a stream, and one that needs none.
        for size in (1, 2, 3, 4, 1200):
            turn.send(peer, bytes(size))
            assert await heard.until(PeerData) == PeerData(peer, bytes(size))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_wrong_password_is_refused_and_says_so(relay, transport):
    uri, address, credentials, options = _arguments(relay, transport, password="mad hatter")
    with pytest.raises(TurnRefused, match="401") as refused:
        await allocate(uri, address, credentials, **options)
    assert refused.value.code == 401


async def test_a_certificate_from_nowhere_is_not_accepted(relay):
    uri, address, credentials, _ = _arguments(relay, "tls")
    with pytest.raises(Exception, match="certificate is not accepted"):
        await allocate(uri, address, credentials)


async def test_a_hundred_peers_are_permitted(relay):
    uri, address, credentials, options = _arguments(relay, "udp")
    heard = _Heard()
    async with await allocate(uri, address, credentials, heard.outputs.put_nowait, **options) as turn:
        turn.permit([f"127.9.9.{number}" for number in range(1, 101)])
        for _ in range(100):
            await heard.until(PermissionInstalled)
