"""Who somebody is: Ed25519 keys, as text, in files and for people to compare. No network in here."""

from peerpath.identity.private_key import Identity, IdentityError
from peerpath.identity.public_key import PublicKey

__all__ = ["Identity", "IdentityError", "PublicKey"]
