"""Predecessor: the process that runs starts the next one and hands everything over to it.

Until the successor says that it serves, nothing is given away: descriptors are copies, and what is sent is a
list of what there is. From the moment at which that is written this process does nothing but wait for the
word, so there is nothing to undo where it does not come.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Coroutine
from dataclasses import dataclass

from turnrelay.handover.container import reason_to_stay
from turnrelay.handover.crew import CrewFailed, LeavingCrew
from turnrelay.handover.elsewhere import AlsoElsewhere, Elsewhere
from turnrelay.handover.estate import Estate
from turnrelay.handover.format import FORMAT, AttachedDevice, ListeningSocket, Offer
from turnrelay.handover.inventory import Inventory, let_go, patience, settle, take_inventory
from turnrelay.handover.wire import (
    FAILED,
    HOLDINGS,
    OFFER,
    READY,
    SERVING,
    Wire,
    WireError,
    close_all,
    until_readable,
)
from turnrelay.observe.service_manager import tell_service_manager
from turnrelay.transports.given_sockets import HTTP
from turnrelay.workers.supervisor import Supervisor

VARIABLE = "SUCCESSOR_OF_TURNRELAY"
"""Tells the successor which descriptor is its end of the wire."""

_START_SECONDS = 60.0
_END_SECONDS = 0.1


class HandoverFailed(Exception):
    """Why this process goes on as if nothing had been."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What became of it."""

    pid: int
    allocations: int
    connections: int
    pause_seconds: float
    """For which nothing was read; what came meanwhile waited in the system's buffers."""
    following: "asyncio.Task[None]"
    """What the successor says of its relayed addresses."""


async def hand_over(estate: Estate, pid_file: int | None) -> HandedOver:
    """Starts the command that started this process once more, and hands everything over to it.

    `pid_file` is the descriptor of the file and its lock. HandoverFailed says why nothing changed.
    """
    reason = reason_to_stay()
    if reason is not None:
        raise HandoverFailed(reason)
    process, ours = _start_successor()
    handover = _Handover(estate, pid_file, ours, process)
    try:
        done = await handover.run()
    except BaseException as error:
        ours.close()
        status = _end(process)
        handover.failed()
        if isinstance(error, WireError) and status is not None:
            raise HandoverFailed(f"the new process ended with status {status} before it served") from None
        if isinstance(error, WireError | CrewFailed | OSError | ValueError):
            raise HandoverFailed(str(error)) from None
        raise
    tell_service_manager(f"MAINPID={process.pid}")
    return done


