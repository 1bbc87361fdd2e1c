"""Servers that take the place of others while a Traversal lives: their credentials end."""

import pytest
from peerpath import Settings, SettingsError
from peerpath.signaling import memory_pair
from unit.sdk.calls.people import BOB, alice, bob, until

OWN = Settings(port_mapping=False, custom_stun_servers=["stun:127.0.0.9:1"], candidate_timeout=0.2)


async def test_calls_of_both_directions_ask_the_new_servers_and_those_of_the_settings_still():
    early = ["stun:127.0.0.2:1"]
    async with alice(settings=OWN, servers=early) as caller, bob(settings=OWN, servers=early) as callee:
        await must_ask(caller, callee, {"stun:127.0.0.9:1", "stun:127.0.0.2:1"})
        for side in (caller, callee):
            side.use_servers(["stun:127.0.0.3:1"])
        await must_ask(caller, callee, {"stun:127.0.0.9:1", "stun:127.0.0.3:1"})


async def must_ask(caller, callee, servers):
    """Both sides of a call ask these and no others; the call does not wait for them."""
    there, back = memory_pair()
    async with callee.listen(back) as calls, caller.connect(BOB.public_key, there) as connection:
        for end in (connection, await calls.accept()):
            await until(lambda end=end: len(asked_by(end)) >= len(servers))
            assert asked_by(end) == servers


def asked_by(connection):
    [attempt] = connection.report.attempts
    if attempt.update is not None:
        attempt.update()
    return {entry.server for route in attempt.routes for entry in route.ice.servers}


async def test_the_new_servers_have_the_new_credential_alone():
    async with alice(servers=["turn:127.0.0.2:1"], username="early", password="word") as caller:
        caller.use_servers(["turn:127.0.0.2:1"], username="late", password="other")
        [turn] = caller.settings.turn_servers
        assert (turn.username, turn.password.get_secret_value()) == ("late", "other")


async def test_servers_that_cannot_be_used_change_nothing():
    async with alice(servers=["turn:127.0.0.2:1"], username="u", password="p") as caller:
        before = caller.settings
        with pytest.raises(SettingsError, match="a TURN server wants a user name"):
            caller.use_servers(["turn:127.0.0.3"])
        assert caller.settings is before
