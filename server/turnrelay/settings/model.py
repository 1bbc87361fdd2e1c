"""Settings: everything an operator can choose. Where the values come from is in sources.py."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from turnrelay.core.alternates import AlternateServer
from turnrelay.settings.values import (
    ExternalAddress,
    HttpAddress,
    StaticUser,
    expand_home,
    lower,
    no_bool,
    read_alternate_host,
    read_alternate_server,
    read_cidr,
    read_endpoint,
    read_external,
    read_host,
    read_host_name,
    read_http,
    read_listening,
    read_operator_token,
    read_realm,
    read_relay_host,
    read_secret,
    read_user,
)

Host = Annotated[str, PlainValidator(read_host)]
HostName = Annotated[str, PlainValidator(read_host_name)]
RelayHost = Annotated[str, PlainValidator(read_relay_host)]
AlternateHost = Annotated[str | None, PlainValidator(read_alternate_host)]
Alternate = Annotated[AlternateServer, PlainValidator(read_alternate_server)]
External = Annotated[ExternalAddress, PlainValidator(read_external)]
Cidr = Annotated[str, PlainValidator(read_cidr)]
User = Annotated[StaticUser, PlainValidator(read_user)]
Secret = Annotated[SecretStr, PlainValidator(read_secret)]
Endpoint = Annotated[str | None, PlainValidator(read_endpoint)]
OperatorToken = Annotated[SecretStr | None, PlainValidator(read_operator_token)]
Realm = Annotated[str, PlainValidator(read_realm)]
File = Annotated[Path, AfterValidator(expand_home)]
Http = Annotated[HttpAddress | None, PlainValidator(read_http)]
Listening = Annotated[HttpAddress, PlainValidator(read_listening)]
Number = Annotated[int, BeforeValidator(no_bool)]
ListenPort = Annotated[Number, Field(ge=0, le=65535)]
RelayPort = Annotated[Number, Field(ge=1, le=65535)]
AtLeastOne = Annotated[Number, Field(ge=1)]
Seconds = Annotated[Number, Field(ge=1, le=2**31 - 1)]


def _setting(default: object, description: str, expected: str, example: str) -> Any:
    """A field with what its error message and its help text say."""
    extra = {"expected": expected, "example": example}
    if isinstance(default, list):
        return Field(default_factory=list, description=description, json_schema_extra=dict(extra))
    return Field(default=default, description=description, json_schema_extra=dict(extra))


_LISTEN_PORT = "a port number, 0 to 65535 (0: any free one)"
_RELAY_PORT = "a port number, 1 to 65535"
_COUNT = "a whole number from 1 on"
_BYTES = "a whole number of bytes a second, 0 for no limit"
_SECONDS = "a whole number of seconds from 1 on"
_MOST_WORKERS = 64


class LimitSettings(BaseModel):
    """The table `[limits]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    unauthenticated_per_prefix_per_second: AtLeastOne = _setting(
        200, "answers to unauthenticated requests of one source prefix (/24, /56) a second", _COUNT, "200"
    )
    unauthenticated_per_prefix_burst: AtLeastOne = _setting(
        1000, "such answers that one source prefix may get at once", _COUNT, "1000"
    )
    requests_per_allocation_per_second: AtLeastOne = _setting(
        50, "requests on one allocation a second", _COUNT, "50"
    )
    requests_per_allocation_burst: AtLeastOne = _setting(
        200, "requests on one allocation at once", _COUNT, "200"
    )
    allocations_per_user: AtLeastOne = _setting(100, "live allocations of one user", _COUNT, "100")
    allocations_per_prefix: AtLeastOne = _setting(
        1000, "live allocations of one source prefix (/24, /56)", _COUNT, "1000"
    )
    allocations_total: AtLeastOne = _setting(
        16384, "live allocations in all, or as many as there are ports if that is fewer", _COUNT, "16384"
    )
    permissions_per_allocation: AtLeastOne = _setting(
        256, "permitted peer addresses of one allocation", _COUNT, "256"
    )
    channels_per_allocation: Annotated[Number, Field(ge=1, le=4096)] = _setting(
        256, "channels of one allocation", "a whole number, 1 to 4096", "256"
    )
    bandwidth_per_allocation: Annotated[Number, Field(ge=0)] = _setting(
        12_500_000, "bytes a second that one relayed address may relay", _BYTES, "12500000"
    )
    bandwidth_per_user: Annotated[Number, Field(ge=0)] = _setting(
        50_000_000, "bytes a second that all allocations of one user may relay", _BYTES, "50000000"
    )
    bandwidth_burst_seconds: Annotated[float, BeforeValidator(no_bool), Field(gt=0, le=60)] = _setting(
        1.0,
        "seconds of full bandwidth that may be relayed at once, 65,536 bytes at the least",
        "a number above 0, up to 60",
        "1.0",
    )
    tcp_connections_per_prefix: AtLeastOne = _setting(
        500, "TCP, TLS and tunnel connections of one source prefix (/24, /56)", _COUNT, "500"
    )
    tcp_connections_total: AtLeastOne = _setting(
        10_000, "TCP, TLS and tunnel connections in all", _COUNT, "10000"
    )
    tcp_idle_seconds: Seconds = _setting(
        60, "seconds after which a silent connection without an allocation is closed", _SECONDS, "60"
    )
    outcomes_per_prefix_per_second: AtLeastOne = _setting(
        10, "traversal outcomes reported from one source prefix (/24, /56) a second", _COUNT, "10"
    )
    outcomes_per_prefix_burst: AtLeastOne = _setting(
        100, "such reports that one source prefix may make at once", _COUNT, "100"
    )
    self_test_seconds: Annotated[Number, Field(ge=0, le=86400)] = _setting(
        60,
        "seconds between self-tests, in which the relay asks itself for an allocation; 0 for none",
        "a whole number of seconds, 0 to 86400",
        "60",
    )
    rendezvous_connections_per_prefix: AtLeastOne = _setting(
        500, "clients at the rendezvous of one source prefix (/24, /56)", _COUNT, "500"
    )
    rendezvous_connections_total: AtLeastOne = _setting(
        10_000, "clients at the rendezvous in all", _COUNT, "10000"
    )
    rendezvous_messages_per_key_per_second: AtLeastOne = _setting(
        20, "messages that one key may send by the rendezvous a second", _COUNT, "20"
    )
    rendezvous_messages_per_key_burst: AtLeastOne = _setting(
        200, "such messages that one key may send at once", _COUNT, "200"
    )
    rendezvous_messages_per_prefix_per_second: AtLeastOne = _setting(
        200, "connections and messages of one source prefix at the rendezvous a second", _COUNT, "200"
    )
    rendezvous_messages_per_prefix_burst: AtLeastOne = _setting(
        2000, "such connections and messages of one source prefix at once", _COUNT, "2000"
    )
    credential_ttl_seconds: Seconds = _setting(
        86400, "longest time that a credential of the API may be valid", _SECONDS, "86400"
    )
    default_lifetime_seconds: Seconds = _setting(
        600, "lifetime of an allocation whose client asks for none", _SECONDS, "600"
    )
    max_lifetime_seconds: Seconds = _setting(
        3600, "longest lifetime that a client may ask for", _SECONDS, "3600"
    )
    nonce_lifetime_seconds: Seconds = _setting(
        3600, "how long a client may use one nonce, in steps of 16 seconds", _SECONDS, "3600"
    )


class Settings(BaseSettings):
    """What `turnrelay serve` runs with.

    `Settings(...)` takes values and looks nowhere else; `sources.load_settings` reads the file, the
    environment and the flags, and checks what belongs together.
    """

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    listen: list[Host] = _setting(
        [], "address to listen on; every interface if none is given", "IP addresses", "192.0.2.10"
    )
    port: ListenPort = _setting(3478, "UDP and TCP port", _LISTEN_PORT, "3478")
    tls_port: ListenPort = _setting(5349, "TLS port; served if there is a certificate", _LISTEN_PORT, "5349")
    tls_cert: File | None = _setting(
        None, "certificate chain (PEM)", "a file", "/etc/turnrelay/fullchain.pem"
    )
    tls_key: File | None = _setting(
        None, "private key of the certificate (PEM)", "a file", "/etc/turnrelay/privkey.pem"
    )
    relay_ip: list[RelayHost] = _setting(
        [],
        "local address to relay from; detected if none is given",
        "addresses of this machine",
        "192.0.2.10",
    )
    external_ip: list[External] = _setting(
        [],
        "address by which a relay address is reached from outside, when NAT is in between",
        "PUBLIC or PUBLIC/PRIVATE",
        "198.51.100.7/10.0.0.5",
    )
    alternate_ip: AlternateHost = _setting(
        None,
        "second local address, for NAT behaviour discovery (RFC 5780), which also takes UDP port + 1",
        "an address of this machine other than the first one listened on",
        "192.0.2.11",
    )
    alternate_server: list[Alternate] = _setting(
        [],
        "other relay, for the same users and on the same ports, that new clients are sent to while this one "
        "drains; NAME is one of its certificate, if that is another one",
        "ADDR or ADDR/NAME",
        "192.0.2.20/relay2.example.org",
    )
    realm: Realm = _setting("turnrelay", "realm of the credentials", "up to 127 characters", "example.org")
    users: list[User] = _setting(
        [],
        "static user; a flag is seen by every process of the machine, the file is not",
        "NAME:PASSWORD",
        "alice:Tr0ub4dor",
    )
    shared_secrets: list[Secret] = _setting(
        [],
        "secret for time-limited credentials; the first one mints, all are accepted",
        "a secret text",
        "9vDq2Yz0pN1sX4tB",
    )
    min_port: RelayPort = _setting(49152, "lowest port to relay from", _RELAY_PORT, "49152")
    max_port: RelayPort = _setting(65535, "highest port to relay from", _RELAY_PORT, "65535")
    allow_peer: list[Cidr] = _setting(
        [], "range of peers to admit though it is not public", "a range of addresses", "10.1.0.0/16"
    )
    deny_peer: list[Cidr] = _setting(
        [], "range of peers to refuse, stronger than --allow-peer", "a range of addresses", "203.0.112.0/24"
    )
    http: Http = _setting(
        HttpAddress("127.0.0.1", 9641),
        "address of the HTTP side (metrics, health, API, console); off for none",
        "ADDR:PORT or off",
        "127.0.0.1:9641",
    )
    shared: list[Listening] = _setting(
        [],
        "address that TURN over TCP and TLS and the HTTP side, less metrics and health, share",
        "ADDR:PORT",
        "0.0.0.0:443",
    )
    tcp_relay: Annotated[Literal["on", "off"], BeforeValidator(lower)] = _setting(
        "off", "TCP connections with peers (RFC 6062) for clients that ask for it", "on or off", "on"
    )
    tunnel: Annotated[Literal["on", "off"], BeforeValidator(lower)] = _setting(
        "on", "TURN over WebSocket at /v1/tunnel of the HTTP side", "on or off", "off"
    )
    rendezvous: Annotated[Literal["on", "off"], BeforeValidator(lower)] = _setting(
        "on", "messages between clients' keys at /v1/rendezvous of the HTTP side", "on or off", "off"
    )
    rendezvous_host: list[HostName] = _setting(
        [],
        "name by which clients reach the rendezvous, beside those of the certificate and its own addresses",
        "a host name",
        "relay.example.org",
    )
    trusted_proxy: list[Cidr] = _setting(
        [],
        "range of reverse proxies whose X-Forwarded-For the HTTP side believes",
        "a range of addresses",
        "127.0.0.1/32",
    )
    operator_token: OperatorToken = _setting(
        None,
        "token of the operator, for the API and the console; made in the data directory if none is given",
        "at least 20 characters",
        "vJ5sXo2MhLr8Qy1NfW6t",
    )
    session_details: Annotated[Literal["redacted", "full"], BeforeValidator(lower)] = _setting(
        "redacted",
        "what API and console show of a session; full is its addresses and user name, too",
        "redacted or full",
        "redacted",
    )
    test_page: Annotated[Literal["off", "operator", "open"], BeforeValidator(lower)] = _setting(
        "operator",
        "who may run the page /test, which relays a little: the operator, or with open anyone",
        "off, operator or open",
        "operator",
    )
    plane: Annotated[Literal["auto", "userspace", "xdp"], BeforeValidator(lower)] = _setting(
        "userspace",
        "what moves the packets; auto is the kernel (XDP) where it can be had",
        "auto, userspace or xdp",
        "auto",
    )
    mover: Annotated[Literal["auto", "c", "python"], BeforeValidator(lower)] = _setting(
        "auto",
        "what moves packets in userspace; auto is the C extension where it was built",
        "auto, c or python",
        "python",
    )
    workers: Annotated[Number, Field(ge=0, le=_MOST_WORKERS)] = _setting(
        1,
        "processes that relay, beside one that supervises them if they are several; 0 for one a core, "
        f"{_MOST_WORKERS} at most",
        f"a whole number, 0 to {_MOST_WORKERS}",
        "4",
    )
    drain_timeout: Annotated[Number, Field(ge=0, le=604_800)] = _setting(
        25,
        "seconds that SIGTERM leaves to live allocations, while no new ones are made; 0 ends them at once",
        "a whole number of seconds, 0 to 604800",
        "3600",
    )
    upgrade_timeout: Annotated[Number, Field(ge=0, le=604_800)] = _setting(
        3600,
        "seconds that the process before an upgrade stays for connections that cannot move (TLS, tunnels)",
        "a whole number of seconds, 0 to 604800",
        "600",
    )
    data_dir: File = Field(
        default_factory=lambda: default_data_dir(os.environ),
        description="directory of the user database and the generated secrets",
        json_schema_extra={"expected": "a directory", "example": "/var/lib/turnrelay"},
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)] = _setting(
        "info", "least severe messages to log", "debug, info, warning or error", "info"
    )
    log_format: Annotated[Literal["auto", "text", "json"], BeforeValidator(lower)] = _setting(
        "auto", "form of the log; auto is text on a terminal and JSON otherwise", "auto, text or json", "auto"
    )
    otlp_endpoint: Endpoint = _setting(
        None,
        "collector that gets allocations as OpenTelemetry traces, OTLP over HTTP; needs the extra otel",
        "a URL",
        "http://127.0.0.1:4318",
    )
    limits: LimitSettings = Field(
        default_factory=LimitSettings,
        description="limits",
        json_schema_extra={"expected": "a table", "example": "[limits]"},
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values only: the sources proper know where each value came from, which these do not tell."""
        return (init_settings,)

    @property
    def worker_processes(self) -> int:
        """How many processes relay."""
        return self.workers or min(os.cpu_count() or 1, _MOST_WORKERS)

    @property
    def tls(self) -> tuple[Path, Path] | None:
        """Certificate and key, None if TLS is not served."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return self.tls_cert, self.tls_key

    @property
    def shared_ports(self) -> list[int]:
        """The shared ports, each once."""
        return list(dict.fromkeys(address.port for address in self.shared))

    def allocations_total(self, relay_addresses: int) -> int:
        """How many allocations there may be on that many relay addresses: each takes a port."""
        return min(self.limits.allocations_total, relay_addresses * (self.max_port - self.min_port + 1))


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """$STATE_DIRECTORY (set by systemd), else turnrelay in the user's data directory of the XDG rules."""
    state_directory = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if state_directory:
        return Path(state_directory)
    # The XDG rules say to ignore a relative path.
    data_home = environ.get("XDG_DATA_HOME", "")
    if data_home.startswith("/"):
        return Path(data_home, "turnrelay")
    try:
        return Path.home() / ".local/share/turnrelay"
    except RuntimeError:  # neither HOME nor an entry in the user database, as in bare containers
        return Path("/var/lib/turnrelay")
