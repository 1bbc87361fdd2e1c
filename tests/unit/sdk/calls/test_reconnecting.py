"""A connection outlives its links: it is made again, loses nothing, and says so when there is no hope."""

import asyncio
import time

import pytest
from peerpath import CallOptions, ConnectionClosed, ConnectionOptions, ConnectionState, Contacts, Decision
from peerpath.signaling import Dialing, memory_pair
from unit.sdk.calls.people import ALICE, BOB, MALLORY, alice, bob, lose_link, nothing_left, until


class Gate:
    """A channel that can be shut: what is sent then is lost, as on a network that is down."""

    trickle = True

    def __init__(self, inner):
        self.inner = inner
        self.is_shut = False

    async def send(self, message):
        if not self.is_shut:
            await self.inner.send(message)

    async def recv(self):
        return await self.inner.recv()


class Jam(Gate):
    """What is sent while it is shut waits in vain."""

    async def send(self, message):
        if self.is_shut:
            await asyncio.get_running_loop().create_future()
        await self.inner.send(message)


async def echo(connection):
    async for message in connection:
        await connection.send(message)


@pytest.mark.parametrize("who", ["dialer", "listener", "both"])
async def test_a_link_that_dies_is_replaced_and_no_message_is_lost(who):
    there, back = memory_pair()
    callee, caller = bob(), alice()
    async with nothing_left(), callee, caller, callee.listen(back) as calls:
        connection = await caller.connect(BOB.public_key, there)
        other = await calls.accept()
        echoing = asyncio.create_task(echo(other))
        lost = {"dialer": [connection], "listener": [other], "both": [connection, other]}[who]
        sent = received = 0

        async def send():
            nonlocal sent
            for sent in range(300):
                await connection.send(b"%d" % sent)
                if sent % 100 == 50:
                    lose_link(*lost)
                await asyncio.sleep(0.002)

        sending = asyncio.create_task(send())
        async with asyncio.timeout(30):
            for received in range(300):
                assert await connection.recv() == b"%d" % received
        await sending
        assert connection.state is ConnectionState.CONNECTED
        assert connection.stats().interruptions + other.stats().interruptions >= 3
        assert connection.stats().links >= 4
        assert len(connection.report.attempts) >= 4
        await connection.close()
        await echoing
    # Each attempt is told of, the later ones too.
    attempts = len(connection.report.attempts)
    assert caller.results == ["connected"] * attempts + ["closed"]
    assert [event.reason for event in caller.events[1:-1]] == ["made again"] * (attempts - 1)


async def test_a_connection_is_made_again_after_its_listener_was_closed():
    there, back = memory_pair()
    callee, caller = bob(), alice()
    async with nothing_left(), callee, caller:
        accepting = asyncio.create_task(callee.accept(back))
        connection = await caller.connect(BOB.public_key, there)
        other = await accepting
        lose_link(connection, other)
        await connection.send(b"still you?")
        assert await asyncio.wait_for(other.recv(), 10) == b"still you?"
        await other.send(b"still me")
        assert await asyncio.wait_for(connection.recv(), 10) == b"still me"


async def test_the_application_sees_the_interruption_and_may_send_meanwhile():
    there, back = memory_pair()
    gate = Gate(there)
    callee, caller = bob(), alice(options=CallOptions(timeout=1, reconnect_first=0.05))
    async with nothing_left(), callee, caller, callee.listen(back) as calls:
        connection = await caller.connect(BOB.public_key, gate, timeout=30)
        other = await calls.accept()
        gate.is_shut = True
        lose_link(connection, other)
        assert connection.state is ConnectionState.INTERRUPTED
        for number in range(10):
            await connection.send(b"%d" % number)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(other.recv(), 0.7)
        gate.is_shut = False
        async with asyncio.timeout(30):
            assert [await other.recv() for _ in range(10)] == [b"%d" % number for number in range(10)]
        assert connection.state is ConnectionState.CONNECTED


async def test_it_is_given_up_after_so_long_and_both_applications_are_told():
    there, back = memory_pair()
    gate = Gate(there)
    options = CallOptions(timeout=0.2, reconnect_first=0.05, reconnect_for=0.6)
    callee, caller = bob(options=options), alice(options=options)
    async with nothing_left(), callee, caller, callee.listen(back) as calls:
        connection = await caller.connect(BOB.public_key, gate, timeout=30)
        other = await calls.accept()
        gate.is_shut = True
        lose_link(connection, other)
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionClosed, match="could not be made again: no connection within"):
                await connection.recv()
            with pytest.raises(ConnectionClosed, match="the peer has not called again"):
                await other.recv()
        await until(lambda: "closed" in caller.results and "closed" in callee.results)
    assert len(connection.report.attempts) >= 2
    assert "could not be made again" in caller.events[-1].reason


