"""NonceAuthority: stateless nonces (RFC 8489 sections 9.2 and 9.2.4)."""

import base64
import binascii
import hmac
from collections.abc import Sequence
from hashlib import sha256

from stunwire import SecurityFeatures, keyed_digest, nonce_cookie

from turnrelay.core.addresses import ClientAddress

_TICK_SECONDS = 16
_TICK_BYTES = 3  # wraps after eight and a half years, so an old nonce is never fresh again in practice
_MAC_BYTES = 8
_COOKIE_CHARACTERS = 13
_REMEMBERED_NONCES = 8_192


class NonceAuthority:
    """Issues nonces and recognises its own: cookie, time, and an HMAC over both and the client's address.

    Nothing has to be stored: a flood of requests costs no memory, and every worker or node that has the keys
    accepts the others' nonces. Those of late are remembered, which saves the HMAC that would recognise them.
    The MAC binds the client's address, so a nonce that was overheard is of no use elsewhere. The length is a
    trade: the whole 401 fits 100 bytes.

    `keys[0]` signs; the others are still accepted, so that keys can be rotated.
    """

    def __init__(self, keys: Sequence[bytes], lifetime: int, features: SecurityFeatures) -> None:
        if not keys:
            raise ValueError("NonceAuthority needs at least one key")
        self._keys = list(keys)
        self._ticks = max(1, -(-lifetime // _TICK_SECONDS))
        self.features = features
        self._cookie = nonce_cookie(features)
        self._ticks_of: dict[tuple[str, ClientAddress], int] = {}
        """When nonces of late were issued, and to whom: a client brings the same one with every request."""
        self._ticks_before: dict[tuple[str, ClientAddress], int] = {}
        """Those of before, kept until there are as many new ones."""

    def issue(self, client: ClientAddress, now: float) -> str:
        """A fresh nonce of 28 characters for `client`; `now` in seconds of a clock all nodes share."""
        number = int(now) // _TICK_SECONDS & 0xFFFFFF
        tick = number.to_bytes(_TICK_BYTES, "big")
        payload = tick + self._mac(self._keys[0], tick, client)
        nonce = self._cookie + base64.b64encode(payload).rstrip(b"=").decode("ascii")
        self._remember(nonce, client, number)
        return nonce

    def accepts(self, nonce: str, client: ClientAddress, now: float) -> bool:
        """Whether `nonce` was issued to `client` within the lifetime. False means 438 (Stale Nonce).

        A changed cookie makes a changed nonce (the MAC covers it), which is the bid-down protection of
        the security feature bits.
        """
        tick = self._ticks_of.get((nonce, client))
        if tick is None:
            tick = self._ticks_before.get((nonce, client))
            if tick is None:
                tick = self._find_tick(nonce, client)
            if tick is None:
                return False
            self._remember(nonce, client, tick)
        age = int(now) // _TICK_SECONDS - tick & 0xFFFFFF
        # One tick of tolerance each way: a node whose clock runs a little ahead issues nonces of the future.
        return age <= self._ticks or age == 0xFFFFFF

    def _remember(self, nonce: str, client: ClientAddress, tick: int) -> None:
        if len(self._ticks_of) >= _REMEMBERED_NONCES:
            self._ticks_before, self._ticks_of = self._ticks_of, {}
        self._ticks_of[nonce, client] = tick

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
