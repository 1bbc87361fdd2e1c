"""What a test knows of a relay, whichever program it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol, Self

from support.certificates import Certificates
from support.netns import Namespace

# How a client reaches its relay. The names are those of the server's `transport` label.
Transport = Literal["udp", "tcp", "tls"]
TRANSPORTS: tuple[Transport, ...] = ("udp", "tcp", "tls")


@dataclass(frozen=True)
class Site:
    """Where a relay runs: addresses with all their ports free, and a folder for its files."""

    addresses: tuple[str, ...]
    folder: Path
    namespace: Namespace | None
    certificates: Certificates

    @classmethod
    def prepare(cls, folder: Path, *addresses: str, namespace: Namespace | None = None) -> Self:
        folder.mkdir(parents=True, exist_ok=True)
        return cls(addresses, folder, namespace, Certificates.issue(folder, *addresses))

    @property
    def address(self) -> str:
        """The one that clients use when nothing else is said."""
        return self.addresses[0]


@dataclass(frozen=True)
class Access:
    """Who may use the relay, and which peers it may reach besides the public ones."""

    username: str = "alice"
    password: str = "wonderland"
    realm: str = "relay.test"
    # When set, users come from time-limited credentials under this secret and not from the pair above.
    shared_secret: str | None = None
    allowed_peers: tuple[str, ...] = ()


class Tally(Protocol):
    """What a relay counts as relayed from the moment the tally was taken."""

    def must_reach(self, payload_bytes: int) -> None:
        """Assert that at least so many bytes went to peers, and at least so many came from peers."""


class Relay(Protocol):
    """A running relay that clients of any kind can be pointed at."""

    name: ClassVar[str]
    site: Site
    access: Access
    port: int
    tls_port: int

    def tally(self, transport: Transport) -> Tally:
        """Start counting what is relayed for clients on that transport."""


def port_of(relay: Relay, transport: Transport) -> int:
    return relay.tls_port if transport == "tls" else relay.port


def uri_of(relay: Relay, transport: Transport) -> str:
    """The TURN URI of a relay, RFC 7065."""
    scheme, carrier = ("turns", "tcp") if transport == "tls" else ("turn", transport)
    return f"{scheme}:{relay.site.address}:{port_of(relay, transport)}?transport={carrier}"
