"""Calls whose signaling people carry: a wrong paste is not the end, and nobody is asked to carry more."""

import asyncio

import pytest
from peerpath import CallError, CallOptions, ConnectionClosed
from peerpath.calls.bodies import CandidatesBody
from peerpath.signaling import ManualSignaling
from unit.sdk.calls.people import BOB, alice, bob, lose_link, nothing_left, until


class Table:
    """Where two people exchange notes."""

    def __init__(self) -> None:
        self.to_alice: asyncio.Queue[str] = asyncio.Queue()
        self.to_bob: asyncio.Queue[str] = asyncio.Queue()
        self.written_by_alice: list[str] = []
        self.written_by_bob: list[str] = []

    def alices(self) -> ManualSignaling:
        return ManualSignaling(self._alice_writes, self.to_alice.get)

    def bobs(self) -> ManualSignaling:
        return ManualSignaling(self._bob_writes, self.to_bob.get)

    async def _alice_writes(self, text: str) -> None:
        self.written_by_alice.append(text)
        await self.to_bob.put(text)

    async def _bob_writes(self, text: str) -> None:
        self.written_by_bob.append(text)
        await self.to_alice.put(text)


async def test_after_a_wrong_paste_the_right_one_connects():
    table, callee, caller = Table(), bob(), alice()
    for queue in (table.to_alice, table.to_bob):
        queue.put_nowait("where is that text?")
    async with nothing_left(), callee, caller:
        accepting = asyncio.create_task(callee.accept(table.bobs()))
        connection = await caller.connect(BOB.public_key, table.alices(), timeout=20)
        other = await accepting
        await connection.send(b"hello")
        assert await asyncio.wait_for(other.recv(), 10) == b"hello"
        told = [step.text for step in connection.report.attempts[0].steps]
        assert any("no line says BEGIN PEERPATH" in text for text in told)


async def test_who_has_answered_has_nothing_more_to_carry():
    table, callee, caller = Table(), bob(), alice()
    async with nothing_left(), callee, caller, callee.listen(table.bobs()) as calls:
        await caller.connect(BOB.public_key, table.alices(), timeout=20)
        await calls.accept()
        [answerer] = calls._reception._answerers.values()
        answerer.attempt.mend("the peer has not been heard for a while")
        answerer.attempt.tell_candidates(CandidatesBody(0, (), True))
    assert len(table.written_by_bob) == 1


async def test_who_has_called_in_vain_has_nothing_more_to_carry():
    table, caller = Table(), alice()
    async with nothing_left(), caller:
        with pytest.raises(CallError, match="no connection within"):
            await caller.connect(BOB.public_key, table.alices(), timeout=0.5)
    assert len(table.written_by_alice) == 1


async def test_who_has_answered_in_vain_has_nothing_more_to_carry():
    table, callee, caller = Table(), bob(options=CallOptions(timeout=0.5)), alice()
    carried_by_nobody: list[str] = []
    bobs = ManualSignaling(carried_by_nobody.append, table.to_bob.get)
    async with nothing_left(), callee, caller, callee.listen(bobs):
        with pytest.raises(CallError):
            await caller.connect(BOB.public_key, table.alices(), timeout=2)
        await until(lambda: "failed" in callee.results)
    assert len(carried_by_nobody) == 1


async def test_a_link_that_dies_is_the_end_at_once_with_nothing_more_to_carry():
    table, callee, caller = Table(), bob(), alice()
    async with nothing_left(), callee, caller, callee.listen(table.bobs()) as calls:
        connection = await caller.connect(BOB.public_key, table.alices(), timeout=20)
        other = await calls.accept()
        lose_link(connection, other)
        for end in (connection, other):
            with pytest.raises(ConnectionClosed, match="somebody would have to carry"):
                await asyncio.wait_for(end.recv(), 5)
    assert (len(table.written_by_alice), len(table.written_by_bob)) == (1, 1)
