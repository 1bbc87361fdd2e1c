"""A certificate authority of the tests, and certificates of relays that it signed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trustme


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files: the authority that clients are told to trust, the relay's chain and its key."""

    authority: Path
    chain: Path
    key: Path

    @classmethod
    def issue(cls, folder: Path, *names: str) -> Self:
        """Make an authority and a certificate for these host names and addresses."""
        made = cls(folder / "authority.pem", folder / "chain.pem", folder / "key.pem")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(made.authority)
        certificate = authority.issue_cert(*names)
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(made.chain, append=True)
        certificate.private_key_pem.write_to_path(made.key)
        return made
