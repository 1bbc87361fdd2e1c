"""Who may call, and in which order that is found out: signature, rate, the application's word."""

import asyncio
import time

import pytest
from peerpath import CallError, CallOptions, CallRefused, Contacts, Decision, Identity
from peerpath.calls.bodies import Kind
from peerpath.signaling import Dialing, memory_pair
from unit.sdk.calls.people import ALICE, BOB, MALLORY, Person, alice, bob, nothing_left, until


async def refusal(their, my):
    """What `my` dialing of Bob comes to, with `their` policy."""
    there, back = memory_pair()
    async with nothing_left(), their, my, their.listen(back):
        with pytest.raises(CallRefused) as caught:
            await my.connect(BOB.public_key, there, timeout=10)
    return caught.value


async def test_an_unknown_key_is_refused_by_default():
    callee, caller = Person(BOB), Person(MALLORY)
    error = await refusal(callee, caller)
    assert error.reason == "the peer takes no calls of this key"
    assert caller.results == callee.results == ["refused"]
    assert callee.events[0].peer == MALLORY.public_key
    assert callee.events[0].method == "none"


async def test_who_is_refused_learns_no_address_and_no_socket_is_opened():
    callee, there_and_back = bob(), memory_pair()
    there, back = there_and_back
    opened = []
    make = callee._kit.endpoint
    object.__setattr__(callee._kit, "endpoint", lambda *a, **k: opened.append(1) or make(*a, **k))
    async with callee, callee.listen(back):
        dialing = Dialing(MALLORY, BOB.public_key, now=time.time())
        await there.send(dialing.seal("offer", {"route": 0, "session": "00" * 16}))
        kind, body = dialing.open(await there.recv())
        assert kind == Kind.REFUSE
        assert body == {"reason": "the peer takes no calls of this key", "later": False}
        dialing = Dialing(ALICE, BOB.public_key, now=time.time())
        await there.send(dialing.seal("offer", {"route": 0, "session": "00" * 16}))
        kind, body = dialing.open(await there.recv())
        assert kind == Kind.REFUSE
        assert body["reason"].startswith("ufrag: ")
    assert opened == []
    assert callee.results == ["refused", "rejected"]


@pytest.mark.parametrize("answer", [None, True, "full"])
async def test_an_answer_that_is_no_decision_refuses(answer, caplog):
    error = await refusal(bob(authorize=lambda _: answer), alice())
    assert error.reason == "the peer takes no calls of this key"
    assert "authorize must return a Decision" in caplog.text


async def test_a_policy_that_fails_refuses_and_tells_the_caller_nothing(caplog):
    def authorize(_):
        raise KeyError("secret table")

    error = await refusal(bob(authorize=authorize), alice())
    assert error.reason == "the peer takes no calls of this key"
    assert "secret table" in caplog.text


async def test_the_answer_may_take_a_while():
    asked = asyncio.Event()

    async def authorize(key):
        asked.set()
        await asyncio.sleep(0.3)
        return Decision.FULL if key == ALICE.public_key else Decision.REFUSE

    there, back = memory_pair()
    callee, caller = bob(authorize=authorize), alice()
    async with callee, caller, callee.listen(back) as calls:
        connection = await caller.connect(BOB.public_key, there)
        assert asked.is_set()
        assert (await calls.accept()).peer == ALICE.public_key
        assert connection.path.kind == "host"


async def test_a_caller_who_gave_up_while_the_person_thought_is_not_taken():
    answer = asyncio.Event()

    async def authorize(_):
        await answer.wait()
        return Decision.FULL

    there, back = memory_pair()
    callee, caller = bob(authorize=authorize), alice()
    async with nothing_left(), callee, caller, callee.listen(back):
        with pytest.raises(CallError, match=r"no connection within 1 s"):
            await caller.connect(BOB.public_key, there, timeout=1)
        answer.set()
        await until(lambda: callee.events)
    assert callee.results == ["failed"]
    assert "the peer has given up" in callee.events[0].reason


