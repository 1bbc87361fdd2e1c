"""What comes by a channel is not trusted: replays, reflections, garbage, and channels that end."""

import asyncio
import time

import pytest
from peerpath import CallError
from peerpath.signaling import (
    Answering,
    Dialing,
    ReplayGuard,
    Route,
    SignalingClosed,
    memory_pair,
)
from unit.sdk.calls.people import ALICE, BOB, MALLORY, OnlyErrors, alice, bob, nothing_left, until


class Tap:
    """One end of a channel that keeps what passes, and says it again if it is asked to."""

    trickle = True

    def __init__(self, inner, *, reflects=False, repeats=1, garbage=()):
        self.inner = inner
        self.sent = []
        self._reflected = asyncio.Queue()
        self._reflects, self._repeats, self._garbage = reflects, repeats, garbage

    async def send(self, message):
        self.sent.append(message)
        for data in self._garbage:
            await self.inner.send(data)
        for _ in range(self._repeats):
            await self.inner.send(message)
        if self._reflects:
            self._reflected.put_nowait(message)

    async def recv(self):
        if not self._reflected.empty():
            return self._reflected.get_nowait()
        return await self.inner.recv()


async def test_an_offer_counts_once():
    there, back = memory_pair()
    tap = Tap(there)
    callee, caller = bob(), alice()
    async with callee, caller, callee.listen(back) as calls:
        async with caller.connect(BOB.public_key, tap):
            await calls.accept()
        await until(lambda: callee.results == ["connected", "closed"])
        [offer] = [message for message in tap.sent if Route.of(message).is_offer]
        for _ in range(3):
            await there.send(offer)
            await asyncio.sleep(0.01)
        await until(lambda: len(callee.events) == 5)
        # The channel and the listener go on.
        async with caller.connect(BOB.public_key, tap):
            await calls.accept()
    assert callee.results[2:5] == ["rejected"] * 3
    assert all("replayed" in event.reason and event.peer is None for event in callee.events[2:5])


async def test_an_offer_of_yesterday_is_refused_with_the_reason():
    there, back = memory_pair()
    callee = bob()
    async with callee, callee.listen(back):
        dialing = Dialing(ALICE, BOB.public_key, now=time.time() - 86_400)
        await there.send(dialing.seal("offer", {}))
        await until(lambda: callee.events)
    assert callee.results == ["rejected"]
    assert "set the clocks" in callee.events[0].reason


async def test_an_offer_for_somebody_else_is_refused():
    there, back = memory_pair()
    callee = bob()
    async with callee, callee.listen(back):
        await there.send(Dialing(ALICE, MALLORY.public_key, now=time.time()).seal("offer", {}))
        await until(lambda: callee.events)
    assert callee.results == ["rejected"]


@pytest.mark.parametrize(
    "trouble",
    [
        {"reflects": True},
        {"repeats": 3},
        {"garbage": (b"", b"\0" * 50, b"\x01\x02" + b"x" * 300, b"hello")},
    ],
    ids=["reflected", "repeated", "garbage"],
)
async def test_a_hostile_channel_can_do_nothing_but_be_heard(trouble):
    there, back = memory_pair()
    callee, caller = bob(), alice()
    async with nothing_left(), callee, caller, callee.listen(Tap(back, **trouble)) as calls:
        connection = await caller.connect(BOB.public_key, Tap(there, **trouble))
        other = await calls.accept()
        await connection.send(b"hello")
        assert await other.recv() == b"hello"
    assert caller.results == ["connected", "closed"]


async def test_an_answer_of_somebody_else_is_not_believed():
    """Mallory reads Alice's offer to Bob and answers it; only Bob can open it."""
    there, back = memory_pair()
    async with nothing_left(), alice() as caller:
        connecting = asyncio.create_task(caller.connect(BOB.public_key, there, timeout=2)._dial())
        await back.recv()
        other = Dialing(MALLORY, ALICE.public_key, now=time.time())
        await back.send(other.seal("answer", {"route": 0}))
        with pytest.raises(CallError) as caught:
            await connecting
    assert "a message that does not count: the message belongs to another attempt" in str(
        caught.value.details
    )