@pytest.mark.parametrize(
    "long", [{"timeout": 60, "reconnect_first": 0.05}, {"timeout": 0.2, "reconnect_first": 60}]
)
async def test_neither_an_attempt_nor_a_pause_outlasts_the_time_to_reconnect(long):
    there, back = memory_pair()
    gate = Gate(there)
    options = CallOptions(**{"reconnect_for": 0.5, "reconnect_most": 60, **long})
    callee, caller = bob(options=options), alice(options=options)
    async with nothing_left(), callee, caller, callee.listen(back) as calls:
        connection = await caller.connect(BOB.public_key, gate, timeout=30)
        other = await calls.accept()
        gate.is_shut = True
        lose_link(connection, other)
        async with asyncio.timeout(20):
            with pytest.raises(ConnectionClosed, match="could not be made again: no connection within"):
                await connection.recv()


async def test_a_listener_that_has_forgotten_the_connection_ends_it_clearly():
    """As after a restart of its program: nobody said goodbye, and another Traversal takes the calls."""
    there, back = memory_pair()
    caller, before, after = alice(), bob(connection=ConnectionOptions(close_timeout=0.2)), bob()
    async with nothing_left(), caller, before:
        calls = before.listen(back)
        async with calls:
            connection = await caller.connect(BOB.public_key, there)
            other = await calls.accept()
            for task in list(calls._reception._reading):
                task.cancel()
            async with after, after.listen(back):
                lose_link(connection)
                with pytest.raises(ConnectionClosed) as caught:
                    await asyncio.wait_for(connection.recv(), 10)
        await other.close()
    assert "the connection is not known here any more" in caught.value.reason
    assert not caught.value.in_order
    assert after.results == ["rejected"]


async def test_a_peer_who_is_refused_by_now_is_not_taken_back():
    there, back = memory_pair()
    contacts = Contacts([ALICE.public_key])
    callee, caller = bob(authorize=contacts), alice()
    async with nothing_left(), callee, caller, callee.listen(back) as calls:
        connection = await caller.connect(BOB.public_key, there)
        other = await calls.accept()
        contacts.set(ALICE.public_key, Decision.REFUSE)
        lose_link(connection, other)
        with pytest.raises(ConnectionClosed, match="takes no calls of this key"):
            await asyncio.wait_for(connection.recv(), 10)
        await other.close()


async def test_being_told_to_wait_is_not_the_end():
    there, back = memory_pair()
    callee = bob(options=CallOptions(attempts_burst=1, attempts_per_minute=30))
    caller = alice(options=CallOptions(reconnect_first=0.2))
    async with nothing_left(), callee, caller, callee.listen(back) as calls:
        connection = await caller.connect(BOB.public_key, there)
        other = await calls.accept()
        lose_link(connection, other)
        await connection.send(b"again")
        assert await asyncio.wait_for(other.recv(), 15) == b"again"
    assert "limited" in callee.results


async def test_closing_while_it_is_interrupted_ends_it_at_once():
    there, back = memory_pair()
    gate = Gate(there)
    callee, caller = bob(), alice()
    async with nothing_left(), callee, caller, callee.listen(back) as calls:
        connection = await caller.connect(BOB.public_key, gate)
        other = await calls.accept()
        gate.is_shut = True
        lose_link(connection, other)
        async with asyncio.timeout(5):
            await connection.close()
            await other.close()
            await until(lambda: "closed" in caller.results and "closed" in callee.results)


async def test_nobody_else_can_resume_a_connection():
    there, back = memory_pair()
    callee = bob(authorize=Contacts([ALICE.public_key, MALLORY.public_key]))
    async with nothing_left(), callee, alice() as caller, callee.listen(back) as calls:
        connection = await caller.connect(BOB.public_key, there)
        other = await calls.accept()
        [dialer] = caller._dialers
        stolen = Dialing(MALLORY, BOB.public_key, now=time.time())
        [route] = dialer.attempt._routes.values()
        body = {**route.body().as_json(), "session": dialer._session.hex(), "resume": True}
        await there.send(stolen.seal("offer", body))
        await until(lambda: "rejected" in callee.results)
        await connection.send(b"untouched")
        assert await other.recv() == b"untouched"


async def test_of_two_attempts_to_resume_close_together_only_the_later_one_begins():
    there, back = memory_pair()
    jam, impatient = Jam(back), ConnectionOptions(close_timeout=0.2)
    callee, caller = bob(connection=impatient), alice(connection=impatient)
    async with nothing_left(), callee, caller, callee.listen(jam) as calls:
        await caller.connect(BOB.public_key, there)
        other = await calls.accept()
        [dialer] = caller._dialers
        [route] = dialer.attempt._routes.values()
        body = {**route.body().as_json(), "session": dialer._session.hex(), "resume": True}
        jam.is_shut = True
        lose_link(other)  # of which the peer cannot be told, so that to close the attempt takes a while
        for _ in range(2):
            dialing = Dialing(ALICE, BOB.public_key, now=time.time())
            await there.send(dialing.seal("offer", body))
        await until(lambda: "failed" in callee.results)
        _, earlier, later = other.report.attempts
        assert (bool(earlier.steps), bool(later.steps)) == (False, True)
        assert callee.events[-1].reason == "a newer attempt of the same peer took over"
        await other.close()
