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
    PeerUnreachable,
    PermissionInstalled,
)
from peerpath.turn.connection import TurnRefused, allocate
from stunwire import AddressFamily, TransportAddress, TurnUri
from support.coturn_server import CoturnServer
from support.netns import inside
from support.ports import loopback_address
from support.relay import TRANSPORTS, Access, Site, port_of, uri_of


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


async def test_icmp_errors_of_our_relay_reach_the_client(subject):
    """coturn tells of none."""
    uri, address, credentials, options = _arguments(subject, "udp")
    heard = _Heard()
    nobody = TransportAddress("127.0.0.1", 9)
    async with await allocate(uri, address, credentials, heard.outputs.put_nowait, **options) as turn:
        turn.permit([nobody])
        await heard.until(PermissionInstalled)
        turn.send(nobody, b"anybody there?")
        assert await heard.until(PeerUnreachable) == PeerUnreachable(nobody, 3, 3)


@pytest.fixture(params=["wired_control", "wired_subject"])
def wired_relay(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("family", AddressFamily)
async def test_dual_allocations_talk_over_either_family(wired_relay, client_host, family, transport):
    uri, address, credentials, options = _arguments(wired_relay, transport)
    both = (AddressFamily.IPV4, AddressFamily.IPV6)
    heard = _Heard(), _Heard()
    with inside(client_host):  # sockets are opened here; nothing else runs on this loop meanwhile
        ends = [
            await allocate(uri, address, credentials, each.outputs.put_nowait, families=both, **options)
            for each in heard
        ]
    try:
        assert [":" in relayed.host for relayed in ends[0].client.relayed] == [False, True]
        there, back = (end.client.relayed[family - 1] for end in ends)
        ends[0].permit([back])
        ends[1].permit([there])
        for each in heard:
            await each.until(PermissionInstalled)
        ends[0].send(back, b"hello")
        assert await heard[1].until(PeerData) == PeerData(there, b"hello")
    finally:
        for end in ends:
            await end.close()


class _CoturnWith(CoturnServer):
    """coturn with more flags."""

    def __init__(self, site, access, *flags):
        super().__init__(site, access)
        self._flags = flags

    def _argv(self):
        return [*super()._argv(), *self._flags]


@contextlib.contextmanager
def _coturn_with(folder, *flags):
    with loopback_address() as address, _CoturnWith(Site.prepare(folder, address), Access(), *flags) as relay:
        yield relay


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_redirection_is_followed(control, tmp_path, transport):
    there = control.site.address
    with _coturn_with(tmp_path / "first", f"--alternate-server={there}:{control.port}") as first:
        uri, address, credentials, options = _arguments(first, transport)
        async with await allocate(uri, address, credentials, **options) as turn:
            assert turn.address.host == there
            assert turn.client.relayed[0].host == there


async def test_a_nonce_that_goes_stale_is_replaced(tmp_path):
    with _coturn_with(tmp_path / "stale", "--stale-nonce=1") as relay:
        uri, address, credentials, options = _arguments(relay, "udp")
        heard = _Heard()
        async with await allocate(uri, address, credentials, heard.outputs.put_nowait, **options) as turn:
            for number in range(3):
                await asyncio.sleep(1.1)
                turn.permit([f"127.9.9.{number}"])
                await heard.until(PermissionInstalled)
