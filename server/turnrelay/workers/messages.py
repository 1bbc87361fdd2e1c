"""What the supervisor and a worker tell each other: typed messages, as JSON in frames."""

import json
import struct
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

from turnrelay.workers.letters import Letter

VERSION = 1
HEADER = struct.Struct("!IBB")
"""Bytes of JSON that follow, version, and how many descriptors come along."""
MOST_BYTES = 64 * 1024 * 1024


class ChannelError(Exception):
    """What came is no message of ours."""


@dataclass(frozen=True, slots=True)
class Serve:
    """To a worker: sockets to listen on, one descriptor for each, and every port that the relay serves."""

    sockets: list[list[str | int]]
    """Kind ("udp", "tcp" or "tls"), host, port."""
    own_ports: list[int]


@dataclass(frozen=True, slots=True)
class Reload:
    """To a worker: read the certificate again."""


@dataclass(frozen=True, slots=True)
class Drain:
    """To a worker: make no new allocations, and say Drained when none is left."""


@dataclass(frozen=True, slots=True)
class Drained:
    """From a worker that drains or has handed over: it has no client any more."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """To a worker: write what clients have to the worker of another relay that goes on with it. Descriptors:
    the wire for words with the supervisor, that to the other worker, and the other relay's map of ports."""

    hosts: list[list[str]]
    """Of that map: local and advertised."""


@dataclass(frozen=True, slots=True)
class GoOn:
    """To a worker, before anything else: go on for the worker of another relay. Descriptors: the wire for
    words with the supervisor, that to the other worker, and the map of the kernel's counters, if any."""


@dataclass(frozen=True, slots=True)
class Stop:
    """To a worker: end every allocation and exit."""


@dataclass(frozen=True, slots=True)
class Ask:
    """To a worker: a question to its desk."""

    ticket: int
    question: str
    argument: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """From a worker: what its desk says."""

    ticket: int
    value: Any


@dataclass(frozen=True, slots=True)
class Ready:
    """From a worker: it serves."""

    pid: int


@dataclass(frozen=True, slots=True)
class Unfit:
    """From a worker: why it cannot serve."""

    reason: str


@dataclass(frozen=True, slots=True)
class Figures:
    """From a worker, once a second: the samples that changed since the last time."""

    changed: list[list[Any]]
    """Family, sample, labels, value."""


Message = (
    Serve
    | Reload
    | Drain
    | Drained
    | HandOver
    | GoOn
    | Stop
    | Ask
    | Answer
    | Ready
    | Unfit
    | Figures
    | Letter
)

_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in get_args(Message)}


def encode(message: Message, descriptors: int = 0) -> bytes:
    """A frame: header and JSON."""
    body = json.dumps([type(message).__name__, asdict(message)], separators=(",", ":")).encode()
    return HEADER.pack(len(body), VERSION, descriptors) + body


def decode(body: bytes) -> Message:
    """The message of a frame's JSON; ChannelError for anything else."""
    try:
        name, values = json.loads(body)
        kind = _KINDS[name]
        if values.keys() - {each.name for each in fields(kind)}:
            raise ChannelError(f"{name} with fields that are not its own")
        return kind(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ChannelError(f"no message: {error!r}") from None


class Decoder:
    """Finds frames in a stream of bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[Message, int]]:
        """The messages that are complete now, each with how many descriptors belong to it."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= HEADER.size:
            size, version, descriptors = HEADER.unpack_from(self._buffer)
            if version != VERSION or size > MOST_BYTES:
                raise ChannelError(f"a frame of version {version} and {size} bytes")
            end = HEADER.size + size
            if len(self._buffer) < end:
                break
            messages.append((decode(bytes(self._buffer[HEADER.size : end])), descriptors))
            del self._buffer[:end]
        return messages
