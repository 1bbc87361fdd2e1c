"""The command `turnrelay`. It reads settings, prints and leaves the work to others."""

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from turnrelay import __version__
from turnrelay.cli_options import (
    ConfigOption,
    DataDirOption,
    RealmOption,
    flag,
    given_flags,
    parse_duration,
)
from turnrelay.observe.trace import trace
from turnrelay.pid_file import running_relay
from turnrelay.policy.credentials import SharedSecrets, UserDatabase
from turnrelay.policy.errors import OperatorError
from turnrelay.policy.secret_file import OPERATOR_TOKEN, SHARED_SECRET, load_or_create_secret
from turnrelay.policy.user_database import FILE_NAME as USERS_FILE
from turnrelay.settings import Settings
from turnrelay.settings.display import effective_settings
from turnrelay.settings.errors import SettingsError
from turnrelay.settings.sources import LoadedSettings, load_settings
from turnrelay.welcome import turn_uris

_UPGRADE_SECONDS = 90.0
_HEALTH_SECONDS = 4.0
_WRONG_SETTINGS = 78
"""EX_CONFIG of sysexits.h: a service manager need not start the relay again until somebody mends them."""

_stderr = Console(stderr=True, soft_wrap=True, highlight=False)
_stdout = Console(soft_wrap=True, highlight=False)


class _Commands(TyperGroup):
    """Tells the operator what to mend, without a traceback, whichever command it was."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OperatorError as error:
            _tell_operator(str(error), "red")
            is_final = isinstance(error, SettingsError) and ctx.invoked_subcommand == "serve"
            raise typer.Exit(_WRONG_SETTINGS if is_final else 1) from None


def _tell_operator(text: str, color: str) -> None:
    with suppress(OSError):  # a full disk; the relay serves all the same
        _stderr.print(f"turnrelay: {text}", style=color, markup=False)


app = typer.Typer(
    cls=_Commands,
    help="A self-hosted STUN/TURN relay.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they hold secrets
    add_completion=False,
)
users_app = typer.Typer(help="Users with a password of their own, kept in the data directory.")
config_app = typer.Typer(help="What the relay would run with.")
app.add_typer(users_app, name="users", no_args_is_help=True)
app.add_typer(config_app, name="config", no_args_is_help=True)


def main() -> None:
    """The entry point of the command."""
    app(prog_name="turnrelay")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"turnrelay {__version__}")
        raise typer.Exit


@app.callback()
def _turnrelay(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A self-hosted STUN/TURN relay."""


