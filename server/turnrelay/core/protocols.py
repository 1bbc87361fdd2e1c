"""What the core asks of the operator's policy. The core owns these shapes; turnrelay.policy fills them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from stunwire import PasswordAlgorithm

from turnrelay.core.addresses import PeerAddress, RelayedAddress


@dataclass(frozen=True, slots=True)
class Credential:
    """A user that may authenticate, and the keys that prove it (RFC 8489 section 9.2.2)."""

    username: str
    """As the client sends it (after OpaqueString)."""
    account: str
    """Whom quotas are counted for: the user name, or the NAME of a time-limited `expiry:NAME`."""
    keys: Mapping[PasswordAlgorithm, bytes]
    """Long-term keys; MD5 is always present, SHA-256 where the directory knows it."""
    removable: bool = False
    """Whether the user can be removed while the server runs, so that each Refresh must ask again."""


class KeyQuery(NamedTuple):
    """Who asks: exactly one of username (OpaqueString applied) and userhash (32 bytes) is set."""

    username: str | None = None
    userhash: bytes | None = None


class DenyRule(Enum):
    """Why a peer address is refused; also the label of the metric, so the set is closed."""

    SPECIAL_PURPOSE = "special_purpose"
    """A range of deny_ranges.json (private, loopback, link-local, documentation, ...)."""
    LOCAL_ADDRESS = "local_address"
    """An address of this machine, or an external address of the relay."""
    OWN_PORT = "own_port"
    """A port the relay itself serves (listeners, metrics)."""
    OPERATOR = "operator"
    """`--deny-peer`."""


class PeerAccess(Protocol):
    """Which peers a client may reach, and from where a client may come."""

    def admits_client(self, host: str) -> bool:
        """Whether an allocation may be made from this address (RFC 8656 section 21.4)."""

    def check(self, peer: PeerAddress) -> DenyRule | None:
        """The rule that refuses `peer`, or None. Live relayed addresses never get here."""


class Limit(Enum):
    """Which quota was in the way."""

    ALLOCATIONS_PER_USER = "allocations_per_user"
    ALLOCATIONS_PER_PREFIX = "allocations_per_prefix"
    ALLOCATIONS_TOTAL = "allocations_total"


class Lease(Protocol):
    """A share of a quota, held as long as the thing it paid for lives."""

    def release(self) -> None:
        """Gives the share back; the second call does nothing."""


class Quotas(Protocol):
    """How many allocations may live at once."""

    def lease_allocation(self, account: str, client_host: str) -> Lease | Limit:
        """One allocation for `account` from `client_host`, or the limit that forbids it."""

    def take_over(self, account: str, client_host: str) -> Lease:
        """An allocation that another process had leased, whatever the limits are here."""


class RateLimit(Protocol):
    """How often a source prefix gets an answer before it has authenticated."""

    def allow(self, client_host: str, now: float) -> bool:
        """Spends one answer of the prefix of `client_host`; False when it has none left."""

    def give_back(self, client_host: str) -> None:
        """It has authenticated: what was spent on it was no answer to a stranger."""


class Processes(Protocol):
    """The processes that make up the relay, each with a core of its own; what one gave out, another may be
    asked for."""

    member: int
    """The number of this one, below 128: tokens that it gives out begin with it."""

    def has_other(self, member: int) -> bool:
        """Whether another process goes by this number."""

    def other_has(self, relay: RelayedAddress, *, tcp: bool) -> bool:
        """Whether this relayed address, of UDP or of TCP, lives in another process."""


class OneProcess:
    """A relay of one process (`Processes`)."""

    member = 0

    def has_other(self, member: int) -> bool:
        return False

    def other_has(self, relay: RelayedAddress, *, tcp: bool) -> bool:
        return False
