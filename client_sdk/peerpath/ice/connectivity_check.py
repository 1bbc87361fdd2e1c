"""Connectivity checks on the wire: Binding requests and their responses (RFC 8445 section 7)."""

from __future__ import annotations

from dataclasses import dataclass

from stunwire import (
    ICE_CONTROLLED,
    ICE_CONTROLLING,
    MESSAGE_INTEGRITY,
    PRIORITY,
    UNKNOWN_ATTRIBUTES,
    USE_CANDIDATE,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Attribute,
    ClientTransaction,
    ErrorCode,
    Header,
    Integrity,
    Message,
    MessageClass,
    Method,
    TransportAddress,
)

from peerpath.ice.credentials import Credentials
from peerpath.ice.pair import CandidatePair
from peerpath.ice.role import Role

NOMINATION = Attribute.opaque(0xC001, "NOMINATION")
"""The number of a nomination, 4 bytes: the highest one counts. What browsers send with USE-CANDIDATE."""

_ROLE_ATTRIBUTES = {Role.CONTROLLING: ICE_CONTROLLING, Role.CONTROLLED: ICE_CONTROLLED}


@dataclass(slots=True)
class Check:
    """A check that is under way."""

    pair: CandidatePair
    transaction: ClientTransaction
    role: Role
    """What it claims: a 487 is about this, not about the role at the time it arrives."""
    nomination: int | None
    """It carries USE-CANDIDATE, as this nomination."""
    cancelled: bool = False
    """It is not repeated, and silence proves nothing (RFC 8445 section 7.3.1.4); an answer still counts."""


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """A check of the peer, as far as it concerns ICE."""

    message: Message
    local_ufrag: str
    remote_ufrag: str
    priority: int
    claimed: Role | None
    tie_breaker: int
    nomination: int | None
    """With USE-CANDIDATE: the number of the nomination, 0 where the peer does not number them."""


@dataclass(frozen=True, slots=True)
class Improper:
    """A check that gets an error instead."""

    code: ErrorCode


def form_request(
    local: Credentials,
    remote: Credentials,
    role: Role,
    tie_breaker: int,
    priority: int,
    nomination: int | None = None,
    numbered: bool = False,
) -> tuple[bytes, bytes]:
    """A check and its transaction ID (RFC 8445 section 7.2.2). `numbered` adds NOMINATION."""
    message = Message(MessageClass.REQUEST, Method.BINDING)
    message.add(USERNAME, f"{remote.ufrag}:{local.ufrag}")
    message.add(PRIORITY, priority)
    message.add(_ROLE_ATTRIBUTES[role], tie_breaker)
    if nomination is not None:
        message.add(USE_CANDIDATE, True)
        if numbered:
            message.add(NOMINATION, nomination.to_bytes(4, "big"))
    return message.encode(remote.key, Integrity.SHA1, fingerprint=True), message.transaction_id


def examine(message: Message) -> CheckRequest | Improper:
    """The parts of a Binding request, before its integrity is known (RFC 8489 section 9.1.3)."""
    username, priority = message.get(USERNAME), message.get(PRIORITY)
    if username is None or MESSAGE_INTEGRITY not in message or priority is None:
        return Improper(ErrorCode.BAD_REQUEST)
    local_ufrag, separator, remote_ufrag = username.partition(":")
    if not separator:
        return Improper(ErrorCode.UNAUTHENTICATED)
    claimed: Role | None = None
    tie_breaker = 0
    for role, attribute in _ROLE_ATTRIBUTES.items():
        value = message.get(attribute)
        if value is not None:
            claimed, tie_breaker = role, value
    return CheckRequest(
        message, local_ufrag, remote_ufrag, priority, claimed, tie_breaker, _nomination(message)
    )


def _nomination(message: Message) -> int | None:
    number = message.get(NOMINATION)
    if number is not None and len(number) == 4:
        return int.from_bytes(number, "big")
    return 0 if USE_CANDIDATE in message else None


def form_success(request: Message, source: TransportAddress, local: Credentials) -> bytes:
    """RFC 8445 section 7.3: the answer tells the peer how we see it."""
    response = Message.success_to(request).add(XOR_MAPPED_ADDRESS, source)
    return response.encode(local.key, Integrity.SHA1, fingerprint=True)


def form_error(request: Message | Header, code: ErrorCode, local: Credentials | None = None) -> bytes:
    """An error, sealed where the request was proven to be the peer's (RFC 8489 section 9.1.3)."""
    response = Message.error_to(request, code)
    if code is ErrorCode.UNKNOWN_ATTRIBUTE and isinstance(request, Message):
        response.add(UNKNOWN_ATTRIBUTES, request.unknown_required)
    return response.encode(None if local is None else local.key, Integrity.SHA1, fingerprint=True)


def form_keepalive() -> bytes:
    """A Binding indication, without credentials (RFC 8445 section 11)."""
    return Message(MessageClass.INDICATION, Method.BINDING).encode(fingerprint=True)