@app.command(
    help="Run the relay until it is interrupted. Without any configuration it listens on every interface, "
    "makes a secret on the first start and prints URIs, user name and password to paste into a client.",
    epilog="Each setting can also be given in the file and in the environment; turnrelay config show lists "
    "their keys, and with them the limits, which have no flags. The key tls_port is TURNRELAY_TLS_PORT in "
    "the environment, limits.allocations_per_user is TURNRELAY_LIMITS__ALLOCATIONS_PER_USER; lists are "
    "separated by commas. Flags are stronger than the environment, that is stronger than the file.",
)
def serve(
    config: ConfigOption = None,
    listen: Annotated[list[str] | None, flag("listen", "ADDR")] = None,
    port: Annotated[str | None, flag("port", "PORT")] = None,
    tls_port: Annotated[str | None, flag("tls_port", "PORT")] = None,
    tls_cert: Annotated[str | None, flag("tls_cert", "FILE")] = None,
    tls_key: Annotated[str | None, flag("tls_key", "FILE")] = None,
    relay_ip: Annotated[list[str] | None, flag("relay_ip", "ADDR")] = None,
    external_ip: Annotated[list[str] | None, flag("external_ip", "PUBLIC[/PRIVATE]")] = None,
    alternate_ip: Annotated[str | None, flag("alternate_ip", "ADDR")] = None,
    alternate_server: Annotated[list[str] | None, flag("alternate_server", "ADDR[/NAME]")] = None,
    realm: RealmOption = None,
    users: Annotated[list[str] | None, flag("users", "NAME:PASSWORD")] = None,
    shared_secrets: Annotated[list[str] | None, flag("shared_secrets", "SECRET")] = None,
    min_port: Annotated[str | None, flag("min_port", "PORT")] = None,
    max_port: Annotated[str | None, flag("max_port", "PORT")] = None,
    allow_peer: Annotated[list[str] | None, flag("allow_peer", "CIDR")] = None,
    deny_peer: Annotated[list[str] | None, flag("deny_peer", "CIDR")] = None,
    http: Annotated[str | None, flag("http", "ADDR:PORT")] = None,
    shared: Annotated[list[str] | None, flag("shared", "ADDR:PORT")] = None,
    tcp_relay: Annotated[str | None, flag("tcp_relay", "on|off")] = None,
    tunnel: Annotated[str | None, flag("tunnel", "on|off")] = None,
    rendezvous: Annotated[str | None, flag("rendezvous", "on|off")] = None,
    rendezvous_host: Annotated[list[str] | None, flag("rendezvous_host", "NAME")] = None,
    trusted_proxy: Annotated[list[str] | None, flag("trusted_proxy", "CIDR")] = None,
    operator_token: Annotated[str | None, flag("operator_token", "TOKEN")] = None,
    session_details: Annotated[str | None, flag("session_details", "redacted|full")] = None,
    test_page: Annotated[str | None, flag("test_page", "off|operator|open")] = None,
    plane: Annotated[str | None, flag("plane", "auto|userspace|xdp")] = None,
    mover: Annotated[str | None, flag("mover", "auto|c|python")] = None,
    workers: Annotated[str | None, flag("workers", "N")] = None,
    drain_timeout: Annotated[str | None, flag("drain_timeout", "SECONDS")] = None,
    upgrade_timeout: Annotated[str | None, flag("upgrade_timeout", "SECONDS")] = None,
    data_dir: DataDirOption = None,
    log_level: Annotated[str | None, flag("log_level", "debug|info|warning|error")] = None,
    log_format: Annotated[str | None, flag("log_format", "auto|text|json")] = None,
    otlp_endpoint: Annotated[str | None, flag("otlp_endpoint", "URL")] = None,
) -> None:
    loaded = _load(config, given_flags(locals()))
    from turnrelay.processes import run  # late: the other commands need none of it

    raise typer.Exit(run(loaded.settings))


@users_app.command("add")
def add_user(
    name: Annotated[str, typer.Argument(help="User name, without colons.")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input, one line.")
    ] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    realm: RealmOption = None,
) -> None:
    """Add a user. Asks for the password; only keys made from it are stored."""
    settings = _load(config, given_flags(locals()), check_files=False).settings
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    _user_database(settings).add(name, password, time.time())
    typer.echo(f"Added {name} in realm {settings.realm}; {_who_knows(settings)}.")


