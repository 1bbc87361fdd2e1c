"""What an application sees of a connection: messages, datagrams, interruptions, the end."""

import asyncio
import tracemalloc

import pytest
from peerpath.connection import (
    Connection,
    ConnectionClosed,
    ConnectionOptions,
    ConnectionState,
    DatagramTooLarge,
    MessageTooLarge,
    Path,
    PathEvent,
    PathKind,
)
from peerpath.quic import CONTROL_STREAM, LinkOptions, LinkRole, SecureLink
from unit.sdk.connection.couple import ALICE, BOB, Couple
from unit.sdk.connection.virtual_loop import run


async def send_all(connection: Connection, count: int, size: int = 0) -> None:
    for number in range(count):
        await connection.send(number.to_bytes(4, "big") + bytes(size))
    await connection.flush()


async def receive_all(connection: Connection, count: int) -> list[int]:
    return [int.from_bytes((await connection.recv())[:4], "big") for _ in range(count)]


def test_ten_thousand_messages_arrive_once_and_in_order_through_loss_duplication_and_reordering():
    async def main():
        couple = await Couple(loss=0.1, duplicates=0.1, jitter=0.02).connected()
        sending = asyncio.gather(send_all(couple.alice, 10_000), send_all(couple.bob, 10_000))
        at_bob, at_alice = await asyncio.gather(
            receive_all(couple.bob, 10_000), receive_all(couple.alice, 10_000)
        )
        await sending
        assert at_bob == at_alice == list(range(10_000))
        assert couple.alice.stats().messages_sent == couple.bob.stats().messages_received == 10_000
        await couple.alice.close()
        assert [message async for message in couple.bob] == []

    run(main())


@pytest.mark.parametrize("seed", range(2))
def test_a_link_that_dies_twenty_times_in_mid_traffic_costs_no_message(seed):
    async def main():
        couple = await Couple(loss=0.05, jitter=0.01, seed=seed).connected()
        sending = asyncio.gather(send_all(couple.alice, 2_000, 500), send_all(couple.bob, 2_000, 500))
        receiving = asyncio.gather(receive_all(couple.bob, 2_000), receive_all(couple.alice, 2_000))
        for n in range(20):
            await asyncio.sleep(0.05 + 0.005 * n)
            if n % 3 == 0:
                couple.break_link()
                await asyncio.sleep(0.02 * n)
            elif n % 3 == 1:
                couple.alice.interrupt("only this side noticed")
            assert not receiving.done(), n
            couple.link()
        at_bob, at_alice = await receiving
        await sending
        assert at_bob == at_alice == list(range(2_000))
        assert couple.alice.stats().links + couple.bob.stats().links > 20

    run(main())


@pytest.mark.parametrize(
    ("kind", "transport", "size"),
    [
        (PathKind.HOST, "udp", 1452),
        (PathKind.PREDICTED, "udp", 1452),
        (PathKind.TCP, "tcp", 1200),
        (PathKind.RELAY, "turn-udp", 1200),
        (PathKind.TUNNEL, "turn-wss", 1200),
    ],
)
def test_packets_grow_where_nothing_wraps_them(kind, transport, size):
    async def main():
        couple = await Couple().connected()
        for side in (couple.alice, couple.bob):
            side.use_path(Path(kind, transport, 0.02))
        await asyncio.gather(send_all(couple.alice, 200, 2000), receive_all(couple.bob, 200))
        assert couple.alice._link.packet_size == size

    run(main())


def test_messages_arrive_once_while_the_size_of_packets_is_found_out_and_the_path_changes():
    async def main():
        couple = await Couple(loss=0.1, duplicates=0.1, jitter=0.02).connected()
        sending = asyncio.create_task(send_all(couple.alice, 3000, 500))
        arrived = []
        for number in range(10):
            kind, transport = (PathKind.RELAY, "turn-udp") if number % 2 else (PathKind.HOST, "udp")
            for side in (couple.alice, couple.bob):
                side.use_path(Path(kind, transport, 0.02))
            arrived += await receive_all(couple.bob, 300)
        await sending
        assert arrived == list(range(3000))

    run(main())


