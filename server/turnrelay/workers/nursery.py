"""The nursery: a process without threads and without an event loop, of which workers are forked.

A worker that ends has to be there again at once, and to start Python and import everything takes longer than
its clients wait. Forking a process that runs threads or an event loop is not safe; this one runs neither.
Nobody else can take its place, so it has a spare: a fork of itself that sleeps until it is gone.
"""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import structlog

from turnrelay.workers.nurture import ROOM, Work, live_as_nursery

Exited = Callable[[int, int, int | None], None]
_SPARE_SECONDS = 0.1
"""Between the end of a spare and the next one."""


@dataclass(eq=False)
class _Home:
    """A process that forks workers, or is to do so when another one is gone."""

    sock: socket.socket
    process: int | None = None
    """A descriptor of the process (pidfd), once it is known."""


@dataclass(eq=False)
class _Order:
    """A worker that is to be forked."""

    member: int
    channel: socket.socket
    is_unwanted: bool = False


@dataclass(eq=False)
class _Child:
    pid: int
    process: int


class Nursery:
    """The supervisor's side. Make it before any thread and any event loop."""

    def __init__(self, work: Work, let_go: Callable[[], None] = lambda: None) -> None:
        """`let_go` closes what no worker is to have, in the nursery."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if not pid:
            ours.close()
            let_go()
            live_as_nursery(theirs, work)
        theirs.close()
        self._home = _Home(ours, os.pidfd_open(pid))
        self._spare: _Home | None = None
        self._orders: dict[int, _Order] = {}
        self._children: dict[int, _Child] = {}
        """By ticket."""
        self._exited: Exited = lambda ticket, pid, status: None
        self._lost: Callable[[], None] = lambda: None
        self._tickets = count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asking: asyncio.TimerHandle | None = None

    def watch(self, loop: asyncio.AbstractEventLoop, exited: Exited, lost: Callable[[], None]) -> None:
        """`exited` is told ticket, process and status of a worker that ended, None for a status that nobody
        knows; `lost` is called when the nursery and its spare are gone."""
        self._exited, self._lost = exited, lost
        self._loop = loop
        self._listen_to(self._home)
        self._ask_for_spare()

    def fork(self, member: int, channel: socket.socket) -> int:
        """Forks a worker that has this end of a channel, and owns it. The ticket is this process' and no
        later one's."""
        ticket = next(self._tickets)
        order = self._orders[ticket] = _Order(member, channel)
        self._send(ticket, order)
        return ticket

    def kill(self, ticket: int) -> None:
        """Kills that process if it lives."""
        child = self._children.get(ticket)
        if child is not None:
            _kill(child.process)
        elif ticket in self._orders and self._home.process is not None:
            # It was never forked: it is the nursery that hangs.
            self._orders[ticket].is_unwanted = True
            _kill(self._home.process)

    def close(self) -> None:
        """Lets the nursery go; workers that still run end by themselves, as their channels do."""
        if self._asking is not None:
            self._asking.cancel()
        for home in (self._home, self._spare):
            if home is not None:
                self._leave(home)
        while self._orders:
            self._orders.popitem()[1].channel.close()
        while self._children:
            child = self._children.popitem()[1]
            if self._loop is not None:
                self._loop.remove_reader(child.process)
            os.close(child.process)

    def _send(self, ticket: int, order: _Order) -> None:
        message = json.dumps({"fork": ticket, "member": order.member}).encode()
        with suppress(OSError):  # where it is gone, its spare gets the order
            socket.send_fds(self._home.sock, [message], [order.channel.fileno()])

    # -- the process and its spare ----------------------------------------------------------------------

    def _listen_to(self, home: _Home) -> None:
        assert self._loop is not None  # watch() began this
        home.sock.setblocking(False)
        self._loop.add_reader(home.sock, self._readable, home)

    def _ask_for_spare(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, suppress(OSError):  # where the nursery is gone, so is the only end of this
            socket.send_fds(self._home.sock, [json.dumps({"spare": True}).encode()], [theirs.fileno()])
        self._spare = _Home(ours)
        self._listen_to(self._spare)

    def _readable(self, home: _Home) -> None:
        try:
            news, descriptors, _, _ = socket.recv_fds(home.sock, ROOM, 1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            news, descriptors = b"", []
        if not news:
            self._ended(home)
            return
        told = json.loads(news)
        if "exited" in told:
            ticket, pid, status = told["exited"]
            self._forget(ticket, pid, status)
            return
        ticket, pid = told["born"]
        if not ticket:
            home.process = descriptors[0]
            if home is self._home:
                self._ask_for_spare()
            return
        self._children[ticket] = _Child(pid, descriptors[0])
        self._orders.pop(ticket).channel.close()

    def _ended(self, home: _Home) -> None:
        """Nobody has the other end: it is gone, and whatever it had forked has said so."""
        self._leave(home)
        assert self._loop is not None  # watch() began this
        if home is self._spare:
            self._spare = None
            self._asking = self._loop.call_later(_SPARE_SECONDS, self._ask_for_spare)
            return
        if self._asking is not None:
            self._asking.cancel()
        for ticket, child in self._children.items():
            self._loop.add_reader(child.process, self._orphan_ended, ticket)
        spare, self._spare = self._spare, None
        if spare is None:
            self._lost()
        else:
            structlog.get_logger().warning("the process that starts workers is gone, its spare goes on")
            self._home = spare
            if spare.process is not None:
                self._ask_for_spare()
        for ticket, order in list(self._orders.items()):
            if spare is None or order.is_unwanted:
                self._forget(ticket, 0, None)
            else:
                self._send(ticket, order)

    def _leave(self, home: _Home) -> None:
        if self._loop is not None and home.sock.fileno() >= 0:
            self._loop.remove_reader(home.sock)
        home.sock.close()
        if home.process is not None:
            _kill(home.process)
            _reap(home.process)
            os.close(home.process)
            home.process = None

    def _orphan_ended(self, ticket: int) -> None:
        child = self._children[ticket]
        self._forget(ticket, child.pid, _reap(child.process))

    def _forget(self, ticket: int, pid: int, status: int | None) -> None:
        order, child = self._orders.pop(ticket, None), self._children.pop(ticket, None)
        if order is not None:
            order.channel.close()
        if child is not None:
            assert self._loop is not None  # watch() began this
            self._loop.remove_reader(child.process)
            os.close(child.process)
        self._exited(ticket, pid, status)


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGKILL)


def _reap(process: int) -> int | None:
    """The exit status of a process that has ended or is about to; None for another one's child, which the
    nursery's are, unless this process is the first one of its container."""
    try:
        ended = os.waitid(os.P_PIDFD, process, os.WEXITED)
    except ChildProcessError:
        return None
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
