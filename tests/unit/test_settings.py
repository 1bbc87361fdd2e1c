"""Settings: their sources and strength, their checks, and what an operator reads when they are wrong."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from pydantic import ValidationError
from turnrelay.settings import Settings, default_data_dir
from turnrelay.settings.display import effective_settings
from turnrelay.settings.errors import Problem, SettingsError
from turnrelay.settings.keys import KEYS
from turnrelay.settings.sources import LoadedSettings, load_settings


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class Case:
    """Loads settings from sources written by the test."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "turnrelay.toml"

    def load(self, toml: str = "", environ: dict[str, str] | None = None, **flags: object) -> LoadedSettings:
        config_file = None
        if toml:
            self.file.write_text(toml)
            self.file.chmod(0o600)
            config_file = self.file
        return load_settings(config_file=config_file, environ=environ or {"HOME": "/nowhere"}, flags=flags)

    def problems(
        self, toml: str = "", environ: dict[str, str] | None = None, **flags: object
    ) -> list[Problem]:
        with pytest.raises(SettingsError) as caught:
            self.load(toml, environ, **flags)
        return list(caught.value.problems)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


# -- sources ----------------------------------------------------------------------------------------------


def test_the_defaults_of_the_documentation(case):
    settings = case.load().settings
    assert (settings.port, settings.tls_port, settings.tls) == (3478, 5349, None)
    assert (settings.min_port, settings.max_port, settings.realm) == (49152, 65535, "turnrelay")
    assert (settings.listen, settings.relay_ip, settings.external_ip) == ([], [], [])
    assert (settings.users, settings.shared_secrets) == ([], [])
    assert (str(settings.http), settings.plane, settings.log_level) == ("127.0.0.1:9641", "userspace", "info")
    limits = settings.limits
    assert (limits.unauthenticated_per_prefix_per_second, limits.unauthenticated_per_prefix_burst) == (
        200,
        1000,
    )
    assert (limits.allocations_per_user, limits.allocations_per_prefix) == (100, 1000)
    assert (limits.bandwidth_per_allocation, limits.bandwidth_per_user) == (12_500_000, 50_000_000)
    assert (limits.default_lifetime_seconds, limits.max_lifetime_seconds) == (600, 3600)


def test_flags_beat_the_environment_which_beats_the_file(case):
    toml = 'port = 1001\nmin_port = 1002\nrealm = "file"'
    environ = {"TURNRELAY_PORT": "2001", "TURNRELAY_MIN_PORT": "2002"}
    loaded = case.load(toml, environ, port="3001")
    settings = loaded.settings
    assert (settings.port, settings.min_port, settings.realm) == (3001, 2002, "file")
    assert loaded.origins["port"] == "--port"
    assert loaded.origins["min_port"] == "TURNRELAY_MIN_PORT"
    assert loaded.origins["realm"] == f"{case.file}: realm"
    assert loaded.origins["max_port"] == "default"


def test_a_stronger_list_replaces_a_weaker_one(case):
    settings = case.load('listen = ["10.0.0.1", "10.0.0.2"]', listen=["10.0.0.3"]).settings
    assert settings.listen == ["10.0.0.3"]


def test_limits_are_merged_one_by_one(case):
    toml = "[limits]\nallocations_per_user = 1\nallocations_per_prefix = 2"
    loaded = case.load(toml, {"TURNRELAY_LIMITS__ALLOCATIONS_PER_USER": "7"})
    limits = loaded.settings.limits
    assert (limits.allocations_per_user, limits.allocations_per_prefix, limits.allocations_total) == (
        7,
        2,
        16384,
    )
    assert loaded.origins["limits.allocations_per_user"] == "TURNRELAY_LIMITS__ALLOCATIONS_PER_USER"
    assert loaded.origins["limits.allocations_per_prefix"] == f"{case.file}: limits.allocations_per_prefix"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("alice:x", ["alice"]),
        ("alice:x, bob:y", ["alice", "bob"]),
        ("alice:x,,bob:y,", ["alice", "bob"]),
        ('["alice:x,y", "bob:y"]', ["alice", "bob"]),
        ("", []),
    ],
)
def test_lists_in_the_environment(case, text, names):
    assert [user.name for user in case.load(environ={"TURNRELAY_USERS": text}).settings.users] == names