def test_messages_that_were_sent_without_a_link_arrive_with_the_first_one():
    async def main():
        couple = Couple()
        assert couple.alice.state is ConnectionState.INTERRUPTED
        await couple.alice.send(b"early")
        couple.link()
        assert await couple.bob.recv() == b"early"

    run(main())


def test_a_reader_that_stops_stops_the_writer_with_little_held_anywhere():
    async def main():
        options = ConnectionOptions(window_bytes=200_000, in_flight=50_000)
        couple = await Couple(options=options).connected()
        dialer = couple.alice._link
        sent = 0

        async def write():
            nonlocal sent
            while True:
                await couple.alice.send(bytes(1000))
                sent += 1

        tracemalloc.start()
        writing = asyncio.create_task(write())
        await asyncio.sleep(5)
        before, _ = tracemalloc.get_traced_memory()
        held = []
        for _ in range(50):
            await asyncio.sleep(1)
            held.append(dialer.unacknowledged(CONTROL_STREAM))
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sent == 200
        assert max(held) <= 50_000
        assert couple.alice.stats().bytes_queued == 200_000
        assert couple.bob._session.waiting_bytes == 200_000
        assert after - before < 20_000
        # It goes on as soon, and as far, as somebody reads.
        for _ in range(100):
            await couple.bob.recv()
        await asyncio.sleep(1)
        assert sent == 300
        writing.cancel()

    run(main())


def test_quic_is_never_handed_more_than_it_may_hold():
    async def main():
        options = ConnectionOptions(window_bytes=2_000_000, in_flight=100_000)
        couple = await Couple(options=options, delay=0.2).connected()
        dialer = couple.alice._link
        held = []

        async def watch():
            while True:
                held.append(dialer.unacknowledged(CONTROL_STREAM))
                await asyncio.sleep(0.01)

        watching = asyncio.create_task(watch())
        await asyncio.gather(send_all(couple.alice, 200, 20_000), receive_all(couple.bob, 200))
        watching.cancel()
        assert 50_000 < max(held) <= 100_000

    run(main())


def test_a_window_counts_messages_too():
    async def main():
        couple = await Couple(options=ConnectionOptions(window_messages=10)).connected()
        writing = asyncio.create_task(send_all(couple.alice, 100))
        await asyncio.sleep(5)
        assert couple.alice.stats().messages_queued == 10
        assert await receive_all(couple.bob, 100) == list(range(100))
        await writing

    run(main())


def test_the_smaller_window_of_both_sides_counts():
    async def main():
        couple = await Couple(
            options=ConnectionOptions(window_messages=50), bobs_options=ConnectionOptions(window_messages=5)
        ).connected()
        writing = asyncio.create_task(send_all(couple.alice, 100))
        await asyncio.sleep(5)
        assert couple.bob._session.waiting == 5
        assert await receive_all(couple.bob, 100) == list(range(100))
        await writing

    run(main())


def test_the_largest_message_arrives_and_one_byte_more_is_an_error():
    async def main():
        couple = await Couple(options=ConnectionOptions(max_message=300_000, window_bytes=1000)).connected()
        await couple.alice.send(bytes(300_000))
        assert len(await couple.bob.recv()) == 300_000
        with pytest.raises(MessageTooLarge, match="at most 300000 bytes here, this one 300001"):
            await couple.alice.send(bytes(300_001))
        await couple.alice.send(b"")
        assert await couple.bob.recv() == b""

    run(main())


def test_flush_waits_for_the_application_of_the_peer():
    async def main():
        couple = await Couple().connected()
        await couple.alice.send(b"one")
        flushing = asyncio.create_task(couple.alice.flush())
        await asyncio.sleep(10)
        assert not flushing.done()
        await couple.bob.recv()
        await flushing

    run(main())


