"""The outside and the inside of a sealed message, as bytes. No keys in here.

    outside:  version (1)  form (1)  attempt (16)  [ephemeral key (32): offer, answer]  nonce (12)  sealed
    inside:   [dialer's key (32)  time in ms (8): offer]  [signature (64): all but session]  content
    content:  sequence number (4)  length of kind (1)  kind  body, a JSON object

Numbers are big-endian.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from peerpath.signaling.channel import MAX_MESSAGE_BYTES, SignalingError

VERSION = 1
ATTEMPT_BYTES = 16
EPHEMERAL_BYTES = 32
NONCE_BYTES = 12
SIGNATURE_BYTES = 64
MAX_BODY_BYTES = 12 * 1024

_HEAD = struct.Struct(f">BB{ATTEMPT_BYTES}s")
_CONTENT = struct.Struct(">IB")
_KIND = re.compile(r"[a-z][a-z0-9-]{0,31}")
_MAX_SEQUENCE = 2**32 - 1


class Form(IntEnum):
    """Which keys an envelope is sealed under, and what it carries beside its content."""

    OFFER = 1
    """The dialer's first: sealed to the listener's identity."""
    EARLY = 2
    """The dialer's next ones, as long as no answer has come: under the offer's keys."""
    ANSWER = 3
    """The listener's first ones: under keys of both ephemeral keys."""
    SESSION = 4
    """Everything from then on."""


@dataclass(frozen=True, slots=True)
class Route:
    """What is to be seen of a message from outside: its attempt, and whether it opens one."""

    attempt: bytes
    is_offer: bool

    @classmethod
    def of(cls, data: bytes) -> Route:
        """The route of a message; SignalingError if it is none of ours."""
        envelope = Envelope.decode(data)
        return cls(envelope.attempt, envelope.form is Form.OFFER)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as it travels. `ephemeral` is empty except in an offer and an answer."""

    form: Form
    attempt: bytes
    ephemeral: bytes
    nonce: bytes
    sealed: bytes

    @property
    def head(self) -> bytes:
        """What is readable and must still be as it was sent."""
        return _HEAD.pack(VERSION, self.form, self.attempt) + self.ephemeral

    def encode(self) -> bytes:
        """The bytes for a channel; ValueError if they are more than one carries."""
        data = self.head + self.nonce + self.sealed
        if len(data) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(data)} bytes, {MAX_MESSAGE_BYTES} are the most")
        return data

    @classmethod
    def decode(cls, data: bytes) -> Envelope:
        """Reads the outside; SignalingError if it is none of ours."""
        if len(data) > MAX_MESSAGE_BYTES:
            raise SignalingError(
                f"the message has {len(data)} bytes, more than the {MAX_MESSAGE_BYTES} that are read"
            )
        if len(data) < _HEAD.size:
            raise SignalingError(f"the message has {len(data)} bytes, too few for any")
        version, form, attempt = _HEAD.unpack_from(data)
        if version != VERSION:
            raise SignalingError(
                f"the message is in version {version} of the format, this program reads {VERSION}"
            )
        try:
            form = Form(form)
        except ValueError:
            raise SignalingError(f"the message is of the form {form}, which there is not") from None
        with_key = form in (Form.OFFER, Form.ANSWER)
        nonce_at = _HEAD.size + (EPHEMERAL_BYTES if with_key else 0)
        sealed_at = nonce_at + NONCE_BYTES
        if len(data) <= sealed_at:
            raise SignalingError(f"the message is cut short, after {len(data)} bytes")
        return cls(form, attempt, data[_HEAD.size : nonce_at], data[nonce_at:sealed_at], data[sealed_at:])


@dataclass(frozen=True, slots=True)
class Content:
    """What one side says: `body` is a JSON object, `sequence` counts the messages of each side."""

    sequence: int
    kind: str
    body: dict[str, Any]

    def encode(self) -> bytes:
        """ValueError if the kind is no short name or the body is no JSON object of at most MAX_BODY_BYTES."""
        if _KIND.fullmatch(self.kind) is None:
            raise ValueError(f"{self.kind!r} is no kind: a to z, 0 to 9 and -, 32 at most")
        if self.sequence > _MAX_SEQUENCE:
            raise ValueError("too many messages for one attempt")
        body = json.dumps(self.body, separators=(",", ":"), allow_nan=False).encode()
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"a body of {len(body)} bytes, {MAX_BODY_BYTES} are the most")
        return _CONTENT.pack(self.sequence, len(self.kind)) + self.kind.encode() + body

    @classmethod
    def decode(cls, data: bytes) -> Content:
        """SignalingError if the bytes are none that `encode` makes."""
        if len(data) < _CONTENT.size:
            raise SignalingError("the content of the message is cut short")
        sequence, length = _CONTENT.unpack_from(data)
        body_at = _CONTENT.size + length
        kind = data[_CONTENT.size : body_at].decode("latin-1")
        if len(kind) != length or _KIND.fullmatch(kind) is None:
            raise SignalingError("the message has no kind that could be understood")
        if len(data) - body_at > MAX_BODY_BYTES:
            raise SignalingError(f"the body has more than {MAX_BODY_BYTES} bytes")
        return cls(sequence, kind, _object(data[body_at:]))


def _object(data: bytes) -> dict[str, Any]:
    try:
        # From a str: from bytes, json would guess other encodings.
        body = json.loads(data.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise SignalingError("the body of the message is no JSON") from None
    if not isinstance(body, dict):
        raise SignalingError("the body of the message is JSON, but no object")
    return body


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
