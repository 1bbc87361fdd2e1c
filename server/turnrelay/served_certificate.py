"""ServedCertificate: what TLS clients are shown, read again when the operator asks for it."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from turnrelay.settings.tls import Certificate, read_certificate
from turnrelay.transports.tls import TlsContexts


class ServedCertificate:
    """The one in use; None everywhere where there is no TLS."""

    def __init__(self, files: tuple[Path, Path] | None, expires: Callable[[datetime], None]) -> None:
        """`files` are certificate and key; `expires` hears when the one in use does. OSError or ValueError
        for files that do not fit."""
        self._files = files
        self._expires = expires
        self.current: Certificate | None = None
        self.contexts: TlsContexts | None = None
        self.read()

    def read(self) -> None:
        """Takes what the files hold now; OSError or ValueError (ssl.SSLError is an OSError), and what was
        in use stays as it is."""
        if self._files is None:
            return
        # Contexts of their own: loading into those in use would change them even where it fails.
        contexts, certificate = TlsContexts.load(*self._files), read_certificate(self._files[0])
        self.contexts, self.current = contexts, certificate
        self._expires(certificate.not_after)
