"""Clients of the rendezvous when the relay goes and comes back."""

import asyncio
import time

import pytest
from peerpath.identity import Identity
from peerpath.signaling import (
    Answering,
    Dialing,
    PeerAbsent,
    Rendezvous,
    RendezvousError,
    RendezvousState,
    ReplayGuard,
)
from support.ports import loopback_address
from support.relay import Access, Site
from support.turnrelay_server import TurnRelayServer


@pytest.fixture
def site(tmp_path):
    with loopback_address() as address:
        yield Site.prepare(tmp_path / "relay", address)


def url(site):
    return f"ws://{site.address}:9641"


async def test_clients_register_again_by_themselves_after_a_restart_and_go_on_talking(site):
    alice, bob = Identity.generate(), Identity.generate()
    waiting = asyncio.Event()

    def noticed(state, reason):
        if state is RendezvousState.WAITING:
            assert reason
            waiting.set()

    first = TurnRelayServer(site, Access())
    await asyncio.to_thread(first.__enter__)
    try:
        here = await Rendezvous(url(site), alice, on_state=noticed, send_timeout=60).__aenter__()
        there = await Rendezvous(url(site), bob).__aenter__()
        channel = here.channel(bob.public_key)
        dialing = Dialing(alice, bob.public_key, now=time.time())
        await channel.send(dialing.seal("offer", {}))
        _, answer_to = await anext(there.incoming())
        answering = Answering.open_offer(bob, await answer_to.recv(), ReplayGuard(), now=time.time())
        await answer_to.send(answering.seal("answer", {}))
        assert dialing.open(await channel.recv()) == ("answer", {})
    finally:
        await asyncio.to_thread(first.__exit__)
    await asyncio.wait_for(waiting.wait(), 30)
    note = dialing.seal("note", {"after": "the restart"})

    async def say():
        # The peer may come back a little later than we do.
        while True:
            try:
                return await channel.send(note)
            except PeerAbsent:
                await asyncio.sleep(0.2)

    saying = asyncio.create_task(say())
    second = TurnRelayServer(site, Access())
    await asyncio.to_thread(second.__enter__)
    try:
        await asyncio.wait_for(saying, 60)
        assert answering.open(await asyncio.wait_for(answer_to.recv(), 30)) == (
            "note",
            {"after": "the restart"},
        )
    finally:
        await here.close()
        await there.close()
        await asyncio.to_thread(second.__exit__)


async def test_sending_while_the_server_is_away_ends_in_words_after_its_time(site):
    alice, bob = Identity.generate(), Identity.generate().public_key
    async with Rendezvous(url(site), alice, patient=True, send_timeout=1) as here:
        offer = Dialing(alice, bob, now=time.time()).seal("offer", {})
        with pytest.raises(RendezvousError, match=r"within 1 s: ws://.*cannot be reached"):
            await here.channel(bob).send(offer)


async def test_whoever_is_patient_registers_when_the_server_comes(site):
    registered = asyncio.Event()

    def noticed(state, _):
        if state is RendezvousState.REGISTERED:
            registered.set()

    async with Rendezvous(url(site), Identity.generate(), patient=True, on_state=noticed):
        await asyncio.sleep(0.2)
        assert not registered.is_set()
        relay = TurnRelayServer(site, Access())
        await asyncio.to_thread(relay.__enter__)
        try:
            await asyncio.wait_for(registered.wait(), 60)
        finally:
            await asyncio.to_thread(relay.__exit__)


async def test_a_relay_without_the_rendezvous_says_so(site):
    relay = TurnRelayServer(site, Access(), flags=["--rendezvous", "off"])
    await asyncio.to_thread(relay.__enter__)
    try:
        with pytest.raises(RendezvousError, match="has no rendezvous: it is off"):
            await Rendezvous(url(site), Identity.generate()).__aenter__()
    finally:
        await asyncio.to_thread(relay.__exit__)
