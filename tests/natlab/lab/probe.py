"""Looks at a NAT from both sides at once: the sockets of host and server are all in this process.

So nothing has to be concluded from a missing answer. What the server saw is read at the server, and after
packets that a filter may drop comes one that it must let in.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
from typing import Self

from .host import Host
from .kinds import Dependence
from .network import Server

Address = tuple[str, int]

PORT, ALTERNATE_PORT = 5000, 5001
ARRIVAL_TIMEOUT = 10.0
SILENCE = 0.5
"""Seconds that are waited for what must arrive, however busy the machine is, and for what must not."""


class Blocked(Exception):
    """A packet that only a NAT without UDP would drop did not arrive."""


class Probe:
    """Four UDP sockets on a server: two addresses, two ports each."""

    def __init__(self, server: Server) -> None:
        self._sockets: dict[Address, socket.socket] = {}
        for address, port in itertools.product(server.addresses, (PORT, ALTERNATE_PORT)):
            self._sockets[address, port] = server.socket(address, port)
        self.first: Address = (server.address, PORT)
        self.other_port: Address = (server.address, ALTERNATE_PORT)
        self.other_address: Address = (server.alternate_address, PORT)
        self.other_both: Address = (server.alternate_address, ALTERNATE_PORT)
        self._serial = itertools.count()

    def observe(
        self,
        source: socket.socket,
        destination: Address | None = None,
        timeout: float = ARRIVAL_TIMEOUT,
    ) -> Address:
        """The source address of `source` as this destination, else the first one, sees it."""
        destination = destination or self.first
        self._sockets[destination].settimeout(timeout)
        word = f"probe {next(self._serial)}".encode()
        source.sendto(word, destination)
        while True:
            try:
                received, observed = self._sockets[destination].recvfrom(2048)
            except TimeoutError:
                raise Blocked(f"nothing of {source.getsockname()} arrives at {destination}") from None
            if received == word:
                return observed

    def mapping(self, host: Host) -> Dependence:
        """RFC 5780 section 4.3, with the mapped addresses read at the server."""
        with host.socket() as source:
            at_first = self.observe(source)
            at_other_port = self.observe(source, self.other_port)
            at_other_address = self.observe(source, self.other_address)
            at_other_both = self.observe(source, self.other_both)
        if at_first == at_other_address == at_other_port == at_other_both:
            return Dependence.ENDPOINT_INDEPENDENT
        if at_first == at_other_port and at_other_address == at_other_both:
            return Dependence.ADDRESS_DEPENDENT
        return Dependence.ADDRESS_AND_PORT_DEPENDENT

    def filtering(self, host: Host) -> Dependence:
        """RFC 5780 section 4.4: who else may answer a host that has sent to `first` alone?"""
        with host.socket() as source:
            source.settimeout(ARRIVAL_TIMEOUT)
            mapped = self.observe(source)
            got_in = self.arrivals(source, mapped, self.other_both, self.other_port, until=self.first)
        if self.other_both in got_in:
            return Dependence.ENDPOINT_INDEPENDENT
        if self.other_port in got_in:
            return Dependence.ADDRESS_DEPENDENT
        return Dependence.ADDRESS_AND_PORT_DEPENDENT

    def arrivals(
        self, source: socket.socket, mapped: Address, *senders: Address, until: Address
    ) -> set[Address]:
        """Which of our sockets' packets to `mapped` reach `source`? That of `until` must, and is the last."""
        for sender in (*senders, until):
            self._sockets[sender].sendto(b"answer", mapped)
        got_in: set[Address] = set()
        while until not in got_in:
            try:
                got_in.add(source.recvfrom(2048)[1])
            except TimeoutError:
                raise Blocked(f"nothing of {until} arrives at {mapped}") from None
        return got_in

    def reaches(
        self, source: socket.socket, mapped: Address, sender: Address, timeout: float = ARRIVAL_TIMEOUT
    ) -> bool:
        """Does a packet to `mapped` from this socket of ours still arrive? For mappings that may be gone, of
        which those that must be gone are waited for during SILENCE alone."""
        word = f"knock {next(self._serial)}".encode()
        self._sockets[sender].sendto(word, mapped)
        source.settimeout(timeout)
        with contextlib.suppress(TimeoutError):
            while source.recvfrom(2048)[0] != word:
                pass
            return True
        return False

    def external_ports(self, host: Host, count: int) -> list[tuple[int, int]]:
        """Internal and external port of so many new sockets, in the order in which they first sent."""
        ports = []
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                source = stack.enter_context(host.socket())
                ports.append((source.getsockname()[1], self.observe(source)[1]))
        return ports

    def close(self) -> None:
        for opened in self._sockets.values():
            opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
