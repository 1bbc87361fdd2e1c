"""Format: everything that is handed over, as JSON. This is all of it, and one version reads one format.

Times are seconds of CLOCK_MONOTONIC, which is one clock for all processes of a machine. Descriptors are not
in it: they come along in the order of what they belong to.
"""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

FORMAT = 1


class FormatError(Exception):
    """What came is not of this format; says where."""


class _Part(BaseModel):
    """A field that is missing, or that this version does not know, is an error: half a state is none."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, ser_json_bytes="base64", val_json_bytes="base64"
    )


class _Version(BaseModel):
    """All that is the same in every format."""

    format: int


class ListeningSocket(_Part):
    kind: str
    """A transport, "shared" or "http"."""
    host: str
    port: int
    worker: int
    """The number of the worker that reads it, 0 for the process that offers it."""


class AttachedDevice(_Part):
    """A device that the kernel plane's programs run on."""

    index: int
    mode: str
    programs: list[str]
    """Each comes with the descriptor of its link."""


class Offer(_Part):
    """What the successor needs to get ready, beside the descriptors: the pid file's, those of `listening`,
    of the links of `attached`, and of the maps of counters and totals where there are any. Of several workers
    those of the map of ports and of a wire to each worker come last."""

    format: int
    nonce_keys: list[bytes]
    self_test_user: tuple[str, str]
    has_pid_file: bool
    listening: list[ListeningSocket]
    attached: list[AttachedDevice] | None
    """None without a kernel plane, whose maps come along then."""
    workers: int
    """1 for a relay of one process."""
    ports: list[tuple[str, str]]
    """Of several workers, the hosts of the map of ports: local and advertised."""


class Prepared(_Part):
    """A successor of several workers has everything but the clients. The descriptor of its map of ports comes
    along."""

    ports: list[tuple[str, str]]


class UserCredential(_Part):
    username: str
    account: str
    keys: dict[int, bytes]
    """By the number of the password algorithm (RFC 8489 section 18.5)."""
    removable: bool


class Path(_Part):
    transport: str
    server: tuple[str, int]
    client: tuple[str, int]


class HeldRelay(_Part):
    address: tuple[str, int]
    expires_at: float


class HeldChannel(_Part):
    channel: int
    peer: tuple[str, int]
    expires_at: float
    bound: bool


class HeldAllocation(_Part):
    id: str
    path: Path
    credential: UserCredential
    relays: list[HeldRelay]
    created_at: float
    permissions: dict[str, float]
    channels: list[HeldChannel]
    requests: float
    """Requests that its rate limit has to spare."""


class HeldReservation(_Part):
    token: bytes
    relay: tuple[str, int]
    account: str
    client_host: str
    expires_at: float


class HeldReply(_Part):
    path: Path
    transaction_id: bytes
    reply: bytes
    forget_at: float


class RelaySocketPart(_Part):
    """A relayed address; its socket's descriptor comes along."""

    address: tuple[str, int]
    account: str
    traffic: tuple[int, int, int, int]
    buckets: tuple[float | None, float | None]
    """Bytes that the allocation's and the account's bandwidth have to spare."""
    slots: list[int]
    """Where the kernel plane counts its channels, beyond `traffic`: towards the peer, and one further towards
    the client."""


class ClientConnection(_Part):
    """A TCP connection of a client; its descriptor comes along."""

    path: Path
    unread: bytes
    """The beginning of a message whose end has not come."""


class SpentToken(_Part):
    forget_at: int
    token: bytes


class Sample(_Part):
    """A counter of the metrics."""

    family: str
    sample: str
    labels: list[tuple[str, str]]
    value: float


class Written(_Part):
    """A worker has sent its holdings; what it counted until then, and how much it is."""

    figures: list[Sample]
    allocations: int
    connections: int


class Holdings(_Part):
    """What clients have, beside the descriptors: those of `relays`, of `connections`, of `listening`."""

    allocations: list[HeldAllocation]
    reservations: list[HeldReservation]
    replies: list[HeldReply]
    relays: list[RelaySocketPart]
    connections: list[ClientConnection]
    listening: list[ListeningSocket]
    """A worker's UDP sockets, which its heir may not have any more, though their clients live."""
    spent_tokens: list[SpentToken]
    counters: list[Sample]
    kernel_totals: list[int] | None
    """What the kernel plane had counted, of what is in `counters`."""
    elsewhere: list[tuple[tuple[str, int], tuple[str, int]]]
    """Relayed addresses that stay with the predecessor, and where those are on this machine."""


P = TypeVar("P", bound=BaseModel)


def read_offer(body: bytes) -> Offer:
    """Raises FormatError."""
    spoken = _read(_Version, body).format
    if spoken != FORMAT:
        raise FormatError(f"it is of format {spoken}, and this version reads {FORMAT}; drain it instead")
    return _read(Offer, body)


def read_prepared(body: bytes) -> Prepared:
    """Raises FormatError."""
    return _read(Prepared, body)


def read_holdings(body: bytes) -> Holdings:
    """Raises FormatError."""
    return _read(Holdings, body)


def read_written(body: bytes) -> Written:
    """Raises FormatError."""
    return _read(Written, body)


def _read(kind: type[P], body: bytes) -> P:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise FormatError(f"{place}: {first['msg'].lower()}") from None
