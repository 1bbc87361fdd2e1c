"""Long-term credentials, the client's part (RFC 8489 sections 9.2.3 and 9.2.5)."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from enum import Enum, auto

from stunwire import (
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    USERHASH,
    USERNAME,
    ErrorCode,
    Integrity,
    Message,
    PasswordAlgorithm,
    PasswordAlgorithmValue,
    SecurityFeatures,
    long_term_key,
    opaque_string,
    security_features,
    userhash,
)

_SUPPORTED = frozenset(PasswordAlgorithm)
_FULL_DIGEST = 32


@dataclass(frozen=True, slots=True)
class LongTermCredentials:
    """A user name and a password, as the operator of the server gave them out.

    PreparationError, a ValueError, for one that OpaqueString refuses (RFC 8265 section 4.2): an empty one, or
    one with control characters, such as the line break at the end of a file.
    """

    username: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        opaque_string(self.username, "username")
        opaque_string(self.password, "password")


@dataclass(frozen=True, slots=True)
class Seal:
    """What a request was signed with, and so its response must be."""

    key: bytes = field(repr=False)
    integrity: Integrity


class Verdict(Enum):
    """What to do after a 401 or 438."""

    RETRY = auto()
    DISCARD = auto()
    """As if it had never come: it offers less than this server has already proven to know."""
    REFUSED = auto()
    """The same user, realm and password would be refused again."""
    INCOMPLETE = auto()
    """It lacks the realm or the nonce that a second try takes."""
    BID_DOWN = auto()
    """The nonce says that algorithms are offered, and they are not there: somebody took them out."""
    UNSUPPORTED = auto()
    """It offers no algorithm that is known here."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """What a 401 may change, and must change for a retry to make sense."""

    realm: str
    algorithms: tuple[PasswordAlgorithmValue, ...] | None
    anonymous: bool


class Authentication:
    """What one server has told about how to authenticate to it."""

    def __init__(self, credentials: LongTermCredentials) -> None:
        self._username = opaque_string(credentials.username, "username")
        self._password = credentials.password
        self._identity: _Identity | None = None
        self._nonce = ""
        self._algorithm: PasswordAlgorithmValue | None = None
        self._seal: Seal | None = None
        self._proven_sha256 = False

    def copy(self) -> Authentication:
        """For another connection to the same server: it knows what this one has learned, and learns alone."""
        return copy(self)

    def sign(self, message: Message) -> tuple[bytes, Seal | None]:
        """The bytes to send and how they were signed: not at all before the first challenge (9.2.3.1)."""
        identity, seal = self._identity, self._seal
        if identity is None or seal is None:
            return message.encode(fingerprint=True), None
        if identity.anonymous:
            message.add(USERHASH, userhash(self._username, identity.realm))
        else:
            message.add(USERNAME, self._username)
        message.add(REALM, identity.realm)
        message.add(NONCE, self._nonce)
        if identity.algorithms is not None and self._algorithm is not None:
            message.add(PASSWORD_ALGORITHMS, identity.algorithms)
            message.add(PASSWORD_ALGORITHM, self._algorithm)
        return message.encode(seal.key, seal.integrity, fingerprint=True), seal

    def verify(self, response: Message, seal: Seal) -> bool:
        """Whether `response` was sealed with the key of its request.

        SHA-256 must come back as SHA-256 and in full: anything less is a step down that nobody agreed to.
        """
        if seal.integrity is Integrity.SHA256:
            digest = response.get(MESSAGE_INTEGRITY_SHA256)
            genuine = digest is not None and len(digest) == _FULL_DIGEST
            genuine = genuine and response.verify(seal.key, Integrity.SHA256)
            self._proven_sha256 |= genuine
            return genuine
        found = response.integrity
        return found is not None and response.verify(seal.key, found)

    def challenged(self, response: Message, code: int, seal: Seal | None) -> Verdict:
        """Learns from a 401 or 438 to a request signed with `seal`, in the order of section 9.2.5."""
        nonce = response.get(NONCE)
        algorithms = response.get(PASSWORD_ALGORITHMS)
        if nonce is None:
            return Verdict.INCOMPLETE
        features = security_features(nonce) or SecurityFeatures.NONE
        if self._proven_sha256 and (
            algorithms is None or not features & SecurityFeatures.PASSWORD_ALGORITHMS
        ):
            return Verdict.DISCARD
        if lacks_announced_algorithms(nonce, response):
            return Verdict.BID_DOWN
        if code == ErrorCode.STALE_NONCE and seal is not None:
            self._nonce = nonce
            return Verdict.RETRY
        realm = response.get(REALM)
        if realm is None:
            return Verdict.INCOMPLETE
        identity = _Identity(realm, algorithms, bool(features & SecurityFeatures.USERNAME_ANONYMITY))
        if seal is not None and identity == self._identity:
            return Verdict.REFUSED
        return Verdict.RETRY if self._adopt(identity, nonce) else Verdict.UNSUPPORTED

    def _adopt(self, identity: _Identity, nonce: str) -> bool:
        """False when the server offers no algorithm that is known here."""
        if identity.algorithms is None:
            algorithm, integrity = PasswordAlgorithmValue(PasswordAlgorithm.MD5), Integrity.SHA1
        else:
            known = [offered for offered in identity.algorithms if offered.algorithm in _SUPPORTED]
            if not known:
                return False
            # "If the response contains a PASSWORD-ALGORITHMS attribute, all the subsequent requests MUST be
            # authenticated using MESSAGE-INTEGRITY-SHA256 only" (section 9.2.5).
            algorithm, integrity = known[0], Integrity.SHA256
        try:
            key = long_term_key(self._username, identity.realm, self._password, algorithm.algorithm)
        except ValueError:
            return False  # a realm that OpaqueString refuses
        self._identity, self._nonce, self._algorithm = identity, nonce, algorithm
        self._seal = Seal(key, integrity)
        return True


def lacks_announced_algorithms(nonce: str, response: Message) -> bool:
    """The nonce says that algorithms are offered and they are not there: somebody took them out."""
    features = security_features(nonce) or SecurityFeatures.NONE
    return bool(features & SecurityFeatures.PASSWORD_ALGORITHMS) and PASSWORD_ALGORITHMS not in response
