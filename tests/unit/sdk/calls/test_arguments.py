"""What an application may hand over, and what it is told of a slip of the pen."""

import pytest
from peerpath import CallOptions, ConnectionOptions
from peerpath.errors import SettingsError
from peerpath.ice.configuration import IceServer
from peerpath.settings import Settings
from peerpath.signaling import memory_pair
from unit.sdk.calls.people import BOB, alice


@pytest.mark.parametrize("privacy", ["relay-only", "Relay_only", "relay_only ", "", "none"])
async def test_a_privacy_that_nobody_knows_is_refused_instead_of_showing_addresses(privacy):
    with pytest.raises(SettingsError) as caught:
        alice(privacy=privacy)
    assert str(caught.value) == f'privacy: write "full" or "relay_only", not {privacy!r}'
    there, _ = memory_pair()
    async with alice() as caller:
        with pytest.raises(SettingsError, match=r'^privacy: write "full" or "relay_only"'):
            caller.connect(BOB.public_key, there, privacy=privacy)


@pytest.mark.parametrize(
    ("servers", "complaint"),
    [
        ("stun:h", "servers: write a list, ['stun:h'], not one string"),
        ([5], "servers: 5 is no server: write stun:host or turn:host"),
        ([None], "servers: None is no server: write stun:host or turn:host"),
        (["foo:h"], "servers: foo:h: begin with stun:, stuns:, turn:, turns: or wss://"),
        (["http://h:80"], "servers: http://h:80: begin with stun:, stuns:, turn:, turns: or wss://"),
        (["turn:h?transport=quic"], "servers: turn:h?transport=quic: query: write ?transport=udp or "),
        (["turn:"], "servers: turn:: host: "),
        (["stun:h:99999"], "servers: 'h:99999': a port is a number from 1 to 65535"),
        (["h.example:x"], "servers: 'h.example:x': a port is a number from 1 to 65535"),
    ],
)
async def test_a_server_that_cannot_be_read_is_named_in_one_line_with_the_argument(servers, complaint):
    with pytest.raises(SettingsError) as caught:
        alice(servers=servers, username="u", password="p")
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given", ["h", "h:3478", "h:3478?transport=tcp", "[2001:db8::1]:3478", "2001:db8::1"]
)
async def test_a_host_alone_is_a_stun_server(given):
    [server] = alice(servers=[given]).settings.custom_stun_servers
    assert server.host in ("h", "2001:db8::1")


@pytest.mark.parametrize("credentials", [{}, {"username": "u"}, {"password": "p"}])
async def test_a_turn_server_wants_a_user_and_a_password(credentials):
    complaint = "turn:h: a TURN server wants a user name and a password"
    with pytest.raises(SettingsError, match=f"^servers: {complaint}$"):
        alice(servers=["turn:h"], **credentials)
    with pytest.raises(SettingsError, match=complaint):
        Settings.load(turn_servers=[{"uri": "turn:h", **credentials}])


@pytest.mark.parametrize("credentials", [("alice\n", "wonderland"), ("alice", "wonderland\n")])
async def test_credentials_with_a_line_break_are_refused_before_anything_is_sent(credentials):
    username, password = credentials
    with pytest.raises(SettingsError, match=r"^servers: turn:h: (username|password): OpaqueString") as caught:
        alice(servers=["turn:h"], username=username, password=password)
    assert "wonderland" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^(username|password): OpaqueString"):
        IceServer("turn:h", username, password)


def test_the_uri_of_a_turn_server_begins_as_one():
    given = {"uri": "http://h", "username": "u", "password": "p"}
    with pytest.raises(SettingsError, match=r"begin with turn:, turns:, wss:// or ws://$"):
        Settings.load(turn_servers=[given])


WRONG = [0, -1, float("nan"), float("inf"), "5", None, True]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ["timeout", "reconnect_for", "lost_after", "attempts_burst"])
def test_options_of_calls_are_numbers_more_than_nothing(name, wrong):
    with pytest.raises(SettingsError, match=f"^{name}: has to be a number more than 0, not "):
        CallOptions(**{name: wrong})


@pytest.mark.parametrize("wrong", WRONG)
def test_options_of_a_connection_are_numbers_more_than_nothing(wrong):
    with pytest.raises(SettingsError, match=r"^close_timeout: has to be a number more than 0, not "):
        ConnectionOptions(close_timeout=wrong)


@pytest.mark.parametrize("wrong", [wrong for wrong in WRONG if wrong is not None])
async def test_the_time_of_a_call_is_a_number_more_than_nothing(wrong):
    there, _ = memory_pair()
    async with alice() as caller:
        with pytest.raises(SettingsError, match=r"^timeout: has to be a number more than 0, not "):
            caller.connect(BOB.public_key, there, timeout=wrong)