def test_the_environment_may_name_the_file(case, tmp_path):
    (tmp_path / "other.toml").write_text('realm = "there"')
    loaded = case.load(environ={"TURNRELAY_CONFIG": str(tmp_path / "other.toml")})
    assert loaded.settings.realm == "there"
    with_flag = case.load('realm = "here"', {"TURNRELAY_CONFIG": str(tmp_path / "other.toml")})
    assert with_flag.settings.realm == "here"


def test_paths_in_the_file_start_at_the_file(case, tmp_path):
    assert case.load('data_dir = "data"').settings.data_dir == tmp_path / "data"
    assert case.load('data_dir = "/srv/data"').settings.data_dir == Path("/srv/data")
    assert case.load(data_dir="data").settings.data_dir == Path("data")


def test_home_is_expanded(case):
    assert case.load('data_dir = "~/relay"').settings.data_dir == Path.home() / "relay"
    [problem] = case.problems(data_dir="~nobody-of-this-name/x")
    assert "home directory" in problem.message


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/turnrelay"}, "/var/lib/turnrelay"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "XDG_DATA_HOME": "/x"}, "/var/lib/a"),
        ({"XDG_DATA_HOME": "/home/me/data"}, "/home/me/data/turnrelay"),
        ({"XDG_DATA_HOME": "relative"}, str(Path.home() / ".local/share/turnrelay")),
        ({}, str(Path.home() / ".local/share/turnrelay")),
    ],
)
def test_the_default_data_directory(case, environ, expected):
    assert str(default_data_dir(environ)) == expected
    assert str(case.load(environ=environ).settings.data_dir) == expected


def test_settings_made_in_code_look_nowhere_else(monkeypatch):
    monkeypatch.setenv("TURNRELAY_PORT", "1")
    monkeypatch.setenv("PORT", "2")
    assert Settings().port == 3478
    assert Settings(port=5, limits={"allocations_total": 9}).limits.allocations_total == 9


def test_settings_do_not_change():
    with pytest.raises(ValidationError):
        Settings().port = 5


# -- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "given", "read"),
    [
        ("listen", ["::1", "0.0.0.0", "2001:DB8::0001"], ["::1", "0.0.0.0", "2001:db8::1"]),
        ("port", "0", 0),
        ("external_ip", ["8.8.8.8/10.0.0.1", "2a00::1"], ["8.8.8.8/10.0.0.1", "2a00::1"]),
        (
            "allow_peer",
            ["10.0.0.0/8", "192.168.1.1", "fd00::/8"],
            ["10.0.0.0/8", "192.168.1.1/32", "fd00::/8"],
        ),
        ("deny_peer", ["::ffff:10.0.0.0/104"], ["10.0.0.0/8"]),
        ("http", "[::1]:80", "[::1]:80"),
        ("http", "0.0.0.0:0", "0.0.0.0:0"),
        ("http", "OFF", None),
        ("plane", "XDP", "xdp"),
        ("log_level", "WARNING", "warning"),
        ("log_format", "json", "json"),
        ("realm", "example.org", "example.org"),
        ("alternate_ip", "10.0.0.2", "10.0.0.2"),
    ],
)
def test_values_that_are_read(case, key, given, read):
    value = getattr(case.load(**{key: given}).settings, key)
    if key == "external_ip":
        value = [str(item) for item in value]
    assert (str(value) if key == "http" and value else value) == read