def test_the_peer_gets_everything_and_then_the_reason_for_the_close():
    async def main():
        couple = await Couple(loss=0.2).connected()
        for number in range(500):
            await couple.alice.send(b"%d" % number)
        await couple.alice.close("good night")
        assert couple.alice.state is ConnectionState.CLOSED
        assert [message async for message in couple.bob] == [b"%d" % number for number in range(500)]
        with pytest.raises(ConnectionClosed, match="good night") as caught:
            await couple.bob.recv()
        assert caught.value.by_peer
        assert caught.value.in_order
        for connection, reason in ((couple.alice, "good night"), (couple.bob, "good night")):
            assert connection.close_reason == reason
            for call in (connection.send(b"x"), connection.open_stream(), connection.accept_stream()):
                with pytest.raises(ConnectionClosed, match=reason):
                    await call
            with pytest.raises(ConnectionClosed):
                connection.send_datagram(b"x")
            await connection.wait_closed()

    run(main())


def test_closing_both_ends_at_once_does_not_wait():
    async def main():
        couple = await Couple().connected()
        await couple.alice.send(b"unread")
        await couple.bob.send(b"unread")
        began = couple.loop.time()
        await asyncio.gather(couple.alice.close(), couple.bob.close())
        assert couple.loop.time() - began < 1

    run(main())


def test_closing_towards_a_peer_that_is_gone_takes_the_time_that_was_set():
    async def main():
        couple = await Couple(options=ConnectionOptions(close_timeout=2)).connected()
        couple.is_cut = True
        await couple.alice.send(b"into the void")
        began = couple.loop.time()
        await couple.alice.close()
        assert couple.loop.time() - began == pytest.approx(2)
        assert couple.alice.state is ConnectionState.CLOSED

    run(main())


def test_senders_that_wait_are_woken_with_the_reason_when_there_is_no_hope():
    async def main():
        couple = await Couple(options=ConnectionOptions(window_messages=1)).connected()
        await couple.alice.send(b"fills the window")
        waiting = [
            asyncio.create_task(call)
            for call in (couple.alice.send(b"x"), couple.alice.recv(), couple.alice.recv_datagram())
        ]
        waiting += [
            asyncio.create_task(couple.alice.flush()),
            asyncio.create_task(couple.alice.accept_stream()),
        ]
        await asyncio.sleep(1)
        couple.alice.fail("no way was found in 15 minutes")
        for task in waiting:
            with pytest.raises(ConnectionClosed, match="no way was found in 15 minutes") as caught:
                await task
            assert not caught.value.in_order
        with pytest.raises(ConnectionClosed):
            async for _ in couple.alice:
                pass

    run(main())


def test_a_cancelled_sender_neither_sends_nor_blocks_the_others():
    async def main():
        couple = await Couple(options=ConnectionOptions(window_messages=1)).connected()
        await couple.alice.send(b"first")
        cancelled = asyncio.create_task(couple.alice.send(b"never"))
        second = asyncio.create_task(couple.alice.send(b"second"))
        await asyncio.sleep(1)
        cancelled.cancel()
        assert await couple.bob.recv() == b"first"
        assert await couple.bob.recv() == b"second"
        await second

    run(main())


def test_the_owner_of_the_link_is_told_when_it_ends_by_itself():
    async def main():
        couple = await Couple(link_options=LinkOptions(idle_timeout=5)).connected()
        reasons = []
        couple.alice.on_interrupted = reasons.append
        couple.is_cut = True
        await asyncio.sleep(20)
        assert reasons == ["nothing was heard from the peer for 5 s"]
        assert couple.alice.state is ConnectionState.INTERRUPTED
        assert couple.alice.stats().interruptions == 1
        couple.is_cut = False
        couple.link()
        await couple.alice.wait_connected()

    run(main())


def test_a_peer_that_was_started_anew_ends_the_connection_with_that_reason():
    async def main():
        couple = await Couple().connected()
        couple.break_link()
        couple.bob = Connection(ALICE.public_key)
        reasons = []
        couple.bob.on_interrupted = reasons.append
        couple.link()
        await couple.alice.wait_closed()
        assert couple.alice.close_reason.startswith("the peer was started anew")
        await asyncio.sleep(1)
        # The new one lost nothing, and is as good as before for a new connection of Alice's.
        assert couple.bob.state is ConnectionState.INTERRUPTED
        assert len(reasons) == 1
        couple.alice = Connection(BOB.public_key)
        await couple.connected()
        await couple.alice.send(b"again")
        assert await couple.bob.recv() == b"again"

    run(main())


