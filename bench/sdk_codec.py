"""Codec: stunwire beside aioice's stun module, the same bytes, one thread.

Decoding ends with every value at hand, integrity and fingerprint verified; encoding begins with values.
"""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import stunwire
from aioice import stun as aioice

OURS, THEIRS = "stunwire", "aioice"
_USER, _REALM, _PASSWORD = "1795450986:alice", "relay.example.org", "VMkksKju/n861VLFze2lKP/Aby0="
_NONCE = "obMatJos2AAACw6cE5Vw8yHAnpNkYXRh"
_KEY = stunwire.long_term_key(_USER, _REALM, _PASSWORD)
_MAPPED = ("198.51.100.7", 40211)
_TRANSACTION = bytes(range(12))
_UDP = 17
_BATCH = 200
"""Messages between two looks at the clock."""


@dataclass(frozen=True)
class Codec:
    """One library's way with one message."""

    who: str
    encode: Callable[[], bytes]
    decode: Callable[[bytes], Any]
    """Raises for a message that is not what `encode` makes."""


class Forged(Exception):
    """Integrity that was to be found good was not."""


def stunwire_allocate() -> bytes:
    message = stunwire.Message(stunwire.MessageClass.REQUEST, stunwire.Method.ALLOCATE, _TRANSACTION)
    message.add(stunwire.REQUESTED_TRANSPORT, _UDP).add(stunwire.LIFETIME, 600)
    message.add(stunwire.USERNAME, _USER).add(stunwire.REALM, _REALM).add(stunwire.NONCE, _NONCE)
    return message.encode(_KEY, fingerprint=True)


def aioice_allocate() -> bytes:
    attributes = {
        "REQUESTED-TRANSPORT": _UDP << 24,
        "LIFETIME": 600,
        "USERNAME": _USER,
        "REALM": _REALM,
        "NONCE": _NONCE.encode(),
    }
    message = aioice.Message(aioice.Method.ALLOCATE, aioice.Class.REQUEST, _TRANSACTION, attributes)
    message.add_message_integrity(_KEY)
    return bytes(message)


def stunwire_binding() -> bytes:
    message = stunwire.Message(stunwire.MessageClass.SUCCESS_RESPONSE, stunwire.Method.BINDING, _TRANSACTION)
    message.add(stunwire.XOR_MAPPED_ADDRESS, stunwire.TransportAddress(*_MAPPED))
    return message.encode(fingerprint=True)


def aioice_binding() -> bytes:
    attributes = {"XOR-MAPPED-ADDRESS": _MAPPED}
    message = aioice.Message(aioice.Method.BINDING, aioice.Class.RESPONSE, _TRANSACTION, attributes)
    message.add_fingerprint()
    return bytes(message)


def stunwire_verified(data: bytes) -> stunwire.Message:
    message = stunwire.Message.decode(data)
    if not message.verify(_KEY, stunwire.Integrity.SHA1):
        raise Forged
    return message


def aioice_verified(data: bytes) -> aioice.Message:
    message = aioice.parse_message(data)
    if not message.check_message_integrity(_KEY):
        raise Forged
    return message


CODECS = {
    "Allocate, authenticated": (
        Codec(OURS, stunwire_allocate, stunwire_verified),
        Codec(THEIRS, aioice_allocate, aioice_verified),
    ),
    "Binding response": (
        Codec(OURS, stunwire_binding, stunwire.Message.decode),
        Codec(THEIRS, aioice_binding, aioice.parse_message),
    ),
}


def measure(round_: int, seconds: float) -> Iterator[tuple[str, str, dict[str, float]]]:
    """(scenario, whose, figures) of one round."""
    for name, codecs in CODECS.items():
        data = codecs[0].encode()
        for codec in codecs if round_ % 2 else reversed(codecs):
            yield f"codec: encode {name}", codec.who, _timed(codec.encode, seconds)
            yield f"codec: decode {name}", codec.who, _timed(partial(codec.decode, data), seconds)


def _timed(work: Callable[[], object], seconds: float) -> dict[str, float]:
    """By the CPU time of this thread, so that what else runs here counts little."""
    work()
    gc.collect()
    done, began = 0, time.thread_time()
    while (took := time.thread_time() - began) < seconds:
        for _ in range(_BATCH):
            work()
        done += _BATCH
    return {"cpu_us_per_message": took / done * 1e6, "messages_per_second_of_cpu": done / took}