async def test_a_key_that_calls_too_often_is_told_to_wait_before_the_policy_is_asked():
    asked = []

    def authorize(key):
        asked.append(key)
        return Decision.REFUSE

    callee = bob(authorize=authorize, options=CallOptions(attempts_burst=2, attempts_per_minute=1))
    there, back = memory_pair()
    async with callee, Person(MALLORY) as mallory, alice() as caller, callee.listen(back):
        for _ in range(2):
            with pytest.raises(CallRefused, match="takes no calls of this key"):
                await mallory.connect(BOB.public_key, there)
        with pytest.raises(CallError, match="too many attempts") as caught:
            await mallory.connect(BOB.public_key, there)
        # That may be tried again later, which a refusal is not worth.
        assert not isinstance(caught.value, CallRefused)
        # Nobody else has to wait for that.
        with pytest.raises(CallRefused):
            await caller.connect(BOB.public_key, there)
    assert asked == [MALLORY.public_key] * 2 + [ALICE.public_key]
    assert callee.results == ["refused", "refused", "limited", "refused"]
    assert mallory.results == ["refused", "refused", "limited"]


async def test_a_listener_is_not_deaf_after_many_refusals():
    there, back = memory_pair()
    callee = bob(options=CallOptions(attempts_burst=1000))
    async with callee, alice() as caller, callee.listen(back) as calls:
        for _ in range(100):
            dialing = Dialing(MALLORY, BOB.public_key, now=time.time())
            await there.send(dialing.seal("offer", {}))
            assert dialing.open(await there.recv())[0] == Kind.REFUSE
        await caller.connect(BOB.public_key, there)
        assert (await calls.accept()).peer == ALICE.public_key


async def test_a_connection_without_addresses_needs_a_relay_and_says_so():
    there, back = memory_pair()
    callee = bob(authorize=Contacts(others=Decision.RELAY_ONLY))
    async with nothing_left(), callee, alice() as caller, callee.listen(back):
        with pytest.raises(CallError) as caught:
            await caller.connect(BOB.public_key, there, timeout=60)
    # Bob's side, which has nothing to offer, ends the call; why is its own business.
    assert caught.value.reason.startswith("the call failed at the peer: there is no way to the peer")
    assert "trusted" not in caught.value.reason
    told = str(caught.value.details)
    # Alice got an answer, with no candidate in it.
    assert "the peer answers on route 0" in told
    assert "remote host" not in told
    assert callee.results == ["failed"]


async def test_dialing_oneself_is_a_mistake():
    there, _ = memory_pair()
    async with nothing_left(), alice() as caller:
        with pytest.raises(ValueError, match="own key"):
            await caller.connect(ALICE.public_key, there)
        with pytest.raises(ValueError, match="no public key"):
            await caller.connect("ppnonsense", there)


async def test_strangers_who_wait_for_an_answer_keep_nobody_out_who_is_known():
    asked = []

    async def authorize(peer):
        if peer != ALICE.public_key:
            asked.append(peer)
            await asyncio.sleep(3600)
        return Decision.FULL

    callee = bob(authorize=authorize, options=CallOptions(incoming_at_once=2))
    there, back = memory_pair()
    async with nothing_left(), callee, alice() as caller, callee.listen(back):
        strangers = [Dialing(Identity.generate(), BOB.public_key, now=time.time()) for _ in range(3)]
        for stranger in strangers:
            await there.send(stranger.seal("offer", {"route": 0, "session": "00" * 16}))
        kind, body = strangers[0].open(await there.recv())
        assert (kind, body["later"]) == (Kind.REFUSE, True)  # it gave way to the third
        await until(lambda: len(asked) == 3)
        connection = await caller.connect(BOB.public_key, there, timeout=10)
        await connection.send(b"here")
        await connection.close()
