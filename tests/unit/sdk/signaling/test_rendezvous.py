"""A Rendezvous whose server is slow, leaves at a bad moment, or is none at all: it waits and tries again."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from peerpath.identity import Identity
from peerpath.net.dialing import Dialed, dial_host
from peerpath.signaling import Dialing, Rendezvous, RendezvousError, RendezvousState, SignalingClosed
from stunwire.rendezvous import (
    SUBPROTOCOL,
    Challenge,
    CloseCode,
    Registered,
    Result,
    ResultOf,
    To,
    decode_from_client,
)
from websockets.asyncio.server import ServerConnection, serve

ALICE, BOB = Identity.generate(), Identity.generate()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr("peerpath.signaling.rendezvous.MIN_BACKOFF", 0.02)


class States:
    """What a Rendezvous says of itself."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        """Why it waits, each time."""
        self.seen: list[RendezvousState] = []

    def __call__(self, state: RendezvousState, reason: str) -> None:
        self.seen.append(state)
        if state is RendezvousState.WAITING:
            self.reasons.append(reason)

    async def waited(self, times: int) -> None:
        async with asyncio.timeout(20):
            while len(self.reasons) < times:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def web_server(response: str) -> AsyncIterator[str]:
    """The address of one that answers everything so."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response.replace("\n", "\r\n").encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def rendezvous_server(handle: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    async with serve(handle, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL], compression=None) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


def takes(seconds: float) -> Callable[[ServerConnection], Awaitable[None]]:
    """A server on a way so slow: it takes everybody, and says that every message was delivered."""

    async def handle(socket: ServerConnection) -> None:
        await socket.send(Challenge(bytes(32)).encode())
        await socket.recv()
        await asyncio.sleep(seconds)
        await socket.send(Registered(bytes(8)).encode())
        async for data in socket:
            frame = decode_from_client(data)
            assert isinstance(frame, To)
            await asyncio.sleep(seconds)
            await socket.send(ResultOf(frame.number, Result.DELIVERED).encode())

    return handle


async def registers(socket: ServerConnection, messages: int | None = None) -> None:
    """A server that takes everybody, and says nothing of what became of messages; after so many it leaves."""
    await socket.send(Challenge(bytes(32)).encode())
    await socket.recv()
    await socket.send(Registered(bytes(8)).encode())
    heard = 0
    async for _ in socket:
        heard += 1
        if heard == messages:
            return


@pytest.mark.parametrize(
    "location", ["/elsewhere", "wss://other.invalid/", "http://portal.invalid/login", "nonsense:", "ws://["]
)
async def test_a_redirect_is_no_rendezvous_and_not_the_end(location):
    states = States()
    redirect = f"HTTP/1.1 302 Found\nLocation: {location}\nContent-Length: 0\n\n"
    async with web_server(redirect) as url:
        async with Rendezvous(url, ALICE, patient=True, on_state=states):
            await states.waited(2)
        with pytest.raises(RendezvousError, match="answers with HTTP status 302"):
            async with Rendezvous(url, ALICE):
                pass
    assert all("answers with HTTP status 302" in reason for reason in states.reasons)


async def test_a_server_that_leaves_before_the_registration_is_tried_again():
    async def leave(socket: ServerConnection) -> None:
        # Both in one packet: there is no moment in between in which the client could register.
        socket.protocol.send_binary(Challenge(bytes(32)).encode())
        socket.protocol.send_close(CloseCode.GOING_AWAY)
        socket.transport.writelines(socket.protocol.data_to_send())
        await socket.wait_closed()

    states = States()
    async with rendezvous_server(leave) as url, Rendezvous(url, ALICE, patient=True, on_state=states):
        await states.waited(2)
    assert all("is going away" in reason for reason in states.reasons)


async def test_a_mistake_of_the_application_ends_it_for_everybody_who_waits(caplog):
    async def nowhere(host: str, port: int) -> Dialed:
        raise KeyError("no such way")

    async with Rendezvous("ws://127.0.0.1:9", ALICE, dial=nowhere, patient=True) as rendezvous:
        async with asyncio.timeout(10):
            assert [peer async for peer, _ in rendezvous.incoming()] == []
        assert rendezvous.state is RendezvousState.CLOSED
    assert "no such way" in caplog.text
    with pytest.raises(RendezvousError, match="no such way"):
        async with Rendezvous("ws://127.0.0.1:9", ALICE, dial=nowhere):
            pass


async def test_the_way_to_the_server_takes_the_time_that_it_takes(monkeypatch):
    """As through Tor, which builds a circuit first."""
    monkeypatch.setattr("peerpath.signaling.rendezvous_link.HANDSHAKE_SECONDS", 0.2)

    async def slow(host: str, port: int) -> Dialed:
        await asyncio.sleep(0.5)
        return (await dial_host(host, port))._replace(round_trip=5.0)

    async with rendezvous_server(takes(0.5)) as url, Rendezvous(url, ALICE, dial=slow) as rendezvous:
        assert rendezvous.state is RendezvousState.REGISTERED


async def test_on_a_slow_way_an_answer_is_waited_for_longer(monkeypatch):
    monkeypatch.setattr("peerpath.signaling.rendezvous.RESULT_TIMEOUT", 0.1)
    states = States()
    async with (
        rendezvous_server(takes(0.5)) as url,
        Rendezvous(url, ALICE, on_state=states) as rendezvous,
    ):
        channel = rendezvous.channel(BOB.public_key)
        await channel.send(Dialing(ALICE, BOB.public_key, now=time.time()).seal("offer", {}))
        assert states.seen == [RendezvousState.REGISTERED]


async def test_a_silent_server_is_left_while_there_is_time_for_another_try(monkeypatch):
    monkeypatch.setattr("peerpath.signaling.rendezvous.RESULT_TIMEOUT", 60.0)
    handlers = iter((registers, takes(0)))

    async with (
        rendezvous_server(lambda socket: next(handlers)(socket)) as url,
        Rendezvous(url, ALICE, send_timeout=4) as rendezvous,
    ):
        channel = rendezvous.channel(BOB.public_key)
        await channel.send(Dialing(ALICE, BOB.public_key, now=time.time()).seal("offer", {}))


async def test_a_mistake_of_a_callback_ends_the_connection_and_every_open_channel(caplog):
    told: list[RendezvousState] = []
    left = asyncio.Event()

    def on_state(state: RendezvousState, _: str) -> None:
        told.append(state)
        if told.count(RendezvousState.REGISTERED) == 2:
            raise KeyError("no such widget")

    async def first(socket: ServerConnection) -> None:
        await registers(socket, messages=1)

    async def second(socket: ServerConnection) -> None:
        await registers(socket)
        left.set()

    handlers = iter((first, second))
    async with (
        rendezvous_server(lambda socket: next(handlers)(socket)) as url,
        Rendezvous(url, ALICE, on_state=on_state) as rendezvous,
    ):
        channel = rendezvous.channel(BOB.public_key)
        dialing = Dialing(ALICE, BOB.public_key, now=time.time())
        with pytest.raises(SignalingClosed):  # the first connection ends without a result
            await channel.send(dialing.seal("offer", {}))
        async with asyncio.timeout(10):
            with pytest.raises(SignalingClosed, match="no such widget"):
                await channel.recv()
            await left.wait()
    assert "no such widget" in caplog.text
