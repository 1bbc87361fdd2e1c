"""In real time over UDP sockets on the loopback interface. Prints how fast it went, asserts none of it."""

import asyncio
import time

import pytest
from peerpath.connection import Connection
from peerpath.quic import LinkRole, SecureLink
from unit.sdk.connection.couple import ALICE, BOB

MESSAGES = 10_000


class End(asyncio.DatagramProtocol):
    """A socket and the connection that runs over it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.connection.receive(data)


@pytest.fixture
async def couple():
    loop = asyncio.get_running_loop()
    ends = []
    for peer in (BOB, ALICE):
        connection = Connection(peer.public_key)
        _, end = await loop.create_datagram_endpoint(
            lambda connection=connection: End(connection), local_addr=("127.0.0.1", 0)
        )
        ends.append(end)
    alice, bob = ends
    for mine, theirs, role, identity, peer in (
        (bob, alice, LinkRole.LISTENER, BOB, ALICE),
        (alice, bob, LinkRole.DIALER, ALICE, BOB),
    ):
        to = theirs.transport.get_extra_info("sockname")
        link = SecureLink(role, identity, peer.public_key, now=loop.time())
        mine.connection.attach(link, lambda data, mine=mine, to=to: mine.transport.sendto(data, to))
    yield alice.connection, bob.connection
    for end in ends:
        end.connection.fail("the test is over")
        end.transport.close()


async def test_messages_streams_and_datagrams(couple):
    alice, bob = couple
    began = time.perf_counter()
    await alice.wait_connected()
    print(f"\nconnected after {1000 * (time.perf_counter() - began):.1f} ms")

    async def write():
        for number in range(MESSAGES):
            await alice.send(b"%0100d" % number)
        await alice.flush()

    began, cpu = time.perf_counter(), time.process_time()
    writing = asyncio.create_task(write())
    for number in range(MESSAGES):
        assert await bob.recv() == b"%0100d" % number
    await writing
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"{MESSAGES / seconds:,.0f} messages of 100 bytes a second ({cpu / seconds:.0%} of a core, both ends)"
    )

    began = time.perf_counter()
    for _ in range(300):
        await alice.send(b"ping")
        assert await bob.recv() == b"ping"
        await bob.send(b"pong")
        assert await alice.recv() == b"pong"
    print(f"{1e6 * (time.perf_counter() - began) / 300:,.0f} us for a message there and one back")

    stream = await alice.open_stream()
    file = bytes(2_000_000)

    async def upload():
        await stream.write(file)
        stream.write_eof()

    began = time.perf_counter()
    uploading = asyncio.create_task(upload())
    accepted = await bob.accept_stream()
    assert await accepted.read_exactly(len(file)) == file
    assert await accepted.read() == b""
    await uploading
    print(f"{len(file) / (time.perf_counter() - began) / 1e6:,.1f} MB/s on a stream")

    alice.send_datagram(b"typing")
    assert await asyncio.wait_for(bob.recv_datagram(), 10) == b"typing"
    await alice.close("that is all")
    assert [message async for message in bob] == []
    assert bob.close_reason == "that is all"
