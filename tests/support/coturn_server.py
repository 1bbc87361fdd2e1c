"""The control: coturn's `turnserver`. What fails against both relays is the client's own doing."""

from pathlib import Path
from typing import ClassVar, Self

from support.netns import inside
from support.ports import answers_stun, is_listening
from support.processes import Process
from support.relay import Access, Site, Transport
from support.requirements import require_program


class CoturnServer:
    """A relay that takes connections from the moment it is entered to the moment it is left."""

    name: ClassVar[str] = "coturn"
    port = 3478
    tls_port = 5349

    def __init__(self, site: Site, access: Access) -> None:
        self.site = site
        self.access = access

    def __enter__(self) -> Self:
        # It looks for its user database in its working directory too, and may write there.
        self.process = Process(self._argv(), namespace=self.site.namespace, cwd=self.site.folder)
        try:
            self.process.wait_until(self._is_ready)
        except BaseException:
            self.process.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()

    def tally(self, transport: Transport) -> "NoTally":
        return NoTally()

    def _is_ready(self) -> bool:
        with inside(self.site.namespace):
            # Its listeners open one after the other, those for UDP not always first.
            return all(
                answers_stun(address, self.port)
                and is_listening(address, self.port)
                and is_listening(address, self.tls_port)
                for address in self.site.addresses
            )

    def _argv(self) -> list[str | Path]:
        access = self.access
        # -n: no configuration file. The command line interface of a running server listens on a fixed port
        # of 127.0.0.1, which would make two of them collide.
        argv: list[str | Path] = [require_program("turnserver"), "-n", "--no-cli", "--log-file=stdout"]
        argv += ["--simple-log", "--no-multicast-peers", f"--pidfile={self.site.folder / 'turnserver.pid'}"]
        argv += [f"--userdb={self.site.folder / 'turndb'}", f"--realm={access.realm}"]
        for address in self.site.addresses:
            argv += [f"--listening-ip={address}", f"--relay-ip={address}"]
        argv += [f"--listening-port={self.port}", f"--tls-listening-port={self.tls_port}"]
        argv += [f"--cert={self.site.certificates.chain}", f"--pkey={self.site.certificates.key}"]
        # It allows private peers on its own, loopback ones only on request.
        argv += ["--allow-loopback-peers"]
        if access.shared_secret is None:
            argv += ["--lt-cred-mech", f"--user={access.username}:{access.password}"]
        else:
            argv += ["--use-auth-secret", f"--static-auth-secret={access.shared_secret}"]
        return argv


class NoTally:
    """Debian builds coturn without its Prometheus exporter: what the client counted has to do."""

    def must_reach(self, payload_bytes: int) -> None:
        pass
