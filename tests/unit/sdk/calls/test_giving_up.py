"""Calls that are not to be: cancelled, out of time, closed from one side or both. Nothing stays behind."""

import asyncio
import contextlib
from typing import Any

import pytest
from peerpath import CallError, CallRefused, ConnectionClosed, Contacts, Identity, Settings, TraversalError
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.role import Role
from peerpath.net.interfaces import host_addresses
from peerpath.signaling import SignalingClosed, memory_pair
from unit.sdk.calls.people import ALICE, BOB, Person, alice, bob, nothing_left, until


async def test_a_call_that_nobody_answers_says_after_its_time_what_was_tried():
    there, _ = memory_pair()
    async with nothing_left(), alice() as caller:
        with pytest.raises(TraversalError) as caught:
            await caller.connect(BOB.public_key, there, timeout=0.3)
    error = caught.value
    assert isinstance(error, CallError)
    assert error.reason == "no connection within 0.3 s"
    [attempt] = error.details.attempts
    assert attempt.direction == "dialed"
    assert attempt.result == error.reason
    assert 0.3 <= attempt.seconds < 3
    [route] = attempt.routes
    assert {entry.type for entry in route.ice.candidates} == {"host"}
    # The short form names each step, with its time.
    assert any("offered, with" in entry.reason for entry in error.report)
    assert all(entry.seconds >= 0 for entry in error.report)
    document = error.details.as_json()
    assert document["peer"] == str(BOB.public_key)
    assert document["attempts"][0]["routes"][0]["ice"]["candidates"]
    [event] = caller.events
    assert (event.direction, event.result, event.method) == ("dialed", "failed", "none")
    assert event.peer == BOB.public_key
    assert event.seconds >= 0.3


@pytest.mark.parametrize("after", [0, 0.001, 0.01, 0.03, 0.06, 0.1, 0.13, 0.2])
async def test_a_call_may_be_cancelled_at_any_time(after):
    there, back = memory_pair(delay=0.01)
    callee, caller = bob(), alice()
    async with nothing_left(), callee, caller, callee.listen(back):
        connecting = asyncio.create_task(caller.connect(BOB.public_key, there)._dial())
        await asyncio.sleep(after)
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await connecting
        await until(lambda: connecting.cancelled() == (caller.results == ["cancelled"]))
    assert caller.results in ([], ["cancelled"], ["connected", "closed"])


async def test_a_call_may_be_cancelled_twice():
    there, _ = memory_pair()
    async with nothing_left(), alice() as caller:
        connecting = asyncio.create_task(caller.connect(BOB.public_key, there)._dial())
        await asyncio.sleep(0.02)
        for _ in range(2):
            connecting.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await connecting


async def test_closing_the_traversal_ends_a_call_under_way():
    there, _ = memory_pair()
    async with nothing_left():
        caller = alice()
        connecting = asyncio.create_task(caller.connect(BOB.public_key, there, timeout=30)._dial())
        await asyncio.sleep(0.05)
        await asyncio.wait_for(caller.close(), 5)
        with pytest.raises(CallError, match="closed by this side"):
            await asyncio.wait_for(connecting, 1)


async def test_closing_the_listener_ends_calls_on_their_way_in():
    async def authorize(_):
        await asyncio.get_running_loop().create_future()

    there, back = memory_pair()
    async with nothing_left(), alice() as caller, bob(authorize=authorize) as callee:
        calls = callee.listen(back)
        async with calls:
            connecting = asyncio.create_task(caller.connect(BOB.public_key, there, timeout=0.5)._dial())
            await asyncio.sleep(0.05)
        with pytest.raises(CallError):
            await connecting
        with pytest.raises(SignalingClosed):
            await calls.accept()


async def test_a_call_that_nobody_accepted_is_closed_with_its_listener():
    there, back = memory_pair()
    async with nothing_left(), alice() as caller, bob() as callee:
        async with callee.listen(back):
            connection = await caller.connect(BOB.public_key, there)
            await until(lambda: callee.results)
        with pytest.raises(ConnectionClosed, match="nobody took the call"):
            await asyncio.wait_for(connection.recv(), 5)


async def test_accept_takes_one_call_or_runs_out_of_time():
    there, back = memory_pair()
    async with nothing_left(), alice() as caller, bob() as callee:
        with pytest.raises(TimeoutError):
            await callee.accept(back, within=0.1)
        accepting = asyncio.create_task(callee.accept(back, within=10))
        connection = await caller.connect(BOB.public_key, there)
        other = await accepting
        await other.send(b"hello")
        assert await connection.recv() == b"hello"


async def test_both_sides_may_close_at_once():
    there, back = memory_pair()
    callee, caller = bob(), alice()
    async with nothing_left(), callee, caller, callee.listen(back) as calls:
        connection = await caller.connect(BOB.public_key, there)
        other = await calls.accept()
        async with asyncio.timeout(5):
            await asyncio.gather(connection.close("mine"), other.close("yours"))
        await until(lambda: caller.results == callee.results == ["connected", "closed"])
    assert caller.events[-1].reason == "mine"
    assert callee.events[-1].reason == "yours"


async def test_the_reason_of_the_one_who_closes_reaches_the_other():
    there, back = memory_pair()
    callee, caller = bob(), alice()
    async with nothing_left(), callee, caller, callee.listen(back) as calls:
        connection = await caller.connect(BOB.public_key, there)
        other = await calls.accept()
        await other.send(b"last words")
        await other.close("tea time")
        assert [message async for message in connection] == [b"last words"]
        assert connection.close_reason == "tea time"
        await until(lambda: caller.results == ["connected", "closed"])
    assert caller.events[-1].reason == "tea time"


