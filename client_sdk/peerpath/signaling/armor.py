"""Messages as text that people copy and paste: by mail, in a chat, on a note.

    -----BEGIN PEERPATH OFFER-----
    AQEqqqqq...
    -----END PEERPATH OFFER-----

Between the marks stands the base64 of the message and the first four bytes of its SHA-256. What mail and chat
programs do to text is undone: quoting marks, other line breaks, dashes that became longer ones.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from peerpath.signaling.channel import MAX_MESSAGE_BYTES, SignalingError
from peerpath.signaling.envelope import Route

_LINE_CHARACTERS = 64
_CHECKSUM_BYTES = 4
_MAX_CHARACTERS = 4 * MAX_MESSAGE_BYTES
_BEGIN = re.compile(r"BEGIN\s+PEERPATH\s+(OFFER|ANSWER)\b")
_OTHER_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
_ADDED_ON_THE_WAY = re.compile(r"[\s>|*\u00ad\u200b-\u200d\u2060\ufeff\u2010-\u2015-]+")
_COPY_AGAIN = "copy everything from the line with BEGIN to the line with END"


def armor(message: bytes) -> str:
    """The text of an envelope, several lines; ValueError if it is none."""
    try:
        name = _name(message)
    except SignalingError as error:
        raise ValueError(f"only envelopes are written as text: {error}") from error
    body = base64.b64encode(message + _checksum(message)).decode()
    lines = [body[start : start + _LINE_CHARACTERS] for start in range(0, len(body), _LINE_CHARACTERS)]
    marks = (f"-----{place} PEERPATH {name}-----" for place in ("BEGIN", "END"))
    return "\n".join([next(marks), *lines, next(marks), ""])


def unarmor(text: str) -> bytes:
    """The message in a text that may have more around it; SignalingError says what is wrong with it."""
    if len(text) > _MAX_CHARACTERS:
        raise SignalingError(f"the text has more than {_MAX_CHARACTERS} characters, no message has")
    begin = _BEGIN.search(text)
    if begin is None:
        other = _OTHER_BEGIN.search(text)
        found = f"it is a {other[1]}" if other else "no line says BEGIN PEERPATH"
        raise SignalingError(f"the text is no message of a peer: {found}; {_COPY_AGAIN}")
    name = begin[1]
    end = re.compile(rf"END[\s>|*]+PEERPATH[\s>|*]+{name}\b").search(text, begin.end())
    if end is None:
        raise SignalingError(f"the {name.lower()} is cut short, its last line is missing; {_COPY_AGAIN}")
    message = _decode(_ADDED_ON_THE_WAY.sub("", text[begin.end() : end.start()]), name)
    if _name(message) != name:
        raise SignalingError(f"the text says that it is an {name.lower()}, but what is in it is not")
    return message


def _decode(body: str, name: str) -> bytes:
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    message, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if not message or checksum != _checksum(message):
        raise SignalingError(f"the {name.lower()} was damaged on its way, or is incomplete; {_COPY_AGAIN}")
    return message


def _name(message: bytes) -> str:
    return "OFFER" if Route.of(message).is_offer else "ANSWER"


def _checksum(message: bytes) -> bytes:
    return hashlib.sha256(message).digest()[:_CHECKSUM_BYTES]
