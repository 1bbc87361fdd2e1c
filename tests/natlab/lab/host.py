"""A computer of the lab: a namespace with an Ethernet interface, `eth0`, in which programs run."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from support import processes
from support.netns import Namespace, inside
from support.processes import Process

from .capture import Capture


class Host:
    def __init__(
        self,
        namespace: Namespace,
        addresses: Sequence[str],
        addresses6: Sequence[str] = (),
        device: str = "eth0",
    ) -> None:
        self.namespace = namespace
        self.addresses = list(addresses)
        self.addresses6 = list(addresses6)
        self.device = device
        self._processes: list[Process] = []

    @property
    def address(self) -> str:
        """The first IPv4 address of its own, which behind a NAT is a private one."""
        return self.addresses[0]

    @property
    def address6(self) -> str:
        return self.addresses6[0]

    def popen(self, argv: Sequence[str | Path], **options: Any) -> Process:
        """Start a program here. It ends with the lab at the latest. Options as of `Process`."""
        return self.adopt(Process(argv, namespace=self.namespace, **options))

    def adopt(self, process: Process) -> Process:
        """A program that somebody else started here ends with the lab as well."""
        self._processes.append(process)
        return process

    def run(self, argv: Sequence[str | Path], *, timeout: float = 20.0, **options: Any) -> str:
        """Run a program here to its end; its output. Raises unless it exits with 0 in time."""
        return processes.run(argv, timeout=timeout, namespace=self.namespace, **options)

    def inside(self) -> AbstractContextManager[None]:
        """Sockets that this thread opens in the `with` block belong to this host, and stay there."""
        return inside(self.namespace)

    def socket(
        self,
        address: str | None = None,
        port: int = 0,
        kind: socket.SocketKind = socket.SOCK_DGRAM,
    ) -> socket.socket:
        """A socket of this process on this host, bound to its first address unless another is given."""
        address = self.address if address is None else address
        with self.inside():
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        made.bind((address, port))
        return made

    def capture(self) -> Capture:
        """Record what passes its interface."""
        return Capture(self.namespace, self.device)

    def close(self) -> None:
        while self._processes:
            self._processes.pop().stop()