def test_a_peer_with_another_key_is_never_connected_and_the_owner_learns_why():
    async def main():
        couple = Couple()
        reasons = []
        couple.alice.on_interrupted = reasons.append
        now = couple.loop.time()
        couple.bob.attach(
            SecureLink(LinkRole.LISTENER, ALICE, ALICE.public_key, now=now),
            lambda data: couple._carry(couple.alice, data),
        )
        couple.alice.attach(
            SecureLink(LinkRole.DIALER, ALICE, BOB.public_key, now=now),
            lambda data: couple._carry(couple.bob, data),
        )
        await asyncio.sleep(5)
        assert len(reasons) == 1
        assert reasons[0].startswith("the peer proved to be ")
        assert couple.alice.stats().links == 0

    run(main())


def test_datagrams_arrive_and_the_oldest_that_nobody_fetches_are_dropped():
    async def main():
        couple = await Couple(options=ConnectionOptions(datagrams=10)).connected()
        for number in range(15):
            couple.alice.send_datagram(b"%d" % number)
        await asyncio.sleep(1)
        assert [await couple.bob.recv_datagram() for _ in range(10)] == [b"%d" % n for n in range(5, 15)]
        assert couple.bob.stats().datagrams_received == 15
        assert couple.bob.stats().datagrams_dropped == 5
        with pytest.raises(
            DatagramTooLarge, match=r"a datagram of 1171 bytes does not fit .* at most 1170 do"
        ):
            couple.alice.send_datagram(bytes(1171))
        couple.break_link()
        couple.alice.send_datagram(b"lost")
        assert couple.alice.stats().datagrams_dropped == 1

    run(main())


def test_path_events_begin_with_the_present_path_and_end_with_the_connection():
    async def main():
        couple = await Couple().connected()
        relay = Path(PathKind.RELAY, "turn-tls", 0.08, "192.0.2.1 1", "192.0.2.2 2")
        direct = Path(PathKind.HOST, "udp", 0.01)
        couple.alice.use_path(relay)
        events = couple.alice.path_events()
        assert await anext(events) == PathEvent(relay)
        couple.alice.use_path(direct, "a better one was found")
        assert await anext(events) == PathEvent(direct, "a better one was found")
        assert couple.alice.path == direct
        assert "192.0.2" not in repr(relay)
        for _ in range(50):
            couple.alice.use_path(None)
            couple.alice.use_path(direct)
        await couple.alice.close()
        rest = [event async for event in events]
        assert len(rest) == 64
        assert rest[-1] == PathEvent(direct)

    run(main())


def test_a_silent_peer_stays_silent_over_changes_of_path_until_it_is_heard():
    async def main():
        couple = await Couple().connected()
        relay, direct = Path(PathKind.RELAY, "udp", 0.08), Path(PathKind.HOST, "udp", 0.01)
        couple.alice.use_path(relay)
        couple.alice.path_silent(True)
        events = couple.alice.path_events()
        assert await anext(events) == PathEvent(relay, is_silent=True)
        couple.alice.use_path(direct, "another one")
        couple.alice.use_path(None, "consent has expired")
        couple.alice.use_path(relay, "yet another one")
        assert [(await anext(events)).is_silent for _ in range(3)] == [True, True, True]
        assert couple.alice.is_silent
        couple.alice.path_silent(False)
        assert await anext(events) == PathEvent(relay, "the peer is heard again", is_silent=False)
        couple.alice.use_path(direct)
        assert not (await anext(events)).is_silent

    run(main())


def test_what_is_heard_while_there_is_no_path_counts_for_the_next_one():
    async def main():
        couple = await Couple().connected()
        direct = Path(PathKind.HOST, "udp", 0.01)
        couple.alice.use_path(direct)
        couple.alice.path_silent(True)
        couple.alice.use_path(None)
        couple.alice.path_silent(False)
        couple.alice.use_path(direct)
        assert not couple.alice.is_silent

    run(main())


