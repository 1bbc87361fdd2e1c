"""TLS under both event loops: records are taken however they come, and every end of a connection is told."""

import asyncio
import ssl
import struct
from typing import Any

import pytest
from stunwire import StreamFramer
from support.requirements import require_program
from turnrelay.core.addresses import Transport
from turnrelay.relay.plane import Traffic
from unit.relay.core_rig import NEAR, CoreRig
from unit.relay.loopback import until
from unit.relay.tls_end import Authority, TlsEnd

CHANNEL = 0x4000


def frame(data: bytes, channel: int = CHANNEL) -> bytes:
    return struct.pack("!HH", channel, len(data)) + data + bytes(-len(data) % 4)


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def rig(mover, authority):
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    rig = CoreRig(mover, tls=authority.server)
    yield rig
    rig.close()
    await asyncio.sleep(0)
    assert complaints == []


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def context(request, authority) -> ssl.SSLContext:
    return authority.client(request.param)


async def bound(rig: CoreRig, context: ssl.SSLContext) -> tuple[TlsEnd, Any]:
    """A client with a channel to a peer, and the peer."""
    client, peer = await rig.tls_stream(context), rig.end(NEAR)
    rig.allocate(client)
    rig.bind(client, CHANNEL, peer.address)
    return client, peer


@pytest.mark.parametrize("cut", [1, 7, 100, 5000, 1 << 20])
@pytest.mark.parametrize("record", [3, 200, 16_384])
async def test_data_arrives_in_order_however_frames_and_records_are_cut(rig, context, cut, record):
    client, peer = await bound(rig, context)
    data = [b"%d" % number * (number % 40) for number in range(120)]
    stream = b"".join(map(frame, data))
    records = [stream[start : start + record] for start in range(0, len(stream), record)]
    ciphertext = client.encrypt(*records)
    sending = asyncio.create_task(in_pieces(client, ciphertext, cut))
    assert [(await peer.receive())[0] for _ in data] == data
    await sending
    assert rig.plane.traffic()[Transport.TLS] == Traffic(len(data), sum(map(len, data)), 0, 0)


async def in_pieces(client: TlsEnd, ciphertext: bytes, size: int) -> None:
    for start in range(0, len(ciphertext), size):
        await client.deliver(ciphertext[start : start + size])
        if start % (64 * size) == 0:
            await asyncio.sleep(0)


async def test_more_than_is_taken_at_once_arrives_whole(rig, context):
    client, peer = await bound(rig, context)
    data = [struct.pack("!I", number) * 250 for number in range(150)]
    sending = asyncio.create_task(client.deliver(client.encrypt(b"".join(map(frame, data)))))
    assert [(await peer.receive())[0] for _ in data] == data
    await sending


async def test_data_of_a_peer_arrives(rig, context):
    client, peer = await bound(rig, context)
    data = [b"%d" % number for number in range(50)]
    for one in data:
        peer.send(one, rig.relay(client))
        await asyncio.sleep(0)
    framer, found = StreamFramer(), list[bytes]()
    while len(found) < len(data):
        found += framer.feed(await client.read())
    assert [one[4:] for one in found] == data


async def test_a_close_notify_is_answered_and_what_came_before_it_is_relayed(rig, context):
    client, peer = await bound(rig, context)
    await client.deliver(client.encrypt(frame(b"last words")) + client.say_goodbye())
    assert (await peer.receive())[0] == b"last words"
    assert await client.read() == b""
    with pytest.raises(EOFError):
        await client._receive()
    await until(lambda: not rig.streams.clients.connections)
    assert not rig.server.state.allocations


async def test_who_leaves_without_a_word_leaves_nothing_behind(rig, context):
    client, peer = await bound(rig, context)
    await client.deliver(client.encrypt(frame(b"x")))
    assert (await peer.receive())[0] == b"x"
    client.sock.close()
    await until(lambda: not rig.streams.clients.connections)
    assert not rig.server.state.allocations


