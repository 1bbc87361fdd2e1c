"""The subject: `turnrelay serve`, as an operator starts it."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from support import metrics
from support.processes import Process
from support.relay import Access, Site, Transport
from support.requirements import unavailable

_HTTP_PORT = 9641


class TurnRelayServer:
    """A relay that answers `/readyz` from the moment it is entered to the moment it is left."""

    name: ClassVar[str] = "turnrelay"
    port = 3478
    tls_port = 5349

    def __init__(self, site: Site, access: Access, *, flags: Sequence[str] = ()) -> None:
        self.site = site
        self.access = access
        self._flags = flags

    def __enter__(self) -> Self:
        # Its settings are the flags alone, not what a person's environment adds to them.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNRELAY_")}
        self.process = Process(self._argv(), namespace=self.site.namespace, env=environment)
        try:
            self.process.wait_until(lambda: self.get("/readyz")[0] == 200, 60)
        except BaseException:
            self.process.stop(first=signal.SIGINT)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # SIGTERM would wait for clients that left their allocations behind.
        self.process.stop(first=signal.SIGINT)

    def get(self, path: str) -> tuple[int, str]:
        """A GET of its HTTP side: status and body."""
        return metrics.http_get(self.site.address, _HTTP_PORT, path, self.site.namespace)

    def scrape(self) -> metrics.Scrape:
        return metrics.scrape(self.site.address, _HTTP_PORT, self.site.namespace)

    def tally(self, transport: Transport) -> "ScrapedTally":
        return ScrapedTally(self, transport)

    def _argv(self) -> list[str | Path]:
        # The command of the environment that runs the tests, wherever PATH points.
        command = Path(sys.executable).with_name("turnrelay")
        if not command.exists():
            unavailable(f"turnrelay is not installed beside {sys.executable}")
        access = self.access
        argv: list[str | Path] = [command, "serve"]
        for address in self.site.addresses:
            argv += ["--listen", address, "--relay-ip", address]
        argv += ["--port", str(self.port), "--tls-port", str(self.tls_port)]
        argv += ["--tls-cert", self.site.certificates.chain, "--tls-key", self.site.certificates.key]
        argv += ["--http", f"{self.site.address}:{_HTTP_PORT}", "--data-dir", self.site.folder / "data"]
        argv += ["--realm", access.realm]
        if access.shared_secret is None:
            argv += ["--user", f"{access.username}:{access.password}"]
        else:
            argv += ["--shared-secret", access.shared_secret]
        for peers in access.allowed_peers:
            argv += ["--allow-peer", peers]
        return [*argv, *self._flags]


class ScrapedTally:
    """Two readings of `turnrelay_relayed_bytes_total`, as Prometheus would take them."""

    def __init__(self, server: TurnRelayServer, transport: Transport) -> None:
        self._server = server
        self._transport = transport
        self._before = self._read()

    def must_reach(self, payload_bytes: int) -> None:
        deadline = time.monotonic() + 20
        while min(moved := self._moved()) < payload_bytes:
            # The counters of a kernel plane are read at intervals: they may trail what clients have received.
            assert time.monotonic() < deadline, (
                f"clients on {self._transport} received {payload_bytes} bytes,"
                f" yet the server counts {moved[0]:.0f} to peers and {moved[1]:.0f} from peers"
            )
            time.sleep(0.1)

    def _moved(self) -> list[float]:
        return [now - before for now, before in zip(self._read(), self._before, strict=True)]

    def _read(self) -> list[float]:
        page = self._server.scrape()
        return [
            page.total("turnrelay_relayed_bytes_total", direction=direction, transport=self._transport)
            for direction in ("to_peer", "from_peer")
        ]
