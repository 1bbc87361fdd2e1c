"""The nursery: a process without threads and without an event loop, of which workers are forked.

A worker that ends has to be there again at once, and to start Python and import everything takes longer than
its clients wait. Forking a process that runs threads or an event loop is not safe; this one runs neither.
"""

import asyncio
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from itertools import count
from typing import NoReturn

Work = Callable[[int, socket.socket], int]
"""What a worker does, with its number and its end of the channel; the exit status."""

_ROOM = 4096


class Nursery:
    """The supervisor's side. Make it before any thread and any event loop."""

    def __init__(self, work: Work) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if not self.pid:
            self._sock.close()
            _leave_signals_to_the_supervisor()
            _tend(theirs, work)
        theirs.close()
        self._exited: Callable[[int, int, int], None] = lambda ticket, pid, status: None
        self._tickets = count(1)
        self._lost: Callable[[], None] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(
        self,
        loop: asyncio.AbstractEventLoop,
        exited: Callable[[int, int, int], None],
        lost: Callable[[], None],
    ) -> None:
        """`exited` is told ticket, process and status of a worker that ended; `lost` if the nursery did."""
        self._exited, self._lost = exited, lost
        self._loop = loop
        self._sock.setblocking(False)
        loop.add_reader(self._sock, self._readable)

    def fork(self, member: int, channel: socket.socket) -> int:
        """Forks a worker that has this end of a channel. The ticket is this process' and no later one's."""
        ticket = next(self._tickets)
        order = json.dumps({"fork": ticket, "member": member}).encode()
        socket.send_fds(self._sock, [order], [channel.fileno()])
        return ticket

    def kill(self, ticket: int) -> None:
        """Kills that process if it lives."""
        self._sock.send(json.dumps({"kill": ticket}).encode())

    def close(self) -> None:
        """Lets the nursery go; workers that still run end by themselves, as their channels do."""
        if self._loop is not None:
            self._loop.remove_reader(self._sock)
        self._sock.close()

    def _readable(self) -> None:
        try:
            news = self._sock.recv(_ROOM)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            news = b""
        if not news:
            assert self._loop is not None  # watch() began this
            self._loop.remove_reader(self._sock)
            self._lost()
            return
        self._exited(*json.loads(news)["exited"])


def _leave_signals_to_the_supervisor() -> None:
    """A terminal's Ctrl-C goes to all processes; who stops what is the supervisor's to say."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _tend(sock: socket.socket, work: Work) -> NoReturn:
    """The nursery's life: until the supervisor is gone."""
    woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, int] = {}
    mine = sock.fileno()
    while True:
        ready, _, _ = select.select([mine, woken], [], [])
        if woken in ready:
            os.read(woken, _ROOM)
            _tell_of_the_dead(sock, children)
        if mine not in ready:
            continue
        try:
            order, descriptors, _, _ = socket.recv_fds(sock, _ROOM, 1)
        except OSError:
            order, descriptors = b"", []
        if not order:
            os._exit(0)
        wish = json.loads(order)
        if "kill" in wish:
            for pid, ticket in children.items():
                if ticket == wish["kill"]:
                    os.kill(pid, signal.SIGKILL)
            continue
        channel = socket.socket(fileno=descriptors[0])
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (woken, waker):
                os.close(descriptor)
            sock.close()
            _live(work, wish["member"], channel)
        channel.close()
        children[pid] = wish["fork"]


def _tell_of_the_dead(sock: socket.socket, children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        ticket = children.pop(pid)
        try:
            sock.send(json.dumps({"exited": [ticket, pid, os.waitstatus_to_exitcode(status)]}).encode())
        except OSError:
            os._exit(0)


def _live(work: Work, member: int, channel: socket.socket) -> NoReturn:
    """The worker's life. It must not return into the nursery's."""
    status = 1
    try:
        status = work(member, channel)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