@pytest.mark.parametrize(
    ("key", "given", "says"),
    [
        ("rendezvous", True, "expected on or off"),
        ("rendezvous_host", ["https://relay.example"], "is no host name"),
        ("rendezvous_host", ["relay.example:443"], "is no host name"),
        ("rendezvous_host", ["*"], "is no host name"),
        ("trusted_proxy", ["nginx"], "is no range of addresses"),
        ("listen", ["eth0"], "is no IP address"),
        ("listen", ["10.0.0.1:3478"], "is no IP address"),
        ("listen", ["fe80::1%eth0"], "zone"),
        ("port", "65536", "0 to 65535"),
        ("port", "-1", "0 to 65535"),
        ("port", "http", "0 to 65535"),
        ("port", True, "is no number"),
        ("min_port", "0", "1 to 65535"),
        ("relay_ip", ["0.0.0.0"], "one definite address"),
        ("relay_ip", ["ff02::1"], "one definite address"),
        ("external_ip", ["8.8.8.8/"], "is no IP address"),
        ("external_ip", ["8.8.8.8/::1"], "different families"),
        ("external_ip", ["relay.example.org"], "PUBLIC/PRIVATE"),
        ("alternate_ip", "0.0.0.0", "one definite address"),
        ("alternate_server", ["relay2.example.org"], "is no IP address"),
        ("alternate_server", ["10.0.0.2:3478"], "is no IP address"),
        ("alternate_server", ["10.0.0.2/https://relay2.example.org"], "is no host name"),
        ("realm", "", "realm"),
        ("realm", "x" * 128, "longer than 127"),
        ("realm", 'a"b', "quotation mark"),
        ("users", ["alice"], "no colon"),
        ("users", [":x"], "name is empty"),
        ("users", ["alice:"], "password is empty"),
        ("users", ["a" * 509 + ":x"], "longer than 508"),
        ("shared_secrets", [" "], "secret is empty"),
        ("operator_token", "too short", "fewer than 20 characters"),
        ("operator_token", "with spaces in between it", "other than letters"),
        ("session_details", "some", "redacted or full"),
        ("test_page", "on", "off, operator or open"),
        ("allow_peer", ["10.0.0.1/8"], "write 10.0.0.0/8 for the range"),
        ("deny_peer", ["somewhere"], "no range"),
        ("http", "9641", "no port"),
        ("http", ":9641", "0.0.0.0"),
        ("http", "::1:9641", "brackets"),
        ("http", "localhost:9641", "is no IP address"),
        ("http", "127.0.0.1:99999", "no port"),
        ("plane", "kernel", "auto, userspace or xdp"),
        ("log_level", "trace", "debug, info, warning or error"),
        ("log_format", "xml", "auto, text or json"),
    ],
)
def test_values_that_are_refused(case, key, given, says):
    [problem] = case.problems(**{key: given})
    assert problem.key == key
    assert problem.source == KEYS[key].flag
    assert says in problem.message
    assert "expected " in problem.message
    assert "for example " in problem.message


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("allocations_per_user = 0", "from 1 on"),
        ("allocations_per_user = true", "is no number"),
        ("allocations_per_user = 1.5", "from 1 on"),
        ("channels_per_allocation = 4097", "1 to 4096"),
        ("bandwidth_per_user = -1", "0 for no limit"),
        ("bandwidth_burst_seconds = 0", "above 0"),
        ("nonce_lifetime_seconds = 0", "seconds"),
    ],
)
def test_limits_that_are_refused(case, toml, says):
    [problem] = case.problems(f"[limits]\n{toml}")
    assert problem.source == f"{case.file}: limits.{toml.split()[0]}"
    assert problem.key == f"limits.{toml.split()[0]}"
    assert says in problem.message


def test_every_example_of_an_error_message_is_right(case):
    for key in KEYS.values():
        if key.path in ("tls_cert", "tls_key"):
            continue
        value = [key.example] if key.is_list else key.example
        if not key.path.startswith("limits."):
            case.load(**{key.path: value})
        assert case.load(environ={key.variable: key.example}).origins[key.path] == key.variable


