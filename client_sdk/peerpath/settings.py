"""Settings: what an application or its user decides, from code, environment (PEERPATH_*) or a TOML file."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.exceptions import SettingsError as SourceError
from stunwire import TransportAddress

from peerpath.errors import SettingsError
from peerpath.fallbacks import USUAL_FALLBACKS
from peerpath.fallbacks import Fallback as Fallback
from peerpath.net.addresses import join_host_port
from peerpath.net.proxies import Proxy
from peerpath.net.proxy_rules import ProxyRules
from peerpath.stun.servers import StunServer
from peerpath.turn.carriers import parse_relay_uri
from peerpath.turn.credentials import LongTermCredentials

DEFAULT_STUN_SERVERS = (
    "stun:stun.l.google.com:19302",
    "stun:stun1.l.google.com:19302",
    "stun:stun2.l.google.com:19302",
    "stun:stun.cloudflare.com:3478",
    "stun:global.stun.twilio.com:3478",
)
"""Public servers, asked only where no others are configured: whoever runs them learns a user's address."""


_NO_PROXY = "off"


class TurnServerSettings(BaseModel):
    """A TURN server, or with a `wss://` URI a tunnel to one, and who we are to it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    uri: str
    username: str = ""
    password: SecretStr = SecretStr("")

    @field_validator("uri")
    @classmethod
    def _is_turn_uri(cls, value: str) -> str:
        return str(parse_relay_uri(value))

    @model_validator(mode="after")
    def _has_credentials(self) -> Self:
        if not self.username or not self.password.get_secret_value():
            raise ValueError(f"{self.uri}: a TURN server wants a user name and a password")
        LongTermCredentials(self.username, self.password.get_secret_value())
        return self


def _split(value: object) -> object:
    """Lists come as lists from TOML and code, and with commas from the environment."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _port_range(value: object) -> object:
    """`40000-40999`, one port, or a pair."""
    if isinstance(value, int):
        return (value, value)
    if isinstance(value, str):
        low, _, high = value.partition("-")
        try:
            return (int(low), int(high or low))
        except ValueError:
            raise ValueError("write two ports with a dash between them, as in 40000-40999") from None
    return value


def _stun_servers(value: object) -> object:
    parts = _split(value)
    return [StunServer.parse(part) for part in parts] if isinstance(parts, list | tuple) else parts


