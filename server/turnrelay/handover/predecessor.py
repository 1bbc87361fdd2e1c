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
from dataclasses import dataclass

from turnrelay.handover.elsewhere import AlsoElsewhere, Elsewhere
from turnrelay.handover.estate import Estate
from turnrelay.handover.format import FORMAT, AttachedDevice, ListeningSocket, Offer
from turnrelay.handover.inventory import let_go, take_inventory
from turnrelay.handover.wire import FAILED, HOLDINGS, OFFER, READY, SERVING, Wire, WireError
from turnrelay.observe.service_manager import tell_service_manager
from turnrelay.transports.given_sockets import HTTP

VARIABLE = "SUCCESSOR_OF_TURNRELAY"
"""Tells the successor which descriptor is its end of the wire."""

_START_SECONDS = 60.0
_PATIENCE_SECONDS = 5.0
_ALLOCATIONS_A_SECOND = 1000
"""What the successor is given more time for; it takes a tenth of that."""
_END_SECONDS = 0.1
_SETTLE_ROUNDS = 50
_SETTLE_SECONDS = 0.004


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
    process, ours = _start_successor()
    handover = _Handover(estate, pid_file, ours, process)
    try:
        done = await handover.run()
    except BaseException as error:
        ours.close()
        status = _end(process)
        if isinstance(error, WireError) and status is not None:
            raise HandoverFailed(f"the new process ended with status {status} before it served") from None
        if isinstance(error, WireError | OSError | ValueError):
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

    async def run(self) -> HandedOver:
        self._send_offer()
        await self._readable(_START_SECONDS)
        self._expect(READY, _PATIENCE_SECONDS)
        await self._settle()
        if self._estate.readiness.draining:
            raise HandoverFailed("the relay began to drain meanwhile")
        began = self._loop.time()
        inventory = take_inventory(self._estate)
        patience = _PATIENCE_SECONDS + len(inventory.holdings.allocations) / _ALLOCATIONS_A_SECOND
        body = inventory.holdings.model_dump_json().encode()
        self._wire.send(HOLDINGS, body, inventory.descriptors, seconds=patience)
        self._expect(SERVING, patience)
        # It serves. Nothing may be read here any more, so nothing is waited for until all is let go.
        let_go(self._estate, inventory)
        elsewhere = Elsewhere(inventory.gone)
        estate, state = self._estate, self._estate.driver.server.state
        # What stays here may be the peer of what has gone.
        estate.plane.use_neighbours(elsewhere)
        state.peers = AlsoElsewhere(state.peers, elsewhere)
        return HandedOver(
            self._process.pid,
            len(inventory.allocations),
            len(inventory.connections),
            self._loop.time() - began,
            self._loop.create_task(elsewhere.follow(self._sock, inventory.left, lambda: estate.plane.relays)),
        )

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
            listening.append(ListeningSocket(kind=kind, host=host, port=port))
            descriptors.append(sock.fileno())
        attached = None
        if estate.attachments is not None:
            attached = []
            for interface, mode, links in estate.attachments.devices:
                attached.append(AttachedDevice(index=interface.index, mode=mode, programs=list(links)))
                descriptors += links.values()
            kernel = estate.attachments.kernel
            descriptors += [kernel.counters.fd, kernel.totals.fd]
        offer = Offer(
            format=FORMAT,
            nonce_keys=estate.place.nonce_keys,
            self_test_user=estate.place.self_test_user,
            has_pid_file=self._pid_file is not None,
            listening=listening,
            attached=attached,
        )
        self._wire.send(OFFER, offer.model_dump_json().encode(), descriptors, seconds=_PATIENCE_SECONDS)

    async def _readable(self, seconds: float) -> None:
        """Until the successor says something; WireError if it takes too long."""
        said: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._sock, _settle, said)
        try:
            async with asyncio.timeout(seconds):
                await said
        except TimeoutError:
            raise HandoverFailed(f"the new process is not ready after {seconds:.0f} seconds") from None
        finally:
            self._loop.remove_reader(self._sock)

    def _expect(self, wanted: str, seconds: float) -> None:
        kind, body, _ = self._wire.receive(seconds=seconds)
        if kind == FAILED:
            raise HandoverFailed(f"the new process: {body.decode(errors='replace')}")
        if kind != wanted:
            raise HandoverFailed(f"the new process says {kind} where {wanted} is expected")

    async def _settle(self) -> None:
        """A moment in which most connections have nothing under way; those that have stay here."""
        state = self._estate.driver.server.state
        for _ in range(_SETTLE_ROUNDS):
            if not state.pending_requests and all(
                connection.is_movable or not connection.could_move
                for connection in self._estate.listeners.connections()
            ):
                return
            await asyncio.sleep(_SETTLE_SECONDS)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