async def test_a_peer_whose_traversal_closes_says_so():
    there, back = memory_pair()
    async with nothing_left(), alice() as caller:
        async with bob() as callee, callee.listen(back) as calls:
            connection = await caller.connect(BOB.public_key, there)
            await calls.accept()
        assert [message async for message in connection] == []


class Placed(Person):
    """Whose machine has an address some time after each call began; until then it waits for `patience`."""

    def __init__(
        self, identity: Identity, *, after: float = 0, patience: float = 0, host: str = "", **more: Any
    ) -> None:
        super().__init__(identity, **more)
        self.after = after
        self.patience = patience
        self.found = [host] if host else host_addresses()

    def _endpoint(self, role: Role, **_: Any) -> IceEndpoint:
        loop = asyncio.get_running_loop()
        began = loop.time()

        def hosts() -> list[str]:
            return self.found if loop.time() - began >= self.after else []

        return IceEndpoint(role, hosts=hosts, address_patience=self.patience)


def late_bob(**where: Any) -> Placed:
    return Placed(BOB, authorize=Contacts([ALICE.public_key]), **where)


async def test_a_peer_that_has_no_address_says_so_and_the_caller_need_not_wait():
    there, back = memory_pair()
    callee = late_bob(after=60, patience=0.3)
    async with nothing_left(), callee, alice() as caller, callee.listen(back):
        with pytest.raises(CallError, match="failed at the peer: this machine has no address") as caught:
            await caller.connect(BOB.public_key, there, timeout=60)
        assert not isinstance(caught.value, CallRefused)
        assert caught.value.details.attempts[0].seconds < 20
        await until(lambda: callee.results)
    assert (caller.results, callee.results) == (["failed"], ["failed"])


async def test_a_peer_whose_address_is_about_to_come_waits_for_it_and_answers():
    there, back = memory_pair()
    callee, caller = late_bob(after=0.5, patience=30), Placed(ALICE)
    async with nothing_left(), callee, caller, callee.listen(back) as calls:
        connection = await caller.connect(BOB.public_key, there)
        other = await calls.accept()
        await connection.send(b"there you are")
        assert await other.recv() == b"there you are"


async def test_closing_the_listener_tells_the_caller_whom_it_was_about_to_answer():
    there, back = memory_pair()
    callee = late_bob(after=60, patience=30)
    async with nothing_left(), callee, alice() as caller:
        async with callee.listen(back) as calls:
            connecting = asyncio.create_task(caller.connect(BOB.public_key, there, timeout=60)._dial())
            await until(lambda: calls._reception._on_their_way)
        with pytest.raises(CallError, match="failed at the peer: the listener was closed"):
            await asyncio.wait_for(connecting, 20)


async def test_what_several_routes_fail_of_is_told_once():
    there, back = memory_pair()
    # No candidate of the other one is in a range where checks may go.
    caller, callee = Placed(ALICE, host="127.0.0.1"), late_bob(host="127.0.0.2")
    async with nothing_left(), callee, caller, callee.listen(back):
        with pytest.raises(CallError) as caught:
            await caller.connect(BOB.public_key, there, timeout=7)
    routes = caught.value.details.attempts[0].routes
    assert len(routes) >= 2
    named = [(entry.server, entry.reason) for entry in caught.value.report if entry.server != "signaling"]
    assert named
    assert len(named) == len(set(named))
    lines = str(caught.value.details).splitlines()
    for entry in routes[0].ice.fallbacks:
        assert len([line for line in lines if line.strip().startswith(f"fallback {entry.fallback}:")]) == 1
    assert any(line.endswith("more as told above") for line in lines)


async def test_ipv4_alone_and_ipv6_alone_are_told_apart_by_both_sides():
    there, back = memory_pair()
    callee, caller = late_bob(host="::1"), Placed(ALICE, host="127.0.0.1")
    async with nothing_left(), callee, caller, callee.listen(back):
        with pytest.raises(CallError) as caught:
            await caller.connect(BOB.public_key, there, timeout=30)
    assert caught.value.reason.startswith(
        ("there is no way to the peer", "the call failed at the peer: there")
    )
    assert "this side has IPv4 alone, and the peer's side IPv6 alone" in caught.value.reason
    [attempt] = caught.value.details.attempts
    assert attempt.seconds < 15
    assert attempt.plan.chance == 0
    assert "this side has IPv4 alone, and the peer's side IPv6 alone" in str(attempt.plan)


async def test_relayed_paths_alone_without_a_relay_end_the_call_at_once():
    there, back = memory_pair()
    settings = Settings(relay_only=True)
    callee, caller = bob(settings=settings), alice(settings=settings)
    async with nothing_left(), callee, caller, callee.listen(back):
        with pytest.raises(CallError) as caught:
            await caller.connect(BOB.public_key, there, timeout=60)
        await until(lambda: callee.results)
    reason = caught.value.reason
    assert "there is no way to the peer" in reason
    assert "relay_only is set: the peer learns no address of this machine" in reason
    assert "no TURN server is configured" in reason
    [attempt] = caught.value.details.attempts
    assert attempt.seconds < 15
    # What the settings of the one say is no business of the other's.
    assert "relay_only" not in callee.events[-1].reason
    assert (caller.results, callee.results) == (["failed"], ["failed"])