def test_a_link_that_was_made_anew_ends_the_silence():
    async def main():
        couple = await Couple().connected()
        couple.alice.use_path(Path(PathKind.HOST, "udp", 0.01))
        couple.alice.path_silent(True)
        couple.break_link()
        assert couple.alice.is_silent
        await couple.connected()
        assert not couple.alice.is_silent

    run(main())


def test_that_there_is_no_path_is_told_once():
    async def main():
        couple = await Couple().connected()
        couple.alice.use_path(Path(PathKind.HOST, "udp", 0.01))
        events = couple.alice.path_events()
        assert (await anext(events)).path is not None
        couple.alice.use_path(None, "consent has expired")
        couple.alice.use_path(None, "the peer has not been heard")
        await couple.alice.close()
        assert [event.reason async for event in events] == ["consent has expired"]

    run(main())


def test_five_seconds_of_silence_and_the_word_of_a_new_path_cost_no_more_than_that():
    async def main():
        couple = await Couple(delay=0.04).connected()
        writing = asyncio.create_task(send_all(couple.alice, 2000, 1000))
        reading = asyncio.create_task(receive_all(couple.bob, 2000))
        await asyncio.sleep(0.5)
        couple.is_cut = True
        await asyncio.sleep(5)
        couple.is_cut = False
        before = couple.bob.stats().messages_received
        assert before < 2000
        for connection in (couple.alice, couple.bob):
            connection.use_path(Path(PathKind.HOST, "udp", None))
        await asyncio.sleep(0.2)
        assert couple.bob.stats().messages_received > before
        assert await reading == list(range(2000))
        await writing
        assert couple.alice.stats().interruptions == 0

    run(main())


def test_what_leaves_while_there_is_no_path_is_sent_again():
    async def main():
        couple = Couple()
        now = couple.loop.time()
        tries = 0

        def fails_at_first(data):
            nonlocal tries
            tries += 1
            if tries < 5:
                raise OSError("network is unreachable")
            couple._carry(couple.bob, data)

        couple.bob.attach(
            SecureLink(LinkRole.LISTENER, BOB, ALICE.public_key, now=now),
            lambda data: couple._carry(couple.alice, data),
        )
        couple.alice.attach(SecureLink(LinkRole.DIALER, ALICE, BOB.public_key, now=now), fails_at_first)
        await couple.alice.wait_connected()

    run(main())


def test_a_peer_that_gives_up_before_everything_was_said_ends_the_connection_out_of_order():
    async def main():
        couple = await Couple(options=ConnectionOptions(window_messages=3)).connected()
        await send_some(couple.alice, 3)
        couple.alice.fail("the laptop was closed")
        with pytest.raises(ConnectionClosed, match="the laptop was closed") as caught:
            async for _ in couple.bob:
                pass
        assert caught.value.by_peer
        assert not caught.value.in_order

    run(main())


@pytest.mark.parametrize(
    "cheat",
    [
        lambda link, now: link.send_stream(CONTROL_STREAM, b"", now, end=True),
        lambda link, now: link.reset_stream(CONTROL_STREAM, 0, now),
        lambda link, now: link.stop_stream(CONTROL_STREAM, 0, now),
        lambda link, now: link.send_stream(CONTROL_STREAM, b"\xff", now),
    ],
)
def test_a_peer_that_breaks_the_protocol_ends_the_connection_with_that_reason(cheat):
    async def main():
        couple = await Couple().connected()
        await couple.bob.send(b"fine until then")
        assert await couple.alice.recv() == b"fine until then"
        cheat(couple.bob._link, couple.loop.time())
        couple.bob._wake()
        await couple.alice.wait_closed()
        assert couple.alice.close_reason.startswith("the peer broke the protocol: ")
        with pytest.raises(ConnectionClosed, match="the peer broke the protocol"):
            await couple.alice.send(b"x")

    run(main())


async def send_some(connection: Connection, count: int) -> None:
    for number in range(count):
        await connection.send(number.to_bytes(4, "big"))
