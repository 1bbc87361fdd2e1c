"""The types of settings, read from text. Each reader raises ValueError saying what is wrong with the text."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr
from stunwire import opaque_string

from turnrelay.core.addresses import family_of
from turnrelay.core.alternates import AlternateServer
from turnrelay.policy.peer_access import read_cidr as _read_network

_REALM_CHARACTERS = 127  # RFC 8489 section 14.9: fewer than 128
_OPERATOR_TOKEN_CHARACTERS = 20
_USERNAME_BYTES = 508  # RFC 8489 section 14.3: less than 509
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class StaticUser:
    """`NAME:PASSWORD`."""

    name: str
    password: SecretStr

    def __str__(self) -> str:
        return f"{self.name}:{self.password}"


@dataclass(frozen=True, slots=True)
class ExternalAddress:
    """`PUBLIC[/PRIVATE]`: what clients are told in place of the local address (of that family)."""

    public: str
    private: str | None = None

    def __str__(self) -> str:
        return self.public if self.private is None else f"{self.public}/{self.private}"


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """`ADDR:PORT`, an IPv6 address in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_host(value: object) -> str:
    """A numeric address as canonical text."""
    text = _text(value)
    try:
        address = ip_address(text)
    except ValueError:
        if "%" in text:
            raise ValueError("an address with a zone (%...) cannot be used here") from None
        raise ValueError("is no IP address") from None
    if getattr(address, "scope_id", None) is not None:
        raise ValueError("an address with a zone (%...) cannot be used here")
    return str(address)


def read_relay_host(value: object) -> str:
    """An address that packets can come from: not a wildcard, not multicast."""
    host = read_host(value)
    address = ip_address(host)
    if address.is_unspecified or address.is_multicast:
        raise ValueError("a relayed address has to be one definite address of this machine")
    return host


def read_alternate_host(value: object) -> str | None:
    return None if value is None else read_relay_host(value)


def read_alternate_server(value: object) -> AlternateServer:
    """`ADDR[/NAME]`."""
    if isinstance(value, AlternateServer):
        return value
    host, slash, name = _text(value).partition("/")
    return AlternateServer(read_relay_host(host), read_host_name(name) if slash else None)


def read_external(value: object) -> ExternalAddress:
    if isinstance(value, ExternalAddress):
        return value
    public, slash, private = _text(value).partition("/")
    external = ExternalAddress(read_relay_host(public), read_relay_host(private) if slash else None)
    if external.private is not None and family_of(external.public) != family_of(external.private):
        raise ValueError("the public and the private address are of different families")
    return external


def read_cidr(value: object) -> str:
    return str(_read_network(_text(value)))


def read_user(value: object) -> StaticUser:
    if isinstance(value, StaticUser):
        return value
    name, colon, password = _text(value).partition(":")
    if not colon:
        raise ValueError("there is no colon between name and password")
    if not name or not password:
        raise ValueError("the password is empty" if name else "the name is empty")
    name = opaque_string(name, "user name")
    if len(name.encode()) > _USERNAME_BYTES:
        raise ValueError(f"the name is longer than {_USERNAME_BYTES} bytes")
    opaque_string(password, "password")
    return StaticUser(name, SecretStr(password))


def read_secret(value: object) -> SecretStr:
    if isinstance(value, SecretStr):
        return value
    text = _text(value)
    if not text.strip():
        raise ValueError("the secret is empty")
    return SecretStr(text)


def read_operator_token(value: object) -> SecretStr | None:
    """A token that goes into a header as it is, long enough that nobody guesses it over the network."""
    if value is None or isinstance(value, SecretStr):
        return value
    text = _text(value)
    if len(text) < _OPERATOR_TOKEN_CHARACTERS:
        raise ValueError(f"the token has fewer than {_OPERATOR_TOKEN_CHARACTERS} characters")
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("the token holds something other than letters, digits and marks of ASCII")
    return SecretStr(text)


def read_endpoint(value: object) -> str | None:
    """The base URL of a collector, without a path's slash at its end."""
    if value is None:
        return None
    text = _text(value)
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("is no URL of the form http://HOST:PORT")
    return text.rstrip("/")


def read_realm(value: object) -> str:
    realm = opaque_string(_text(value), "realm")
    if len(realm) > _REALM_CHARACTERS:
        raise ValueError(f"is longer than {_REALM_CHARACTERS} characters")
    if '"' in realm or "\\" in realm:
        raise ValueError("holds a quotation mark or a backslash")
    return realm


def read_http(value: object) -> HttpAddress | None:
    if value is None or isinstance(value, HttpAddress):
        return value
    return None if _text(value).lower() == "off" else read_listening(value)


def read_listening(value: object) -> HttpAddress:
    if isinstance(value, HttpAddress):
        return value
    host, colon, port = _text(value).rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("there is no port after the last colon")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("an IPv6 address has to stand in brackets")
    if not host:
        raise ValueError("there is no address; for every interface write 0.0.0.0 or [::]")
    return HttpAddress(read_host(host.removeprefix("[").removesuffix("]")), int(port))


def read_host_name(value: object) -> str:
    """A DNS name in lower case, `*.` at its beginning for any one label; or a numeric address."""
    text = _text(value).lower().removesuffix(".")
    try:
        return str(ip_address(text))
    except ValueError:
        pass
    if _HOST_NAME.fullmatch(text) is None:
        raise ValueError("is no host name: letters, digits, hyphens and dots, without a scheme or a port")
    return text


def expand_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("the home directory that ~ stands for is not known") from None


def no_bool(value: object) -> object:
    """Python's true is the number 1; in a settings file it is a mistake."""
    if isinstance(value, bool):
        raise ValueError("is no number")
    return value


def lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("is no text")
    return value.strip()