StunServers = Annotated[tuple[StunServer, ...], NoDecode, BeforeValidator(_stun_servers)]
PortRange = Annotated[tuple[int, int], NoDecode, BeforeValidator(_port_range)]
Fallbacks = Annotated[tuple[Fallback, ...], NoDecode, BeforeValidator(_split)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Every field can be given in code, as `PEERPATH_<FIELD>`, or in TOML; the first that has it wins.

    A STUN server is written `host`, `host:port`, `stun:host:port`, `stuns:host` or `stun:host?transport=tcp`.
    Use `Settings.load`, which raises SettingsError; the constructor raises pydantic's ValidationError.
    """

    model_config = SettingsConfigDict(
        env_prefix="PEERPATH_", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    automatic: bool = True
    """Whether ways through NATs are looked for at all; if not, only addresses of this host are offered."""
    stun_servers: StunServers = ()
    """The primary servers. Empty: the TURN servers, or `DEFAULT_STUN_SERVERS` where no server is named."""
    backup_stun_servers: StunServers = ()
    """Asked when the primary ones don't answer."""
    custom_stun_servers: StunServers = ()
    """The user's own, asked before all others."""
    server_selection: Literal["fastest", "ordered", "random"] = "fastest"
    """Whether all primary servers are asked at once, one after the other, or in a drawn order."""
    turn_servers: tuple[TurnServerSettings, ...] = ()
    local_ports: PortRange = (0, 0)
    """The UDP ports to use, first and last; 0-0 lets the system choose."""
    punch_timeout: Seconds = 10.0
    """Seconds that one attempt at hole punching lasts."""
    retry_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """How often hole punching is tried."""
    binding_refresh: Seconds = 60.0
    """Seconds for which a public address that was seen is believed without asking again."""
    port_mapping: bool = True
    """Whether the router is asked to forward a port (PCP, NAT-PMP, UPnP)."""
    tcp: bool = True
    """Whether connections are opened to peers where one side gets nothing through by UDP."""
    punch_rate: Annotated[float, Field(ge=1, le=1000)] = 150.0
    """Packets a second at most while a way through a hard NAT is looked for."""
    punch_sockets: Annotated[int, Field(ge=1, le=1024)] = 256
    """Sockets at most for that, on the side whose ports can't be foretold."""
    punch_probes: Annotated[int, Field(ge=1, le=8192)] = 2048
    """Ports of the peer's NAT that are tried at most."""
    keepalive_interval: Annotated[Seconds, Field(ge=15)] = 15.0
    """Seconds between packets that keep a NAT's mapping alive (RFC 8445 section 11: 15 at least)."""
    candidate_timeout: Seconds = 5.0
    """Seconds that a STUN server is waited for."""
    fallbacks: Fallbacks = USUAL_FALLBACKS
    """What to try where no direct path is found, in this order; what is left out is not tried. `tcp_relay`
    has to be named: TURN servers over TCP and TLS are then asked for addresses that meet peers over TCP."""
    relay_only: bool = False
    """Show peers no address of this host, only relayed ones."""
    proxy: SecretStr = SecretStr("")
    """`http://user:password@host:port`, `socks5h://...` or `socks5://...`; "off" for none. Empty: what
    HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY in the environment say."""
    tor: str = ""
    """Tor's SOCKS port, as socks5h://127.0.0.1:9050. Empty: Tor is not used."""
    onion_only: bool = False
    """Nothing leaves this host but to Tor: no direct packet, no STUN, no look-up of a name."""

    @field_validator("local_ports")
    @classmethod
    def _is_range(cls, value: tuple[int, int]) -> tuple[int, int]:
        low, high = value
        if value != (0, 0) and not 1 <= low <= high <= 65535:
            raise ValueError("write two ports from 1 to 65535, the lower one first, or 0-0 for any")
        return value

    @field_validator("fallbacks")
    @classmethod
    def _each_once(cls, value: tuple[Fallback, ...]) -> tuple[Fallback, ...]:
        if len(set(value)) != len(value):
            raise ValueError("name each fallback once")
        return value

    @field_validator("proxy")
    @classmethod
    def _is_proxy(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() not in ("", _NO_PROXY):
            Proxy.parse(value.get_secret_value())
        return value

    @field_validator("tor")
    @classmethod
    def _is_tor(cls, value: str) -> str:
        return str(Proxy.tor(value)) if value else value

    @model_validator(mode="after")
    def _onion_has_tor(self) -> Self:
        if self.onion_only and not self.tor:
            raise ValueError('onion_only wants Tor\'s SOCKS port: tor = "socks5h://127.0.0.1:9050"')
        if self.onion_only and Fallback.ONION not in self.fallbacks:
            raise ValueError("onion_only wants the fallback onion, which is left out of fallbacks")
        return self

    def proxy_rules(self) -> ProxyRules:
        """Which proxy to use for what. SettingsError for one in the environment that cannot be read."""
        proxy = self.proxy.get_secret_value()
        if proxy == _NO_PROXY or self.onion_only:
            return ProxyRules()
        if proxy:
            return ProxyRules.always(Proxy.parse(proxy))
        try:
            return ProxyRules.from_environment(os.environ)
        except ValueError as error:
            raise SettingsError("proxy", str(error)) from error

    @property
    def names_stun_servers(self) -> bool:
        """Whether somebody chose STUN servers; the public ones are asked only where they must be."""
        return bool(self.custom_stun_servers or self.stun_servers or self.backup_stun_servers)

    @property
    def primary_servers(self) -> tuple[StunServer, ...]:
        """Whom to ask first: custom and primary servers.

        Where no STUN server is configured at all, the TURN servers are asked, which are STUN servers too
        (RFC 8656 section 5); only where there are none either, the public ones.
        """
        configured = tuple(dict.fromkeys((*self.custom_stun_servers, *self.stun_servers)))
        if configured or self.backup_stun_servers:
            return configured
        if self.turn_servers:
            relays = [parse_relay_uri(turn.uri) for turn in self.turn_servers]
            return tuple(
                StunServer.parse(f"stun:{join_host_port(TransportAddress(relay.host, relay.port))}")
                for relay in relays
                if relay.transport == "udp" and not relay.secure
            )
        return tuple(StunServer.parse(server) for server in DEFAULT_STUN_SERVERS)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None, **given: Any) -> Self:
        """From code, environment, and the TOML file at `path` or named by PEERPATH_CONFIG.

        SettingsError, naming the field and what to write instead.
        """
        found = path if path is not None else os.environ.get("PEERPATH_CONFIG")
        values = {} if not found else _read_toml(Path(found))

        class FromFile(cls):  # type: ignore[misc, valid-type]
            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,
                dotenv_settings: PydanticBaseSettingsSource,
                file_secret_settings: PydanticBaseSettingsSource,
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=values)

        try:
            loaded = FromFile(**given)
        except ValidationError as error:
            raise in_our_words(error) from None
        except SourceError as error:
            # Its text is: error parsing value for field "turn_servers" from source "EnvSettingsSource".
            field = str(error).partition('"')[2].partition('"')[0] or "settings"
            raise SettingsError(field, "write JSON into the environment variable") from error
        return cls.model_construct(**{name: getattr(loaded, name) for name in cls.model_fields})


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(str(path), error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), f"is not TOML: {error}") from error


def in_our_words(error: ValidationError) -> SettingsError:
    """The first complaint: the others often follow from it."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "settings"
    if first["type"] == "extra_forbidden":
        return SettingsError(field, "there is no such setting")
    reason = first["msg"].removeprefix("Value error, ")
    return SettingsError(field, reason[:1].lower() + reason[1:])
