"""The forms in which chat programs expect a time-limited credential."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class MintedCredential:
    """A credential and where it is good."""

    username: str
    password: str
    ttl_seconds: int
    uris: Sequence[str]
    """TURN URIs (RFC 7065), in the order in which to try them."""
    realm: str
    minted_at: float
    """Unix time."""

    @property
    def stun_uris(self) -> list[str]:
        """The same servers as STUN URIs (RFC 7064): a TURN server answers Binding requests."""
        udp = [uri for uri in self.uris if uri.startswith("turn:") and uri.endswith("?transport=udp")]
        return [f"stun:{uri.removeprefix('turn:').removesuffix('?transport=udp')}" for uri in udp]


def rest(credential: MintedCredential) -> dict[str, Any]:
    """draft-uberti-behave-turn-rest-00 section 2.2, and Matrix's GET /voip/turnServer, which took it over."""
    return {
        "username": credential.username,
        "password": credential.password,
        "ttl": credential.ttl_seconds,
        "uris": list(credential.uris),
    }


def cloudflare(credential: MintedCredential) -> dict[str, Any]:
    """Cloudflare's generate-ice-servers: made to be handed to RTCPeerConnection as it is."""
    turn = {
        "urls": list(credential.uris),
        "username": credential.username,
        "credential": credential.password,
    }
    stun = credential.stun_uris
    return {"iceServers": [{"urls": stun}, turn] if stun else [turn]}


def twilio(credential: MintedCredential) -> dict[str, Any]:
    """Twilio's Network Traversal Service Token: one entry a URI, its name old (url) and new (urls)."""
    date = format_datetime(datetime.fromtimestamp(credential.minted_at, UTC))
    servers: list[dict[str, str]] = [{"url": uri, "urls": uri} for uri in credential.stun_uris]
    servers += [
        {"url": uri, "urls": uri, "username": credential.username, "credential": credential.password}
        for uri in credential.uris
    ]
    return {
        "account_sid": credential.realm,
        "username": credential.username,
        "password": credential.password,
        "ttl": str(credential.ttl_seconds),
        "date_created": date,
        "date_updated": date,
        "ice_servers": servers,
    }


DIALECTS = {"rest": rest, "matrix": rest, "cloudflare": cloudflare, "twilio": twilio}
"""By the names that the API knows them by."""