# -- errors -----------------------------------------------------------------------------------------------


def test_all_errors_at_once_each_with_its_source(case):
    problems = case.problems(
        'prot = 1\nrealm = 5\n[limits]\nallocations_total = "many"',
        {"TURNRELAY_ALLOW_PEER": "10.0.0.0/8, nonsense", "TURNRELAY_LISTEN": "[oops"},
        port="99999",
    )
    assert {problem.source for problem in problems} == {
        "--port",
        "TURNRELAY_ALLOW_PEER, item 2",
        "TURNRELAY_LISTEN",
        f"{case.file}: prot",
        f"{case.file}: realm",
        f"{case.file}: limits.allocations_total",
    }


def test_the_text_of_an_error(case):
    with pytest.raises(SettingsError) as caught:
        case.load(port="99999")
    assert str(caught.value) == (
        "1 setting is wrong:\n"
        "  --port = '99999'\n"
        "    expected a port number, 0 to 65535 (0: any free one), for example 3478"
    )


@pytest.mark.parametrize(
    ("toml", "suggestion"),
    [
        ("prot = 1", "did you mean port?"),
        ("tls-port = 1", "did you mean tls_port?"),
        ('user = ["a:b"]', "did you mean users?"),
        ('shared_secret = "x"', "did you mean shared_secrets?"),
        ("allocations_per_user = 5", "did you mean allocations_per_user in the table [limits]?"),
        ("[limits]\nallocation_per_user = 5", "did you mean allocations_per_user in the table [limits]?"),
        ("[limits]\nrealm = 5", "did you mean realm?"),
        ("frobnicate = 1", "turnrelay config show"),
    ],
)
def test_an_unknown_key_in_the_file(case, toml, suggestion):
    [problem] = case.problems(toml)
    assert "there is no such setting" in problem.message
    assert suggestion in problem.message


def test_a_variable_that_is_nearly_a_setting_is_an_error(case):
    [problem] = case.problems(environ={"TURNRELAY_DENY_PEERS": "10.0.0.0/8"})
    assert problem.source == "TURNRELAY_DENY_PEERS"
    assert "did you mean TURNRELAY_DENY_PEER?" in problem.message


def test_a_variable_that_is_far_from_any_setting_is_a_warning(case):
    [warning] = case.load(environ={"TURNRELAY_IMAGE_TAG": "3"}).warnings
    assert "TURNRELAY_IMAGE_TAG" in warning


def test_what_kubernetes_says_of_a_service_named_turnrelay_is_ignored(case):
    loaded = case.load(
        environ={
            "TURNRELAY_SERVICE_HOST": "10.0.0.1",
            "TURNRELAY_SERVICE_PORT": "3478",
            "TURNRELAY_SERVICE_PORT_STUN": "3478",
            "TURNRELAY_PORT": "udp://10.0.0.1:3478",
            "TURNRELAY_PORT_3478_UDP": "udp://10.0.0.1:3478",
            "TURNRELAY_PORT_3478_UDP_ADDR": "10.0.0.1",
        }
    )
    assert loaded.settings.port == 3478
    [warning] = loaded.warnings
    assert "enableServiceLinks" in warning


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"port = ", "no TOML file"), (b"\xff", "no TOML file"), (b"limits = 5", "expected a table")],
)
def test_a_file_that_is_none(case, tmp_path, content, says):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=says):
        load_settings(config_file=path, environ={})


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load_settings(config_file=tmp_path / "missing.toml", environ={})


SECRET = "hunter2hunter2hunter2"


