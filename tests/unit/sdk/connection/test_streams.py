"""Streams beside the messages: bytes both ways, backpressure, every way to end."""

import asyncio

import pytest
from peerpath.connection import ConnectionOptions, StreamError
from peerpath.quic import CloseCode, LinkOptions
from unit.sdk.connection.couple import Couple
from unit.sdk.connection.virtual_loop import run


async def pair(couple):
    """A stream of Alice's, and Bob's side of it."""
    ours = await couple.alice.open_stream()
    await ours.write(b"!")
    theirs = await couple.bob.accept_stream()
    assert await theirs.read_exactly(1) == b"!"
    return ours, theirs


async def read_all(stream, chunk=65_536):
    parts = []
    while data := await stream.read(chunk):
        assert len(data) <= chunk
        parts.append(data)
    return b"".join(parts)


def test_a_file_goes_through_loss_while_messages_go_on():
    async def main():
        couple = await Couple(loss=0.03, jitter=0.005).connected()
        ours, theirs = await pair(couple)
        file = bytes(range(256)) * 2000

        async def write():
            await ours.write(file)
            ours.write_eof()
            await ours.drain()

        writing, reading = asyncio.create_task(write()), asyncio.create_task(read_all(theirs, 5000))
        for number in range(100):
            await couple.alice.send(b"%d" % number)
            assert await couple.bob.recv() == b"%d" % number
        assert await reading == file
        await writing
        await theirs.write(b"thanks")
        theirs.write_eof()
        assert await read_all(ours) == b"thanks"
        await asyncio.sleep(1)
        assert couple.alice._streams._streams == couple.bob._streams._streams == {}

    run(main())


def test_a_reader_that_stops_stops_the_writer():
    async def main():
        couple = await Couple(
            options=ConnectionOptions(in_flight=30_000), link_options=LinkOptions(stream_window=20_000)
        ).connected()
        ours, theirs = await pair(couple)
        writing = asyncio.create_task(ours.write(bytes(500_000)))
        await asyncio.sleep(30)
        assert not writing.done()
        assert couple.alice._link.unacknowledged(ours.number) <= 30_000
        assert theirs._arrived_bytes <= 20_001
        await couple.alice.send(b"messages are not held up")
        assert await couple.bob.recv() == b"messages are not held up"
        assert len(await theirs.read_exactly(500_000)) == 500_000
        await writing

    run(main())


def test_reset_gives_both_directions_up_and_the_peer_learns_it():
    async def main():
        couple = await Couple().connected()
        ours, theirs = await pair(couple)
        ours.reset()
        with pytest.raises(StreamError, match="the peer gave this stream up"):
            await theirs.read()
        await asyncio.sleep(1)
        with pytest.raises(StreamError, match="the peer does not read this stream any more"):
            await theirs.write(b"x")
        for call in (ours.write(b"x"), ours.read()):
            with pytest.raises(StreamError, match="this side"):
                await call
        await asyncio.sleep(1)
        assert couple.alice._streams._streams == couple.bob._streams._streams == {}

    run(main())


def test_closing_delivers_what_was_written_and_stops_the_other_direction():
    async def main():
        couple = await Couple().connected()
        ours, theirs = await pair(couple)
        await ours.write(b"last words")
        ours.close()
        assert await read_all(theirs) == b"last words"
        await asyncio.sleep(1)
        with pytest.raises(StreamError, match="does not read"):
            await theirs.write(b"x")
        with pytest.raises(StreamError, match="the end of this stream was written already"):
            await ours.write(b"x")
        await asyncio.sleep(1)
        assert couple.alice._streams._streams == couple.bob._streams._streams == {}

    run(main())


def test_an_end_that_comes_early_is_an_error_of_read_exactly():
    async def main():
        couple = await Couple().connected()
        ours, theirs = await pair(couple)
        await ours.write(b"abc")
        ours.write_eof()
        with pytest.raises(StreamError, match="ended 2 bytes before the 5 that were asked for"):
            await theirs.read_exactly(5)

    run(main())


