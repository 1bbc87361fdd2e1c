"""The command line: its flags, what it prints, its exit status."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import Result
from stunwire import long_term_key
from turnrelay import __version__
from turnrelay.cli import app
from turnrelay.core.protocols import KeyQuery
from turnrelay.pid_file import PidFile
from turnrelay.policy.time_limited import SharedSecrets, rest_password
from turnrelay.policy.user_database import UserDatabase
from turnrelay.settings import Settings
from turnrelay.settings.keys import KEYS
from typer.testing import CliRunner


class Terminal:
    """Runs commands in this process, with an environment and a data directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "data"
        self.environ = {name: None for name in os.environ if name.startswith("TURNRELAY_")} | {
            "STATE_DIRECTORY": str(self.data_dir),
            "TERM": "dumb",
            "COLUMNS": "200",
        }

    def run(self, *arguments: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(app, arguments, input=typed, env=self.environ)

    def database(self, realm: str = "turnrelay") -> UserDatabase:
        return UserDatabase(self.data_dir / "users.sqlite3", realm)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What `serve` would have run with."""
    settings: list[Settings] = []
    stand_in = ModuleType("turnrelay.processes")

    def run(given: Settings) -> int:
        settings.append(given)
        return 0

    stand_in.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "turnrelay.processes", stand_in)
    return settings


# -- serve ------------------------------------------------------------------------------------------------

SERVE_FLAGS = {
    *("--config", "--listen", "--port", "--tls-port", "--tls-cert", "--tls-key", "--relay-ip"),
    *("--external-ip", "--alternate-ip", "--realm", "--user", "--shared-secret", "--min-port", "--max-port"),
    *("--operator-token", "--session-details", "--test-page", "--mover", "--workers", "--otlp-endpoint"),
    *("--allow-peer", "--deny-peer", "--http", "--plane", "--data-dir", "--log-level", "--log-format"),
    *("--shared", "--tcp-relay", "--tunnel", "--rendezvous", "--rendezvous-host", "--trusted-proxy"),
    *("--drain-timeout", "--upgrade-timeout", "--alternate-server"),
}


def test_serve_has_the_flags_that_scripts_depend_on(terminal):
    shown = terminal.run("serve", "--help").output
    assert [flag for flag in SERVE_FLAGS if f"{flag} " not in shown] == []


def test_every_setting_but_the_limits_has_its_flag():
    assert {key.flag for key in KEYS.values() if key.flag} == SERVE_FLAGS - {"--config"}
    assert all(key.path.startswith("limits.") for key in KEYS.values() if key.flag is None)


def test_serve_passes_every_flag_on(terminal, served, tmp_path):
    config = tmp_path / "turnrelay.toml"
    config.write_text('realm = "file"\nport = 1\n[limits]\nallocations_total = 7')
    result = terminal.run(
        *("serve", "--config", str(config), "--listen", "10.0.0.1", "--listen", "::1", "--port", "3000"),
        *("--tls-port", "3001", "--relay-ip", "10.0.0.1", "--relay-ip", "10.0.0.2"),
        *("--external-ip", "8.8.8.8/10.0.0.1", "--external-ip", "8.8.4.4/10.0.0.2"),
        *("--alternate-ip", "10.0.0.2", "--user", "a:b:c"),
        *("--alternate-server", "8.8.4.4", "--alternate-server", "2001:db8::4/Relay2.example.org"),
        *("--user", "d:e", "--shared-secret", "north-north-north", "--shared-secret", "south-south-south"),
        *("--min-port", "50000", "--max-port", "50010", "--allow-peer", "10.0.0.0/8"),
        *("--deny-peer", "10.1.0.0/16", "--http", "off", "--plane", "userspace"),
        *("--shared", "0.0.0.0:443", "--shared", "[::]:443", "--tunnel", "off"),
        *("--rendezvous", "OFF", "--rendezvous-host", "A.example", "--rendezvous-host", "*.b.example"),
        *("--trusted-proxy", "127.0.0.1", "--trusted-proxy", "10.0.0.0/8"),
        *(
            "--operator-token",
            "twenty-characters-or-more",
            "--session-details",
            "full",
            "--test-page",
            "open",
        ),
        *("--data-dir", str(tmp_path), "--log-level", "debug", "--log-format", "json"),
    )
    assert (result.exit_code, result.output.count("without tls_cert")) == (0, 1)
    [settings] = served
    assert (settings.listen, settings.port, settings.tls_port) == (["10.0.0.1", "::1"], 3000, 3001)
    assert settings.relay_ip == ["10.0.0.1", "10.0.0.2"]
    assert [str(external) for external in settings.external_ip] == ["8.8.8.8/10.0.0.1", "8.8.4.4/10.0.0.2"]
    assert [(user.name, user.password.get_secret_value()) for user in settings.users] == [
        ("a", "b:c"),
        ("d", "e"),
    ]
    assert [secret.get_secret_value()[:5] for secret in settings.shared_secrets] == ["north", "south"]
    assert (settings.min_port, settings.max_port, settings.http) == (50000, 50010, None)
    assert [str(shared) for shared in settings.shared] == ["0.0.0.0:443", "[::]:443"]
    assert settings.tunnel == "off"
    assert settings.rendezvous == "off"
    assert settings.rendezvous_host == ["a.example", "*.b.example"]
    assert settings.trusted_proxy == ["127.0.0.1/32", "10.0.0.0/8"]
    assert (settings.allow_peer, settings.deny_peer) == (["10.0.0.0/8"], ["10.1.0.0/16"])
    assert (settings.plane, settings.data_dir) == ("userspace", tmp_path)
    assert settings.alternate_ip == "10.0.0.2"
    assert list(map(str, settings.alternate_server)) == ["8.8.4.4", "2001:db8::4/relay2.example.org"]
    assert (settings.log_level, settings.log_format, settings.realm) == ("debug", "json", "file")
    assert settings.limits.allocations_total == 7
    assert settings.operator_token.get_secret_value() == "twenty-characters-or-more"
    assert (settings.session_details, settings.test_page) == ("full", "open")


def test_serve_without_flags(terminal, served):
    assert terminal.run("serve").exit_code == 0
    [settings] = served
    assert (settings.port, settings.listen, settings.data_dir) == (3478, [], terminal.data_dir)


def test_serve_ends_with_the_status_of_the_relay(terminal, served, monkeypatch):
    monkeypatch.setattr(sys.modules["turnrelay.processes"], "run", lambda _: 1)
    assert terminal.run("serve").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["serve", "--port", "99999"], 78, "--port = '99999'"),
        (["serve", "--realm", ""], 78, "--realm = ''"),
        (["serve", "--config", "/nowhere/x.toml"], 78, "No such file"),
        (["serve", "--prot", "1"], 2, "No such option"),
        (["serve", "more"], 2, "unexpected extra argument"),
        (["serve", "--port"], 2, "requires an argument"),
        (["swerve"], 2, "No such command"),
        (["users", "add"], 2, "Missing argument"),
        (["credentials", "alice", "--ttl", "soon"], 2, "no duration"),
        (["credentials", "alice", "--ttl", "0"], 2, "no duration"),
        (["credentials", "alice", "--ttl", "36500d"], 0, "user name"),
        (["credentials", "alice", "--ttl", "999999d"], 1, "ten digits"),
        (["--version"], 0, f"turnrelay {__version__}"),
    ],
)
def test_exit_status(terminal, served, arguments, status, says):
    result = terminal.run(*arguments)
    assert result.exit_code == status
    assert says in result.output
    assert "Traceback" not in result.output
    assert served == []


def test_warnings_do_not_keep_it_from_serving(terminal, served):
    result = terminal.run("serve", "--shared-secret", "short")
    assert "guessed" in result.stderr
    assert result.exit_code == 0
    assert len(served) == 1


# -- users ------------------------------------------------------------------------------------------------


def test_add_asks_twice_and_shows_nothing(terminal):
    result = terminal.run("users", "add", "alice", typed="hunter22\nhunter22\n")
    assert result.exit_code == 0
    assert "hunter22" not in result.output
    [credential] = terminal.database().look_up(KeyQuery(username="alice"))
    assert long_term_key("alice", "turnrelay", "hunter22") in credential.keys.values()


def test_two_different_passwords_are_asked_for_again(terminal):
    terminal.run("users", "add", "alice", typed="one\ntwo\nthree\nthree\n")
    [credential] = terminal.database().look_up(KeyQuery(username="alice"))
    assert long_term_key("alice", "turnrelay", "three") in credential.keys.values()


@pytest.mark.parametrize("line", ["pass word \n", "pass word \r\n", "pass word "])
def test_a_password_from_standard_input(terminal, line):
    assert terminal.run("users", "add", "alice", "--password-stdin", typed=line).exit_code == 0
    [credential] = terminal.database().look_up(KeyQuery(username="alice"))
    assert long_term_key("alice", "turnrelay", "pass word ") in credential.keys.values()


def test_no_password_is_no_user(terminal):
    result = terminal.run("users", "add", "alice", "--password-stdin", typed="")
    assert (result.exit_code, terminal.database().list_users()) == (1, [])


def test_list_and_remove(terminal):
    for name in ("bob", "alice"):
        terminal.run("users", "add", name, "--password-stdin", "--realm", "example.org", typed="x")
    lines = terminal.run("users", "list").stdout.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [["alice", "example.org"], ["bob", "example.org"]]
    assert terminal.run("users", "remove", "bob").exit_code == 1  # not of this realm
    assert terminal.run("users", "remove", "bob", "--realm", "example.org").exit_code == 0
    assert len(terminal.run("users", "list").stdout.splitlines()) == 1


def test_a_duplicate_user_is_told(terminal):
    terminal.run("users", "add", "alice", "--password-stdin", typed="x")
    result = terminal.run("users", "add", "alice", "--password-stdin", typed="y")
    assert result.exit_code == 1
    assert "exists already" in result.stderr


# -- credentials ------------------------------------------------------------------------------------------


def test_a_credential_of_the_generated_secret(terminal):
    result = terminal.run("credentials", "alice", "--ttl", "12h", "--json")
    minted = json.loads(result.stdout)
    secret = (terminal.data_dir / "shared-secret").read_text().strip()
    assert minted["password"] == rest_password(secret, minted["username"])
    assert SharedSecrets([secret], "turnrelay").find(minted["username"], time.time() + 12 * 3600 - 60)
    assert (minted["ttl"], minted["uris"]) == (43200, [])
    again = json.loads(terminal.run("credentials", "alice", "--json").stdout)
    assert again["password"] == rest_password(secret, again["username"])


def test_a_credential_of_the_first_configured_secret(terminal):
    terminal.environ["TURNRELAY_SHARED_SECRETS"] = "new-new-new-new-new,old-old-old-old-old"
    lines = terminal.run("credentials", "@alice:example.org", "--ttl", "60").stdout.splitlines()
    facts = {line[:10].strip(): line[11:] for line in lines}
    assert facts["user name"].endswith(":@alice:example.org")
    assert facts["password"] == rest_password("new-new-new-new-new", facts["user name"])
    assert not terminal.data_dir.exists()


@pytest.mark.parametrize(
    ("toml", "hosts"),
    [
        ('external_ip = ["8.8.8.8/10.0.0.1"]\nrelay_ip = ["10.0.0.1"]', ["8.8.8.8"]),
        ('listen = ["10.0.0.1", "2a00::1"]', ["10.0.0.1", "[2a00::1]"]),
        ('relay_ip = ["10.0.0.1"]', ["10.0.0.1"]),
        ('listen = ["0.0.0.0"]', []),
    ],
)
def test_uris_as_far_as_the_settings_tell(terminal, tmp_path, toml, hosts):
    config = tmp_path / "turnrelay.toml"
    config.write_text(toml)
    minted = json.loads(terminal.run("credentials", "alice", "--json", "--config", str(config)).stdout)
    assert minted["uris"] == [
        f"turn:{host}:3478?transport={transport}" for host in hosts for transport in ("udp", "tcp")
    ]


def test_no_credential_that_the_relay_would_refuse(terminal):
    terminal.environ["TURNRELAY_USERS"] = "alice:x"
    result = terminal.run("credentials", "bob")
    assert result.exit_code == 1
    assert "shared_secrets" in result.stderr


def test_a_secret_that_others_may_read_is_refused(terminal):
    terminal.run("credentials", "alice")
    (terminal.data_dir / "shared-secret").chmod(0o644)
    result = terminal.run("credentials", "alice")
    assert result.exit_code == 1
    assert "chmod 600" in result.stderr


# -- token ------------------------------------------------------------------------------------------------


def test_the_token_is_the_one_that_serve_uses(terminal):
    token = terminal.run("token").stdout.strip()
    assert token == (terminal.data_dir / "operator-token").read_text().strip()
    assert terminal.run("token").stdout.strip() == token
    terminal.environ["TURNRELAY_OPERATOR_TOKEN"] = "configured-by-the-operator"
    assert terminal.run("token").stdout.strip() == "configured-by-the-operator"


@pytest.mark.parametrize(
    ("command", "file"),
    [(("token",), "operator-token"), (("credentials", "alice", "--json"), "shared-secret")],
)
def test_a_secret_that_no_relay_has_made_is_mentioned(terminal, command, file):
    first = terminal.run(*command)
    assert f"{terminal.data_dir / file} was made just now" in first.stderr
    assert "just now" not in first.stdout
    assert terminal.run(*command).stderr == ""


async def test_who_knows_of_a_user_is_told(terminal):
    add = "users", "add", "--password-stdin"
    alone = terminal.run(*add, "alice", typed="x").stdout
    assert f"no relay runs with the data directory {terminal.data_dir}" in alone
    relay = await PidFile.take(terminal.data_dir, None)
    assert relay is not None
    assert "the relay that runs knows it" in terminal.run(*add, "bob", typed="x").stdout
    relay.close()


# -- health -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("http", ["127.0.0.1:no port", "127.0.0.1:1"])
async def test_an_http_side_that_cannot_be_asked_is_told_without_a_traceback(terminal, http):
    relay = await PidFile.take(terminal.data_dir, http)
    assert relay is not None
    result = terminal.run("health")
    relay.close()
    assert isinstance(result.exception, SystemExit)
    assert (result.exit_code, f"http://{http}/healthz: " in result.stderr) == (1, True)


def test_where_no_relay_is_found_the_settings_tell_whether_one_can_be_asked(terminal):
    terminal.environ["TURNRELAY_HTTP"] = "127.0.0.1:1"
    result = terminal.run("health")
    assert result.exit_code == 1
    assert f"no relay runs with the data directory {terminal.data_dir}" in result.stderr
    assert "http://127.0.0.1:1/healthz: " in result.stderr
    terminal.environ["TURNRELAY_HTTP"] = "off"
    result = terminal.run("health")
    assert result.exit_code == 1
    assert "no relay runs" in result.stderr
    assert "healthz" not in result.stderr


# -- config -----------------------------------------------------------------------------------------------


def test_config_check(terminal, tmp_path):
    config = tmp_path / "turnrelay.toml"
    config.write_text("port = 5000")
    assert terminal.run("config", "check", "--config", str(config)).exit_code == 0
    config.write_text("prot = 5000\nmin_port = 0")
    result = terminal.run("config", "check", "--config", str(config))
    assert result.exit_code == 1
    assert "2 settings are wrong" in result.stderr
    assert "did you mean port?" in result.stderr


def test_config_show_masks_secrets_and_names_sources(terminal, tmp_path):
    config = tmp_path / "turnrelay.toml"
    config.write_text(
        'users = ["alice:hunter22"]\nshared_secrets = ["north-north-north"]\n'
        'operator_token = "south-south-south-south"'
    )
    config.chmod(0o600)
    terminal.environ["TURNRELAY_LISTEN"] = "10.0.0.1,::1"
    result = terminal.run("config", "show", "--config", str(config))
    lines = result.stdout.splitlines()
    assert f'users = ["alice:********"]  # {config}: users' in lines
    assert f'shared_secrets = ["********"]  # {config}: shared_secrets' in lines
    assert f'operator_token = "********"  # {config}: operator_token' in lines
    assert 'listen = ["10.0.0.1", "::1"]  # TURNRELAY_LISTEN' in lines
    assert "allocations_per_user = 100  # default" in lines
    assert "hunter22" not in result.output
    assert "north" not in result.output
    assert "south" not in result.output


def test_config_show_prints_a_file_that_can_be_read(terminal, tmp_path):
    config = tmp_path / "turnrelay.toml"
    config.write_text(terminal.run("config", "show").stdout)
    assert terminal.run("config", "check", "--config", str(config)).exit_code == 0


# -- as a program -----------------------------------------------------------------------------------------


def program(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TURNRELAY_")}
    return subprocess.run(
        [sys.executable, "-m", "turnrelay", *arguments],
        env=clean | environ,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def test_the_module_is_the_command():
    done = program("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"turnrelay {__version__}\n", "")


def test_errors_are_told_without_a_traceback():
    done = program("serve", TURNRELAY_PORT="99999", TURNRELAY_ALLOW_PEER="here")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith("turnrelay: 2 settings are wrong:\n  TURNRELAY_PORT = '99999'\n")
    assert "Traceback" not in done.stderr


def test_a_usage_error_is_status_2():
    done = program("serve", "--prot", "1")
    assert done.returncode == 2
    assert "--port" in done.stderr


def test_other_commands_do_not_load_the_relay():
    code = "import sys, turnrelay.cli; sys.exit('turnrelay.app' in sys.modules or 'aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
