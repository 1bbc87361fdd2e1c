"""Which comprehension-required attributes this server understands; any other is answered with 420."""

from stunwire import (
    CHANNEL_NUMBER,
    CONNECTION_ID,
    DATA,
    DONT_FRAGMENT,
    ERROR_CODE,
    EVEN_PORT,
    FINGERPRINT,
    LIFETIME,
    MAPPED_ADDRESS,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    PASSWORD_ALGORITHM,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    SOFTWARE,
    UNKNOWN_ATTRIBUTES,
    USERHASH,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Message,
)

_UNDERSTOOD = frozenset(
    attribute.type
    for attribute in (
        # RFC 8489 section 14
        MAPPED_ADDRESS,
        USERNAME,
        MESSAGE_INTEGRITY,
        ERROR_CODE,
        UNKNOWN_ATTRIBUTES,
        REALM,
        NONCE,
        MESSAGE_INTEGRITY_SHA256,
        PASSWORD_ALGORITHM,
        USERHASH,
        XOR_MAPPED_ADDRESS,
        # RFC 8656 section 18
        CHANNEL_NUMBER,
        LIFETIME,
        XOR_PEER_ADDRESS,
        DATA,
        XOR_RELAYED_ADDRESS,
        REQUESTED_ADDRESS_FAMILY,
        EVEN_PORT,
        REQUESTED_TRANSPORT,
        DONT_FRAGMENT,
        RESERVATION_TOKEN,
        # RFC 6062 section 6.2
        CONNECTION_ID,
    )
)

_FIRST_OPTIONAL = 0x8000
_USUAL = _UNDERSTOOD | {FINGERPRINT.type, SOFTWARE.type}


def not_understood(message: Message) -> tuple[int, ...]:
    """The comprehension-required attributes to name in UNKNOWN-ATTRIBUTES (RFC 8489 section 6.3.1)."""
    if message.types <= _USUAL:
        return ()
    unknown = [kind for kind, _ in message.attributes if kind < _FIRST_OPTIONAL and kind not in _UNDERSTOOD]
    return tuple(dict.fromkeys(unknown))