async def test_a_forged_record_is_answered_with_an_alert_and_ends_that_connection_alone(rig, context):
    client, _ = await bound(rig, context)
    other, peer = await bound(rig, context)
    good, forged = client.encrypt(frame(b"x")), bytearray(client.encrypt(frame(b"y")))
    forged[-1] ^= 1
    await client.deliver(good + bytes(forged))
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        await client.read()
    await until(lambda: len(rig.streams.clients.connections) == 1)
    await other.deliver(other.encrypt(frame(b"still here")))
    assert (await peer.receive())[0] == b"still here"


async def test_what_is_no_frame_ends_the_connection(rig, context):
    client, peer = await bound(rig, context)
    await client.deliver(client.encrypt(frame(b"x") + b"\xff"))
    assert (await peer.receive())[0] == b"x"
    await until(lambda: not rig.streams.clients.connections)
    assert rig.streams.clients.broken == 1


@pytest.mark.filterwarnings("ignore:.*TLSv1_1 is deprecated")
async def test_a_client_of_an_old_version_is_told_so(rig, authority):
    context = authority.client(ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        await rig.tls_stream(context)
    assert not rig.streams.clients.connections


async def test_no_tls_at_all_is_no_connection(rig, authority):
    client = TlsEnd(rig.streams_address, authority.client())
    await client.deliver(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises((ssl.SSLError, EOFError, ConnectionError)):
        await client.shake_hands()
    client.sock.close()
    await until(lambda: not rig.streams.acceptor.welcoming)


async def test_a_handshake_that_does_not_end_is_given_up(rig, authority, monkeypatch):
    monkeypatch.setattr("turnrelay.transports.tls_connection.HANDSHAKE_SECONDS", 0.2)
    client = TlsEnd(rig.streams_address, authority.client())
    await client.deliver(b"\x16\x03\x01")
    with pytest.raises((EOFError, ConnectionError)):
        await client._receive()
    client.sock.close()
    await until(lambda: not rig.streams.acceptor.welcoming)


async def test_a_client_that_reads_nothing_loses_its_own_data_and_no_more(rig, context):
    client, peer = await bound(rig, context)
    other, friend = await bound(rig, context)
    for _ in range(6000):
        peer.send(bytes(1200), rig.relay(client))
        await asyncio.sleep(0)
    [slow] = [one for one in rig.streams.clients.connections if one.path == rig.path(client)]
    await until(lambda: rig.plane.drops()["client_congested"] > 0)
    assert slow._transport.get_write_buffer_size() < 2 << 20
    friend.send(b"hello", rig.relay(other))
    assert (await other.frames(1))[0][4:] == b"hello"


class OpenSslClient:
    """OpenSSL's own client, which is told by single letters what to do, and prints every message."""

    def __init__(self, rig: CoreRig, authority: Authority, version: str) -> None:
        host, port = rig.streams_address
        self._argv = [require_program("openssl"), "s_client", "-connect", f"{host}:{port}", version, "-msg"]
        self._argv += ["-CAfile", str(authority.certificates.authority)]
        self._clients = rig.streams.clients

    async def __aenter__(self) -> "OpenSslClient":
        pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(
            *self._argv, stdin=pipe, stdout=pipe, stderr=none
        )
        await until(lambda: self._clients.connections)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()
        await until(lambda: not self._clients.connections)

    def do(self, letter: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(letter + b"\n")

    async def prints(self, text: bytes) -> None:
        assert self._process.stdout is not None
        async with asyncio.timeout(10):
            while text not in await self._process.stdout.readline():
                assert not self._process.stdout.at_eof()


async def test_new_keys_that_a_client_asks_for_are_used(rig, authority):
    async with OpenSslClient(rig, authority, "-tls1_3") as client:
        client.do(b"K")
        await client.prints(b">>> TLS 1.3, Handshake [length 0005], KeyUpdate")
        [connection] = rig.streams.clients.connections
        # OpenSSL changes its own keys when it next writes, having read that it is to.
        for _ in range(3):
            await asyncio.sleep(0.05)
            connection.reply(connection.path, b"under new keys\n")
        await client.prints(b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate")
        await client.prints(b"under new keys")


async def test_a_renegotiation_is_refused_at_once(rig, authority):
    async with OpenSslClient(rig, authority, "-tls1_2") as client:
        client.do(b"R")
        await client.prints(b"<<< TLS 1.2, Alert [length 0002], warning no_renegotiation")
