"""SupervisorLink: a worker's end of the channel, and the listeners on the sockets that come by it."""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from turnrelay.core.addresses import Transport
from turnrelay.transports.listeners import Listeners
from turnrelay.workers.channel import Channel
from turnrelay.workers.letters import Letter
from turnrelay.workers.messages import (
    Answer,
    Ask,
    Drain,
    Drained,
    Figures,
    GoOn,
    HandOver,
    Message,
    Ready,
    Reload,
    Serve,
    Stop,
    Unfit,
)
from turnrelay.workers.totals import Report

REPORT_SECONDS = 1.0


class SupervisorLink:
    """What the supervisor wants of this worker, and what it is told."""

    def __init__(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self.stop = asyncio.Event()
        """Set when the worker is to end: it was told to, or the supervisor is gone."""
        self.own_ports: set[int] = set()
        """Every port that the relay serves, whichever process does."""
        self.sockets: dict[tuple[str, str, int], socket.socket] = {}
        """To listen on, by kind, host and port."""
        self.on_sockets: Callable[[], None] = lambda: None
        self.on_reload: Callable[[], None] = lambda: None
        self.on_drain: Callable[[], None] = lambda: None
        self.on_question: Callable[[str, Any], Any] = lambda question, argument: None
        self.on_hand_over: Callable[[list[list[str]], list[int]], None] | None = None
        """Given the hosts of a map of ports; owns the descriptors."""
        self.legacy: list[int] | None = None
        """The descriptors of GoOn, where this worker goes on for another one."""
        self.on_letter: Callable[[Letter, Sequence[int]], None] | None = None
        """Owns the descriptors."""
        self._given: asyncio.Future[None] = loop.create_future()
        self._channel = Channel(loop, sock, self._receive, self.stop.set)

    async def wait_for_sockets(self) -> None:
        """Until there is something to listen on; ConnectionError if the supervisor is gone before."""
        stopped: asyncio.Future[Any] = asyncio.ensure_future(self.stop.wait())
        await asyncio.wait((self._given, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not self._given.done():
            raise ConnectionError("the supervisor is gone")

    def tell_ready(self) -> None:
        self._channel.send(Ready(os.getpid()))

    def tell_unfit(self, reason: str) -> None:
        self._channel.send(Unfit(reason))

    def tell_drained(self) -> None:
        self._channel.send(Drained())

    async def report(self, registry: CollectorRegistry) -> None:
        """Tells the figures once a second, until it is cancelled; then once more."""
        report = Report(registry)
        try:
            while True:
                # Also where nothing changed: who says nothing is taken for dead.
                self._channel.send(Figures(report.changes()))
                await asyncio.sleep(REPORT_SECONDS)
        finally:
            self._channel.send(Figures(report.changes()))

    def post(self, letter: Letter, sockets: Sequence[socket.socket]) -> None:
        """Sends a letter to another process of the relay."""
        self._channel.send(letter, sockets)

    def close(self) -> None:
        self._channel.close()

    def _receive(self, message: Message, descriptors: list[int]) -> None:
        match message:
            case Serve(sockets, own_ports):
                for (kind, host, port), descriptor in zip(sockets, descriptors, strict=True):
                    sock = socket.socket(fileno=descriptor)
                    sock.setblocking(False)
                    self.sockets[str(kind), str(host), int(port)] = sock
                self.own_ports = set(own_ports)
                if not self._given.done():
                    self._given.set_result(None)
                self.on_sockets()
            case Reload():
                self.on_reload()
            case Drain():
                self.on_drain()
            case Ask(ticket, question, argument):
                self._channel.send(Answer(ticket, self.on_question(question, argument)))
            case Stop():
                self.stop.set()
            case GoOn():
                self.legacy = descriptors
            case HandOver(hosts) if self.on_hand_over is not None:
                self.on_hand_over(hosts, descriptors)
            case _ if self.on_letter is not None and isinstance(message, Letter):
                self.on_letter(message, descriptors)
            case _:
                for descriptor in descriptors:
                    os.close(descriptor)


class GivenListeners(Listeners):
    """Listens on what the supervisor has opened, and on nothing else."""

    def __init__(self, *arguments: Any, link: SupervisorLink) -> None:
        super().__init__(*arguments)
        self._link = link
        self._listen = []
        self._take_hosts()

    def _take_hosts(self) -> None:
        """A host is listened on by TCP, too; the others are the additional UDP addresses."""
        for kind, host, port in self._link.sockets:
            if kind == Transport.TCP.value:
                if host not in self._listen:
                    self._listen.append(host)
                self.port = port
            elif kind == Transport.TLS.value:
                self.tls_port = port

    def follow_interfaces(self) -> None:
        self._take_hosts()
        super().follow_interfaces()

    def _given(self, kind: Transport, host: str, port: int) -> socket.socket | None:
        return self._link.sockets.get((kind.value, host, port))