async def test_a_channel_that_ends_before_the_answer_fails_the_call_at_once():
    there, back = memory_pair()
    async with nothing_left(), alice() as caller:
        connecting = asyncio.create_task(caller.connect(BOB.public_key, there, timeout=10)._dial())
        await back.recv()
        back.close()
        with pytest.raises(CallError, match="the channel was closed"):
            await asyncio.wait_for(connecting, 5)


async def test_a_refusal_is_heard_although_the_channel_ends_with_it():
    there, back = memory_pair()

    class Ending(Tap):
        """Takes the offer, and ends with the answer to it."""

        async def send(self, message):
            if not Route.of(message).is_offer:
                raise SignalingClosed("the channel was closed")
            answering = Answering.open_offer(BOB, message, ReplayGuard(), now=time.time())
            await back.send(answering.seal("refuse", {"reason": "not now", "later": True}))

        async def recv(self):
            message = await self.inner.recv()
            await asyncio.sleep(0.01)  # on its way through the application
            return message

    async with nothing_left(), alice() as caller:
        with pytest.raises(CallError, match="not now"):
            await caller.connect(BOB.public_key, Ending(there), timeout=10)


@pytest.mark.parametrize("method", ["send", "recv"])
async def test_a_channel_that_fails_in_its_own_way_fails_the_call_at_once(method):
    class Broken:
        trickle = True

        async def send(self, message):
            if method == "send":
                raise ConnectionResetError("no wire")

        async def recv(self):
            if method == "recv":
                raise ConnectionResetError("no wire")
            await asyncio.get_running_loop().create_future()

    async with nothing_left(), alice() as caller:
        with pytest.raises(CallError, match="ConnectionResetError: no wire"):
            await asyncio.wait_for(caller.connect(BOB.public_key, Broken(), timeout=10)._dial(), 5)


async def test_a_channel_that_has_nothing_but_errors_is_asked_again_in_its_time():
    async with nothing_left(), alice() as caller:
        with pytest.raises(CallError, match="no connection within"):
            await caller.connect(BOB.public_key, OnlyErrors(), timeout=0.5)


async def test_a_connection_needs_its_channel_no_more():
    there, back = memory_pair()
    callee, caller = bob(), alice()
    async with nothing_left(), callee, caller, callee.listen(back) as calls:
        connection = await caller.connect(BOB.public_key, there)
        other = await calls.accept()
        there.close()
        with pytest.raises(SignalingClosed):
            await calls.accept()
        await connection.send(b"still here")
        assert await other.recv() == b"still here"
        await other.send(b"me too")
        assert await connection.recv() == b"me too"


async def test_a_peer_that_talks_nonsense_is_told_of_in_the_report():
    """Bob's key is used, but not by this program: sealed and signed, and senseless."""
    there, back = memory_pair()
    async with nothing_left(), alice() as caller:
        connecting = asyncio.create_task(caller.connect(BOB.public_key, there, timeout=2)._dial())
        answering = Answering.open_offer(BOB, await back.recv(), ReplayGuard(), now=time.time())
        for kind, body in [
            ("answer", {}),
            ("answer", {"route": 77, "ufrag": "abcd", "password": "a" * 22}),
            ("offer", {}),
            ("restart", {}),
            ("candidates", {"route": 0, "candidates": [1]}),
            ("unheard-of", {}),
            ("please-restart", {"reason": 7}),
        ]:
            await back.send(answering.seal(kind, body))
        with pytest.raises(CallError) as caught:
            await connecting
    told = str(caught.value.details)
    for complaint in ("ufrag: a string is wanted", "there is no route 77", "for the dialer to say"):
        assert complaint in told