def _start_successor() -> "tuple[subprocess.Popen[bytes], socket.socket]":
    """The process, and this end of the wire to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        environment = {**os.environ, VARIABLE: str(theirs.fileno())}
        argv = [sys.executable, *sys.orig_argv[1:]]
        try:
            return subprocess.Popen(argv, env=environment, pass_fds=[theirs.fileno()]), ours  # noqa: S603
        except OSError as error:
            ours.close()
            raise HandoverFailed(f"{argv[0]} cannot be started: {error.strerror}") from None


def _end(process: "subprocess.Popen[bytes]") -> int | None:
    """Whatever it does; the status with which it had ended by itself, None if it had not."""
    try:
        return process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


class _Handover:
    def __init__(
        self, estate: Estate, pid_file: int | None, sock: socket.socket, process: "subprocess.Popen[bytes]"
    ) -> None:
        self._estate = estate
        self._pid_file = pid_file
        self._sock = sock
        self._wire = Wire(sock)
        self._process = process
        self._loop = asyncio.get_running_loop()
        place = estate.place
        self._crew = LeavingCrew(place) if isinstance(place, Supervisor) else None

    async def run(self) -> HandedOver:
        self._send_offer()
        try:
            await until_readable(self._sock, _START_SECONDS)
        except TimeoutError:
            seconds = f"{_START_SECONDS:.0f} seconds"
            raise HandoverFailed(f"the new process is not ready after {seconds}") from None
        prepared, descriptors = self._expect(READY, patience(0))
        await settle(self._estate)
        began = self._loop.time()
        if self._crew is not None:
            await self._crew.write_down(prepared, descriptors)
        if self._estate.readiness.draining:
            raise HandoverFailed("the relay began to drain meanwhile")
        if self._crew is not None:
            self._crew.tell_figures()
        inventory = take_inventory(self._estate)
        allocations, connections = len(inventory.allocations), len(inventory.connections)
        if self._crew is not None:
            allocations += self._crew.allocations
            connections += self._crew.connections
        body = inventory.holdings.model_dump_json().encode()
        self._wire.send(HOLDINGS, body, inventory.descriptors, seconds=patience(allocations))
        self._expect(SERVING, patience(allocations))
        # It serves. Nothing may be read here any more, so nothing is waited for until all is let go.
        let_go(self._estate, inventory)
        following = self._loop.create_task(self._follow(inventory))
        pause = self._loop.time() - began
        return HandedOver(self._process.pid, allocations, connections, pause, following)

    def failed(self) -> None:
        """The successor is gone; nobody serves but this relay."""
        if self._crew is not None:
            self._crew.go_on()

    def _follow(self, inventory: Inventory) -> Coroutine[None, None, None]:
        """What stays here may be the peer of what has gone, until that ends."""
        if self._crew is not None:
            self._crew.let_go()
            return self._crew.follow(self._sock)
        elsewhere = Elsewhere(inventory.gone)
        estate, state = self._estate, self._estate.driver.server.state
        estate.plane.use_neighbours(elsewhere)
        state.processes = AlsoElsewhere(state.processes, elsewhere)
        return elsewhere.follow(self._sock, inventory.left, lambda: estate.plane.relays)

    def _send_offer(self) -> None:
        estate, descriptors = self._estate, list[int]()
        if self._pid_file is not None:
            descriptors.append(self._pid_file)
        sockets = estate.listeners.sockets()
        if estate.http is not None and estate.http.sock is not None:
            sockets.append((HTTP, estate.http.sock))
        listening = []
        for kind, sock in sockets:
            host, port = sock.getsockname()[:2]
            listening.append(ListeningSocket(kind=kind, host=host, port=port, worker=0))
            descriptors.append(sock.fileno())
        for door in [] if self._crew is None else self._crew.doors:
            for worker, sock in enumerate(door.sockets, 1):
                kind, host, port = door.kind.value, door.host, door.port
                listening.append(ListeningSocket(kind=kind, host=host, port=port, worker=worker))
                descriptors.append(sock.fileno())
        attached = None
        if estate.attachments is not None:
            attached = []
            for interface, mode, links in estate.attachments.devices:
                attached.append(AttachedDevice(index=interface.index, mode=mode, programs=list(links)))
                descriptors += links.values()
            kernel = estate.attachments.kernel
            descriptors += [kernel.counters.fd, kernel.totals.fd]
        workers, ports = 1, list[tuple[str, str]]()
        if self._crew is not None:
            workers = self._crew.workers
            ports = [(host.local, host.advertised) for host in self._crew.ports.hosts]
            descriptors += self._crew.descriptors()
        offer = Offer(
            format=FORMAT,
            nonce_keys=estate.place.nonce_keys,
            self_test_user=estate.place.self_test_user,
            has_pid_file=self._pid_file is not None,
            listening=listening,
            attached=attached,
            workers=workers,
            ports=ports,
        )
        self._wire.send(OFFER, offer.model_dump_json().encode(), descriptors, seconds=patience(0))
        if self._crew is not None:
            self._crew.offered()

    def _expect(self, wanted: str, seconds: float) -> tuple[bytes, list[int]]:
        kind, body, descriptors = self._wire.receive(seconds=seconds)
        if kind != wanted:
            close_all(descriptors)
        if kind == FAILED:
            raise HandoverFailed(f"the new process: {body.decode(errors='replace')}")
        if kind != wanted:
            raise HandoverFailed(f"the new process says {kind} where {wanted} is expected")
        return body, descriptors