def test_streams_end_with_their_link_and_say_so():
    async def main():
        couple = await Couple().connected()
        ours, theirs = await pair(couple)
        reading, writing = asyncio.create_task(theirs.read()), asyncio.create_task(ours.write(bytes(10**6)))
        accepting = asyncio.create_task(couple.alice.accept_stream())
        await asyncio.sleep(0.005)
        couple.break_link("wifi is gone")
        for task in (reading, writing):
            with pytest.raises(StreamError, match="the link of the stream is gone: wifi is gone"):
                await task
        for each in (ours, theirs):
            each.close()
            each.reset()
        # Whoever waits for a new one gets it from the next link.
        opening = asyncio.create_task(couple.bob.open_stream())
        await asyncio.sleep(1)
        couple.link()
        stream = await opening
        await stream.write(b"again")
        assert await (await accepting).read() == b"again"

    run(main())


def test_more_streams_than_the_peer_allows_wait_for_others_to_end():
    async def main():
        couple = await Couple(link_options=LinkOptions(max_streams=4)).connected()
        for _ in range(3):
            streams = [await couple.alice.open_stream() for _ in range(10)]
            for stream in streams:
                await stream.write(b"x")
                stream.write_eof()
            for _ in range(10):
                accepted = await couple.bob.accept_stream()
                assert await read_all(accepted) == b"x"
                accepted.close()
        await asyncio.sleep(5)
        assert couple.alice._streams._streams == couple.bob._streams._streams == {}

    run(main())


def test_a_stream_that_was_never_written_to_can_be_closed():
    async def main():
        couple = await Couple().connected()
        (await couple.alice.open_stream()).close()
        (await couple.alice.open_stream()).reset()
        await couple.alice.send(b"fine")
        assert await couple.bob.recv() == b"fine"

    run(main())


def test_streams_that_nobody_takes_are_bounded_though_the_peer_ends_both_of_their_directions():
    async def main():
        couple = await Couple(link_options=LinkOptions(max_streams=4)).connected()
        for _ in range(20):
            stream = await couple.bob.open_stream()
            await stream.write(b"x" * 1000)
            stream.close()
        await asyncio.sleep(5)
        assert len(couple.alice._accepted) == 4
        # Those that are taken make room for the others, and nothing of any is lost.
        for _ in range(20):
            assert await read_all(await couple.alice.accept_stream()) == b"x" * 1000
        await asyncio.sleep(5)
        assert couple.alice._streams._streams == couple.bob._streams._streams == {}

    run(main())


def test_streams_that_were_given_up_before_the_peer_allowed_them_harm_nothing():
    async def main():
        couple = await Couple(link_options=LinkOptions(max_streams=4)).connected()
        for _ in range(20):
            stream = await couple.alice.open_stream()
            await stream.write(b"x")
            stream.reset()
        for _ in range(20):
            await couple.bob.accept_stream()
        await couple.alice.send(b"fine")
        assert await couple.bob.recv() == b"fine"
        assert couple.alice.stats().interruptions == couple.bob.stats().interruptions == 0

    run(main())


@pytest.mark.parametrize("end", ["reset", "write_eof"])
def test_a_stream_whose_end_is_under_way_is_not_taken_for_one_that_the_peer_opens(end):
    async def main():
        couple = await Couple().connected()
        ours, theirs = await pair(couple)
        accepting = asyncio.create_task(couple.alice.accept_stream())
        # Bob's side gives up writing, and later reading, as when a packet of his is lost and sent again.
        link = couple.bob._link
        link.reset_stream(theirs.number, CloseCode.ABANDONED, couple.loop.time())
        couple.bob._wake()
        with pytest.raises(StreamError):
            await ours.read()
        getattr(ours, end)()
        await couple.bob.send(b"in between")
        await asyncio.sleep(0.001)
        link.stop_stream(theirs.number, CloseCode.NOT_READ, couple.loop.time())
        couple.bob._wake()
        await asyncio.sleep(5)
        assert not accepting.done()
        assert couple.alice._streams._streams == couple.bob._streams._streams == {}
        again = await couple.bob.open_stream()
        await again.write(b"a new one")
        assert await (await accepting).read() == b"a new one"

    run(main())


def test_streams_may_be_written_to_in_another_order_than_they_were_opened_in():
    async def main():
        couple = await Couple().connected()
        streams = [await couple.alice.open_stream() for _ in range(3)]
        for stream in reversed(streams):
            await stream.write(b"%d" % stream.number)
            stream.write_eof()
        accepted = [await couple.bob.accept_stream() for _ in streams]
        assert {stream.number: await read_all(stream) for stream in accepted} == {
            stream.number: b"%d" % stream.number for stream in streams
        }

    run(main())