@users_app.command("remove")
def remove_user(
    name: Annotated[str, typer.Argument(help="User name.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    realm: RealmOption = None,
) -> None:
    """Remove a user. What they have open ends when its lifetime does: no Refresh prolongs it."""
    settings = _load(config, given_flags(locals()), check_files=False).settings
    _user_database(settings).remove(name)
    typer.echo(f"Removed {name} from realm {settings.realm}; {_who_knows(settings)}.")


@users_app.command("list")
def list_users(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List the users: name, realm and when they were added. Lines with tabs when not on a terminal."""
    settings = _load(config, given_flags(locals()), check_files=False).settings
    users = _user_database(settings).list_users()
    rows = [(user.username, user.realm, f"{user.created_at:%Y-%m-%d %H:%M} UTC") for user in users]
    if not _stdout.is_terminal:
        for row in rows:
            typer.echo("\t".join(row))
        return
    table = Table("name", "realm", "added")
    for row in rows:
        table.add_row(*row)
    _stdout.print(table)


@app.command()
def credentials(
    name: Annotated[str, typer.Argument(help="Whom the credential is for; quotas are counted by it.")],
    ttl: Annotated[
        int,
        typer.Option(
            parser=parse_duration, metavar="SECONDS|30m|12h|1d", help="How long the credential is valid."
        ),
    ] = "1d",  # type: ignore[assignment]  # the parser reads the default, too
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as chat servers hand it out.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    realm: RealmOption = None,
) -> None:
    """Mint a time-limited credential with the first shared secret.

    Where no secret is configured, it is the one that serve makes in the data directory.
    """
    settings = _load(config, given_flags(locals()), check_files=False).settings
    secrets = SharedSecrets([_minting_secret(settings)], settings.realm)
    now = time.time()
    try:
        username, password = secrets.mint(name, ttl, now)
    except ValueError as error:
        raise OperatorError(str(error)) from None
    tls_ports = [settings.tls_port, *settings.shared_ports] if settings.tls is not None else []
    uris = turn_uris(_known_hosts(settings), settings.port, tls_ports)
    if as_json:
        typer.echo(json.dumps({"username": username, "password": password, "ttl": ttl, "uris": uris}))
        return
    typer.echo(f"user name  {username}")
    typer.echo(f"password   {password}")
    typer.echo(f"valid till {datetime.fromtimestamp(int(now) + ttl, UTC):%Y-%m-%d %H:%M:%S} UTC")
    for uri in uris:
        typer.echo(f"URI        {uri}")


@app.command("trace")
def trace_allocation(
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="Id of an allocation; with a log of level debug also an account or a client."
        ),
    ],
    log: Annotated[
        Path | None, typer.Option("--log", metavar="FILE", help="The log; standard input if none is given.")
    ] = None,
) -> None:
    """Tell what the log knows about an allocation: why it was refused, or why it ended.

    Reads the JSON form of the log (--log-format json, or auto where the log goes to no terminal).
    """
    try:
        with sys.stdin if log is None else log.open(encoding="utf-8", errors="replace") as lines:
            told = list(trace(lines, wanted))
    except OSError as error:
        raise OperatorError(f"{log}: cannot be read ({error.strerror})") from None
    if not told:
        raise OperatorError(f"the log has no JSON line about {wanted}")
    for sentence in told:
        typer.echo(sentence)


@app.command()
def token(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Print the operator's token: for the console, and as `Authorization: Bearer TOKEN` for the API.

    Where none is configured, it is the one that serve makes in the data directory.
    """
    settings = _load(config, given_flags(locals()), check_files=False).settings
    if settings.operator_token is not None:
        typer.echo(settings.operator_token.get_secret_value())
    else:
        typer.echo(_kept_secret(settings, OPERATOR_TOKEN))


@app.command()
def health(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """End with status 0 if the relay that runs here is well, else with 1 and the reason on standard error.

    It is asked at /healthz, wherever it serves that; with --http off it is enough that it runs. A relay that
    cannot be found by its data directory is asked where the settings have its HTTP side.
    """
    settings = _load(config, given_flags(locals()), check_files=False).settings
    try:
        relay = running_relay(settings.data_dir)
    except OperatorError as error:
        if settings.http is None:
            raise
        try:
            _ask_health(str(settings.http))
        except OperatorError as silence:
            raise OperatorError(f"{error}; {silence}") from None
        typer.echo(f"The relay at {settings.http} is well.")
        return
    if relay.http:
        _ask_health(relay.http)
    typer.echo(f"The relay (process {relay.process}) is well.")


@app.command()
def drain(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Have the relay that runs here stop when its last allocation has ended, or drain_timeout is over.

    It makes no new allocations meanwhile. The same as SIGTERM; a second time ends it at once.
    """
    settings = _load(config, given_flags(locals()), check_files=False).settings
    process = running_relay(settings.data_dir).process
    _signal(process, signal.SIGTERM)
    typer.echo(f"The relay (process {process}) drains.")


@app.command()
def upgrade(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Have the relay that runs here replaced by a new process of its command, without a lost packet.

    The new one runs the code that is installed now and reads its settings anew. Where it cannot serve, the
    old one goes on. The same as SIGUSR2; returns when it is known which of them serves.
    """
    settings = _load(config, given_flags(locals()), check_files=False).settings
    before = running_relay(settings.data_dir)
    _signal(before.process, signal.SIGUSR2)
    deadline = time.monotonic() + _UPGRADE_SECONDS
    while (now := running_relay(settings.data_dir)) == before:
        if time.monotonic() > deadline:
            raise OperatorError(f"process {before.process} does not say what became of it; see its log")
        time.sleep(0.05)
    if now.process == before.process:
        raise OperatorError(f"process {before.process} goes on, {now.news.partition(' ')[2]}")
    typer.echo(f"Process {now.process} goes on for process {before.process}.")


@config_app.command("check")
def check_config(config: ConfigOption = None) -> None:
    """Check the settings: exit status 0 if the relay would accept them, else 1 and all that is wrong."""
    _load(config, {})
    typer.echo("The settings are right.")


@config_app.command("show")
def show_config(config: ConfigOption = None) -> None:
    """Print every setting with the source of its value, as a TOML file; secrets are masked."""
    loaded = _load(config, {})
    for line, comment in effective_settings(loaded.settings, loaded.origins):
        _stdout.print(line, end="", markup=False)
        _stdout.print(f"  # {comment}" if comment else "", style="dim", markup=False)


def _load(config: Path | None, flags: Mapping[str, object], *, check_files: bool = True) -> LoadedSettings:
    loaded = load_settings(config_file=config, flags=flags, check_files=check_files)
    for warning in loaded.warnings:
        _tell_operator(warning, "yellow")
    return loaded


def _signal(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except OSError as error:
        raise OperatorError(f"process {process} cannot be signalled: {error.strerror}") from None


def _who_knows(settings: Settings) -> str:
    """Of a change to the user database."""
    try:
        running_relay(settings.data_dir)
    except OperatorError as error:
        return str(error)
    return "the relay that runs knows it within seconds"


def _user_database(settings: Settings) -> UserDatabase:
    return UserDatabase(settings.data_dir / USERS_FILE, settings.realm)


def _minting_secret(settings: Settings) -> str:
    if settings.shared_secrets:
        return settings.shared_secrets[0].get_secret_value()
    if settings.users:
        raise OperatorError(
            "with these settings the relay has static users and no shared secret, so it would refuse the "
            "credential; add shared_secrets to the settings"
        )
    return _kept_secret(settings, SHARED_SECRET)


def _kept_secret(settings: Settings, file_name: str) -> str:
    """The secret of the data directory. A relay that runs there has made it, so one that is made now may be
    nobody's, which is said."""
    file = settings.data_dir / file_name
    was_there = os.path.exists(file)  # False, too, where this user may not look
    secret = load_or_create_secret(settings.data_dir, file_name)
    if not was_there:
        _tell_operator(
            f"{file} was made just now; a relay with another data directory knows nothing of it: "
            "name that one with --data-dir or --config",
            "yellow",
        )
    return secret


def _ask_health(authority: str) -> None:
    try:
        with closing(HTTPConnection(authority, timeout=_HEALTH_SECONDS)) as connection:
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        raise OperatorError(f"http://{authority}/healthz: {error!r}") from None
    if status != HTTPStatus.OK:
        raise OperatorError(f"http://{authority}/healthz: status {status}")


def _known_hosts(settings: Settings) -> list[str]:
    """Where clients reach the relay, as far as the settings tell: none if it listens everywhere."""
    hosts = [external.public for external in settings.external_ip] or settings.listen or settings.relay_ip
    return [host for host in dict.fromkeys(hosts) if not ip_address(host).is_unspecified]