@pytest.mark.parametrize(
    ("toml", "environ", "flags"),
    [
        (f'users = ["{SECRET}"]', {}, {}),
        (f'users = "{SECRET}"', {}, {}),
        (f'shared_secrets = "{SECRET}"', {}, {}),
        (f'shared_secrets = [["{SECRET}"]]', {}, {}),
        ("", {"TURNRELAY_USERS": SECRET}, {}),
        ("", {"TURNRELAY_SHARED_SECRETS": f'["{SECRET}'}, {}),
        ("", {}, {"users": [SECRET]}),
        ("", {}, {"users": [f"alice:{SECRET}", f"alice:{SECRET}"]}),
    ],
)
def test_no_error_shows_a_secret(case, toml, environ, flags):
    with pytest.raises(SettingsError) as caught:
        case.load(toml, environ, **flags)
    shown = [str(caught.value), repr(caught.value)]
    cause: BaseException | None = caught.value
    while cause is not None:
        shown.append(str(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    assert not any(SECRET in text for text in shown)


def test_what_is_shown_of_secrets(case):
    toml = f'users = ["alice:{SECRET}"]\nshared_secrets = ["{SECRET}"]'
    loaded = case.load(toml)
    assert SECRET not in repr(loaded.settings)
    lines = dict(effective_settings(loaded.settings, loaded.origins))
    assert SECRET not in str(lines)
    assert 'users = ["alice:********"]' in lines
    assert lines["port = 3478"] == "default"
    assert lines["# tls_cert ="] == "not set"


def test_what_is_shown_can_be_read_again(case):
    loaded = case.load(listen=["10.0.0.1"], http="off")
    shown = effective_settings(loaded.settings, loaded.origins)
    text = "\n".join(f"{line}  # {comment}" if comment else line for line, comment in shown)
    settings = case.load(text).settings
    assert (settings.listen, settings.http) == (["10.0.0.1"], None)


# -- checks of what belongs together ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "key", "says"),
    [
        ({"min_port": "60000", "max_port": "50000"}, "min_port", "above max_port (50000, --max-port)"),
        ({"http": "127.0.0.1:3478"}, "http", "port 3478 is taken by port (default)"),
        ({"shared": ["0.0.0.0:9641"]}, "shared", "port 9641 is taken by http (default)"),
        ({"tls_cert": "x"}, "tls_cert", "--tls-key FILE"),
        ({"tls_key": "x"}, "tls_key", "--tls-cert FILE"),
        ({"users": ["a:x", "b:y", "a:z"]}, "users", "user 'a' is given 2 times"),
        ({"external_ip": ["8.8.8.8", "8.8.4.4"]}, "external_ip", "2 public addresses"),
        ({"external_ip": ["8.8.8.8/10.0.0.1", "8.8.4.4/10.0.0.1"]}, "external_ip", "2 public addresses"),
        (
            {"external_ip": ["8.8.8.8/10.0.0.2"], "relay_ip": ["10.0.0.1"]},
            "external_ip",
            "10.0.0.2 is no relay address; expected one of 10.0.0.1",
        ),
    ],
)
def test_what_does_not_fit_together(case, flags, key, says):
    [problem] = case.problems(**flags)
    assert problem.key == key
    assert says in problem.message


@pytest.mark.parametrize(
    "flags",
    [
        {"port": "0", "http": "127.0.0.1:0"},
        {"port": "5349"},  # no certificate, so nothing else listens there
        {"external_ip": ["8.8.8.8/10.0.0.1", "8.8.4.4/10.0.0.2", "2a00::1"]},
        {"min_port": "50000", "max_port": "50000"},
    ],
)
def test_what_does_fit_together(case, flags):
    case.load(**flags)


@pytest.mark.parametrize(("cores", "workers"), [(None, 1), (4, 4), (64, 64), (200, 64)])
def test_a_worker_for_each_core_but_no_more_than_there_can_be(monkeypatch, cores, workers):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert Settings(workers=0).worker_processes == workers


def test_lifetimes(case):
    [problem] = case.problems("[limits]\ndefault_lifetime_seconds = 4000")
    assert problem.key == "limits.default_lifetime_seconds"


def test_a_wrong_value_is_not_blamed_twice(case):
    [problem] = case.problems(min_port="x", max_port="10")
    assert problem.key == "min_port"


@pytest.mark.parametrize(("relays", "expected"), [(1, 11), (2, 22), (100_000, 16384)])
def test_allocations_end_with_the_ports(relays, expected):
    assert Settings(min_port=50000, max_port=50010).allocations_total(relays) == expected


def write_pair(directory: Path, authority: trustme.CA, name: str, **options: datetime) -> tuple[Path, Path]:
    pair = authority.issue_cert("relay.example.org", **options)
    cert, key = directory / f"{name}.crt", directory / f"{name}.key"
    cert.write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    key.write_bytes(pair.private_key_pem.bytes())
    return cert, key


def test_a_certificate_and_its_key(case, tmp_path, authority):
    cert, key = write_pair(tmp_path, authority, "good")
    loaded = case.load(tls_cert=str(cert), tls_key=str(key))
    assert loaded.settings.tls == (cert, key)
    assert loaded.warnings == []
    [problem] = case.problems(tls_cert=str(cert), tls_key=str(key), tls_port="3478")
    assert "taken by port" in problem.message


def test_a_certificate_that_soon_expires(case, tmp_path, authority):
    soon = datetime.now(UTC) + timedelta(days=5, hours=1)
    cert, key = write_pair(tmp_path, authority, "soon", not_after=soon)
    [warning] = case.load(tls_cert=str(cert), tls_key=str(key)).warnings
    assert "expires in 5 days" in warning


def test_certificates_that_cannot_be_used(case, tmp_path, authority):
    now = datetime.now(UTC)
    good = write_pair(tmp_path, authority, "good")
    other = write_pair(tmp_path, authority, "other")
    expired = write_pair(tmp_path, authority, "expired", not_after=now - timedelta(days=1))
    early = write_pair(tmp_path, authority, "early", not_before=now + timedelta(days=1))
    junk = tmp_path / "junk"
    junk.write_text("junk")
    table = [
        (good[0], other[1], "tls_key", "is not the key of the certificate"),
        (expired[0], expired[1], "tls_cert", "expired on"),
        (early[0], early[1], "tls_cert", "clock"),
        (junk, good[1], "tls_cert", "BEGIN CERTIFICATE"),
        (good[0], junk, "tls_key", "BEGIN PRIVATE KEY"),
        (tmp_path / "missing", good[1], "tls_cert", "No such file"),
        (good[0], tmp_path, "tls_key", "Is a directory"),
    ]
    for cert, key, blamed, says in table:
        [problem] = case.problems(tls_cert=str(cert), tls_key=str(key))
        assert problem.key == blamed
        assert says in problem.message


def test_a_command_that_serves_nothing_leaves_the_key_unread(case, tmp_path):
    flags = {"tls_cert": str(tmp_path / "a"), "tls_key": str(tmp_path / "b")}
    assert load_settings(flags=flags, environ={}, check_files=False).settings.tls is not None


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"shared_secrets": ["short"]}, "guessed"),
        ({"allow_peer": ["0.0.0.0/0"]}, "127.0.0.1 and 169.254.169.254"),
        ({"allow_peer": ["::/0"]}, "::1 and fd00:ec2::254"),
    ],
)
def test_what_is_allowed_but_said(case, flags, says):
    [warning] = case.load(**flags).warnings
    assert says in warning


def test_a_file_with_secrets_that_others_may_read(case):
    case.file.write_text('users = ["alice:x"]')
    case.file.chmod(0o644)
    [warning] = load_settings(config_file=case.file, environ={}).warnings
    assert f"chmod 600 {case.file}" in warning
    case.file.write_text("port = 5000")
    assert load_settings(config_file=case.file, environ={}).warnings == []


def test_this_process_environment_is_the_default(monkeypatch):
    for variable in [name for name in os.environ if name.startswith("TURNRELAY_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("TURNRELAY_REALM", "from-here")
    assert load_settings().settings.realm == "from-here"
