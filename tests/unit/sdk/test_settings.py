"""Settings: from code, environment and TOML, and complaints that name the field."""

import pytest
from peerpath.errors import SettingsError
from peerpath.fallbacks import USUAL_FALLBACKS
from peerpath.settings import DEFAULT_STUN_SERVERS, Fallback, Settings
from peerpath.stun.servers import StunServer


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("PEERPATH_"):
            monkeypatch.delenv(name)


def toml(tmp_path, text):
    path = tmp_path / "peerpath.toml"
    path.write_text(text)
    return path


def test_the_defaults():
    settings = Settings.load()
    assert settings.automatic
    assert not settings.relay_only
    assert settings.local_ports == (0, 0)
    assert settings.fallbacks == USUAL_FALLBACKS
    assert type(settings) is Settings


def test_public_servers_are_used_only_when_nothing_is_configured():
    assert len(Settings.load().primary_servers) == len(DEFAULT_STUN_SERVERS)
    ours = StunServer("ours")
    assert Settings.load(stun_servers=["ours"]).primary_servers == (ours,)
    assert Settings.load(custom_stun_servers="ours").primary_servers == (ours,)
    assert Settings.load(backup_stun_servers=["ours"]).primary_servers == ()


def test_custom_servers_come_first():
    settings = Settings.load(stun_servers="a, b", custom_stun_servers=["c", "a"])
    assert [server.host for server in settings.primary_servers] == ["c", "a", "b"]


def test_toml(tmp_path):
    path = toml(
        tmp_path,
        """
        stun_servers = ["stun.example.org:3479", "stuns:tls.example.org"]
        local_ports = "40000-40999"
        punch_timeout = 4
        fallbacks = ["onion", "turn"]
        [[turn_servers]]
        uri = "turns:turn.example.org"
        username = "alice"
        password = "wonderland"
        """,
    )
    settings = Settings.load(path)

    assert settings.stun_servers[1] == StunServer("tls.example.org", None, "tls")
    assert settings.local_ports == (40000, 40999)
    assert settings.punch_timeout == 4
    assert settings.fallbacks == (Fallback.ONION, Fallback.TURN)
    assert settings.turn_servers[0].password.get_secret_value() == "wonderland"
    assert "wonderland" not in repr(settings)


def test_code_wins_over_environment_and_that_over_toml(tmp_path, monkeypatch):
    path = toml(tmp_path, "retry_attempts = 1\npunch_timeout = 1\nkeepalive_interval = 21")
    monkeypatch.setenv("PEERPATH_RETRY_ATTEMPTS", "2")
    monkeypatch.setenv("PEERPATH_PUNCH_TIMEOUT", "2")
    settings = Settings.load(path, retry_attempts=3)

    assert (settings.retry_attempts, settings.punch_timeout, settings.keepalive_interval) == (3, 2, 21)


def test_the_environment_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PEERPATH_CONFIG", str(toml(tmp_path, "relay_only = true")))
    assert Settings.load().relay_only


def test_lists_in_the_environment_are_written_with_commas(monkeypatch):
    monkeypatch.setenv("PEERPATH_STUN_SERVERS", "a:1, stun:b")
    monkeypatch.setenv("PEERPATH_FALLBACKS", "turn,proxy")
    monkeypatch.setenv("PEERPATH_LOCAL_PORTS", "5000-6000")
    settings = Settings.load()

    assert settings.stun_servers == (StunServer("a", 1), StunServer("b"))
    assert settings.fallbacks == (Fallback.TURN, Fallback.PROXY)
    assert settings.local_ports == (5000, 6000)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("punch_timeout", 0, "should be greater than 0"),
        ("punch_timeout", "soon", "valid number"),
        ("candidate_timeout", float("inf"), "finite number"),
        ("retry_attempts", 0, "greater than or equal to 1"),
        ("local_ports", "6000-5000", "the lower one first"),
        ("local_ports", "0-5", "two ports from 1 to 65535"),
        ("local_ports", "many", "with a dash between them"),
        ("stun_servers", "a b", "write a host name"),
        ("stun_servers", [5], "write a server as"),
        ("backup_stun_servers", "h:99999", "1 to 65535"),
        ("server_selection", "best", "'fastest', 'ordered' or 'random'"),
        ("fallbacks", ["turn", "turn"], "each fallback once"),
        ("fallbacks", ["pigeon"], "'turn', 'tcp_relay', 'http_tunnel', 'proxy' or 'onion'"),
        ("turn_servers", [{"uri": "stun:h"}], "begin with turn:, turns:, wss:// or ws://"),
        ("turn_servers", [{"uri": "turn:h", "user": "x"}], "no such setting"),
        ("turn_servers", [{"uri": "turn:h"}], "wants a user name"),
        ("turn_servers", [{"uri": "turn:h", "username": "u\n", "password": "p"}], "username: OpaqueString"),
        ("turn_servers", [{"uri": "turn:h", "username": "u", "password": "p\n"}], "password: OpaqueString"),
        ("punch_time", 5, "there is no such setting"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_field(field, value, complaint):
    with pytest.raises(SettingsError, match=complaint) as refused:
        Settings.load(**{field: value})
    assert refused.value.field.split(".")[0] == field


def test_a_bad_value_in_the_environment_is_refused_by_the_name_of_its_field(monkeypatch):
    monkeypatch.setenv("PEERPATH_TURN_SERVERS", "turn:h")
    with pytest.raises(SettingsError, match="turn_servers: write JSON"):
        Settings.load()


@pytest.mark.parametrize(
    ("text", "complaint"), [("a = ", "is not TOML"), ("a = 1", "a: there is no such setting")]
)
def test_a_bad_file_is_refused(tmp_path, text, complaint):
    with pytest.raises(SettingsError, match=complaint):
        Settings.load(toml(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.toml: No such file"):
        Settings.load(tmp_path / "nowhere.toml")
