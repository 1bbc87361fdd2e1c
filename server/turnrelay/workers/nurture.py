"""The life of a nursery, and the beginning of a worker's; nursery.py is the supervisor's side."""

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

Work = Callable[[int, socket.socket], int]
"""What a worker does, with its number and its end of the channel; the exit status."""

ROOM = 4096
_SPARE = 0
"""In the place of a worker's ticket."""


def live_as_nursery(sock: socket.socket, work: Work) -> NoReturn:
    """Until the supervisor is gone. `sock` is the way to it."""
    _leave_signals_to_the_supervisor()
    try:
        while True:
            sock = _tend(sock, work)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def _leave_signals_to_the_supervisor() -> None:
    """A terminal's Ctrl-C goes to all processes; who stops what is the supervisor's to say."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _tend(sock: socket.socket, work: Work) -> socket.socket:
    """Forks what is asked for. Returns in the spare alone, with the way to the supervisor that is its own."""
    woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, int] = {}
    mine = sock.fileno()
    while True:
        ready, _, _ = select.select([mine, woken], [], [])
        if woken in ready:
            os.read(woken, ROOM)
            _tell_of_the_dead(sock, children)
        if mine not in ready:
            continue
        try:
            order, descriptors, _, _ = socket.recv_fds(sock, ROOM, 1)
        except OSError:
            order, descriptors = b"", []
        if not order:
            os._exit(0)
        wish = json.loads(order)
        given = socket.socket(fileno=descriptors[0])
        is_spare = "spare" in wish
        pid = os.fork()
        if pid:
            given.close()
            children[pid] = _SPARE if is_spare else wish["fork"]
            continue
        signal.set_wakeup_fd(-1)
        for descriptor in (woken, waker):
            os.close(descriptor)
        if is_spare:
            sock.close()
            _tell_of_birth(given, _SPARE)
            return given
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # It is told by whoever is born, so that nobody lives of whom nothing was told.
        _tell_of_birth(sock, wish["fork"])
        sock.close()
        _live(work, wish["member"], given)


def _tell_of_birth(sock: socket.socket, ticket: int) -> None:
    process = os.pidfd_open(os.getpid())
    try:
        socket.send_fds(sock, [json.dumps({"born": [ticket, os.getpid()]}).encode()], [process])
    except OSError:
        os._exit(0)  # the supervisor is gone
    os.close(process)


def _tell_of_the_dead(sock: socket.socket, children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        ticket = children.pop(pid)
        if ticket == _SPARE:
            continue  # the supervisor sees it for itself
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
