"""Calls for which a relay is wanted, and the relay refuses: the error names that, and who said it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from interop.conftest import LOOPBACK_ACCESS
from peerpath import CallError, Contacts, Identity, Settings, Traversal
from peerpath.settings import TurnServerSettings
from peerpath.signaling import memory_pair
from support.ports import loopback_address
from support.relay import Relay, Site, uri_of
from support.turnrelay_server import TurnRelayServer


@pytest.fixture(scope="module")
def ours(scratch: Path) -> Iterator[Relay]:
    with (
        loopback_address() as address,
        TurnRelayServer(Site.prepare(scratch / "relays-refuse", address), LOOPBACK_ACCESS) as server,
    ):
        yield server


async def test_a_wrong_password_is_in_the_reason_of_the_call_that_it_made_fail(ours: Relay) -> None:
    uris = [uri_of(ours, "udp"), uri_of(ours, "tcp")]
    servers = [{"uri": uri, "username": ours.access.username, "password": "wrong"} for uri in uris]
    settings = Settings(
        relay_only=True, turn_servers=[TurnServerSettings.model_validate(server) for server in servers]
    )
    alice, bob = Identity.generate(), Identity.generate()
    there, back = memory_pair()
    async with (
        Traversal(alice, settings=settings) as caller,
        Traversal(bob, settings=settings, authorize=Contacts([alice.public_key])) as callee,
        callee.listen(back),
    ):
        with pytest.raises(CallError) as caught:
            await caller.connect(bob.public_key, there, timeout=4)
    reason = caught.value.reason
    assert re.fullmatch(
        r"no connection within 4 s \(on this side: turn:\S+ and 1 other server: 401 \w+\)", reason
    )
    [attempt] = caught.value.details.attempts
    entries = [entry for route in attempt.routes for entry in route.ice.servers]
    assert len({entry.server for entry in entries}) == 2
    # What cannot work is not tried as often as the machine can.
    assert len(attempt.routes) <= 5
    # The server stands beside the reason, not in it as well.
    assert not any("turn:" in entry.reason for entry in entries)
    [turn] = {entry.reason for entry in attempt.routes[0].ice.fallbacks if entry.fallback == "turn"}
    assert turn == "no relayed address"
    assert "make a plan" not in str(caught.value)
