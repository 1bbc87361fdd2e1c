"""NonceAuthority: stateless nonces (RFC 8489 sections 9.2 and 9.2.4)."""

import base64
import binascii
import hmac
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

from stunwire import SecurityFeatures, keyed_digest, nonce_cookie

from turnrelay.core.addresses import ClientAddress

_TICK_SECONDS = 16
_TICK_BYTES = 3  # wraps after eight and a half years, so an old nonce is never fresh again in practice
_MAC_BYTES = 8
_COOKIE_CHARACTERS = 13
_REMEMBERED_NONCES = 16_384


class NonceAuthority:
    """Issues nonces and recognises its own: cookie, time, and an HMAC over both and the client's address.

    Nothing is stored: a flood of requests costs no memory, and every worker or node that has the keys
    accepts the others' nonces. The MAC binds the client's address, so a nonce that was overheard is of no
    use elsewhere. The length is a trade: the whole 401 fits 100 bytes.

    `keys[0]` signs; the others are still accepted, so that keys can be rotated.
    """

    def __init__(self, keys: Sequence[bytes], lifetime: int, features: SecurityFeatures) -> None:
        if not keys:
            raise ValueError("NonceAuthority needs at least one key")
        self._keys = list(keys)
        self._ticks = max(1, -(-lifetime // _TICK_SECONDS))
        self.features = features
        self._cookie = nonce_cookie(features)
        # A client brings the same nonce with every request.
        self._tick_of = lru_cache(_REMEMBERED_NONCES)(self._find_tick)

    def issue(self, client: ClientAddress, now: float) -> str:
        """A fresh nonce of 28 characters for `client`; `now` in seconds of a clock all nodes share."""
        tick = (int(now) // _TICK_SECONDS & 0xFFFFFF).to_bytes(_TICK_BYTES, "big")
        payload = tick + self._mac(self._keys[0], tick, client)
        return self._cookie + base64.b64encode(payload).rstrip(b"=").decode("ascii")

    def accepts(self, nonce: str, client: ClientAddress, now: float) -> bool:
        """Whether `nonce` was issued to `client` within the lifetime. False means 438 (Stale Nonce).

        A changed cookie makes a changed nonce (the MAC covers it), which is the bid-down protection of
        the security feature bits.
        """
        tick = self._tick_of(nonce, client)
        if tick is None:
            return False
        age = int(now) // _TICK_SECONDS - tick & 0xFFFFFF
        # One tick of tolerance each way: a node whose clock runs a little ahead issues nonces of the future.
        return age <= self._ticks or age == 0xFFFFFF

    def _find_tick(self, nonce: str, client: ClientAddress) -> int | None:
        """When `nonce` was issued to `client`; None if it never was."""
        if not nonce.startswith(self._cookie):
            return None
        try:
            payload = base64.b64decode(nonce[_COOKIE_CHARACTERS:] + "=", validate=True)
        except (binascii.Error, ValueError):
            return None
        if len(payload) != _TICK_BYTES + _MAC_BYTES:
            return None
        tick, mac = payload[:_TICK_BYTES], payload[_TICK_BYTES:]
        genuine = False
        for key in self._keys:
            genuine |= hmac.compare_digest(mac, self._mac(key, tick, client))
        return int.from_bytes(tick, "big") if genuine else None

    def _mac(self, key: bytes, tick: bytes, client: ClientAddress) -> bytes:
        bound = f"{self._cookie}|{client.host}|{client.port}|".encode("ascii", "surrogateescape") + tick
        return keyed_digest(key, bound, sha256)[:_MAC_BYTES]
