"""Hosts and networks made of Linux network namespaces and veth pairs.

    with Network() as network:
        relay, client = network.host("relay"), network.host("client")
        network.connect(relay, "10.77.0.1/24", client, "10.77.0.2/24")
        run(["ping", "-c1", "10.77.0.1"], namespace=client, timeout=5)

A namespace's name says which process owns it. What a killed run left behind is found by that and removed when
the next run starts, while runs at the same time leave each other alone.
"""

import contextlib
import ctypes
import itertools
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_CLONE_NEWNET = 0x40000000
_NAMESPACES = Path("/run/netns")
_NAME = re.compile(r"turnrelay-(?P<pid>\d+)-(?P<start>\d+)-\d+-\w+")

_libc = ctypes.CDLL(None, use_errno=True)
_serial = itertools.count(1)


@dataclass(frozen=True)
class Namespace:
    """One host: its own interfaces, addresses, routes, ports and firewall."""

    name: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """Put before a command line, it runs there. It becomes the command: same pid, nothing in between."""
        return ("ip", "netns", "exec", self.name)

    def ip(self, *arguments: str) -> None:
        """`ip` on this host, as in `host.ip("route", "add", "default", "via", "10.77.0.1")`."""
        _command("ip", "-n", self.name, *arguments)

    def command(self, *argv: str) -> str:
        """A short command on this host, as in `host.command("sysctl", "-w", ...)`; its standard output."""
        return _command(*self.prefix, *argv)

    def pids(self) -> list[int]:
        """The processes on this host, but for the caller should it be inside."""
        listed = _command("ip", "netns", "pids", self.name)
        return [pid for pid in map(int, listed.split()) if pid != os.getpid()]


class Network:
    """Owns its hosts: they and all that runs on them are gone when it closes."""

    def __init__(self) -> None:
        self._hosts: list[Namespace] = []
        self._cables = itertools.count()

    def host(self, name: str) -> Namespace:
        """A new host with its loopback up. The name is for the reader: letters, digits and underscores."""
        namespace = Namespace(f"turnrelay-{os.getpid()}-{_start_time(os.getpid())}-{next(_serial)}-{name}")
        assert _NAME.fullmatch(namespace.name), f"not a name for a host: {name!r}"
        _command("ip", "netns", "add", namespace.name)
        self._hosts.append(namespace)
        namespace.ip("link", "set", "lo", "up")
        return namespace

    def connect(self, left: Namespace, left_cidr: str, right: Namespace, right_cidr: str) -> tuple[str, str]:
        """A cable: one veth end on each host, up, with these addresses. Returns the two interface names."""
        number = next(self._cables)
        ends = (f"left{number}", f"right{number}")
        left.ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", right.name)
        for host, interface, cidr in ((left, ends[0], left_cidr), (right, ends[1], right_cidr)):
            add_address(host, interface, cidr)
            host.ip("link", "set", interface, "up")
        return ends

    def close(self) -> None:
        while self._hosts:
            _remove(self._hosts.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def add_address(host: Namespace, interface: str, cidr: str) -> None:
    # Duplicate address detection would keep an IPv6 address unusable for its first second.
    host.ip("address", "add", cidr, "dev", interface, *(["nodad"] if ":" in cidr else []))


@contextmanager
def inside(namespace: Namespace | None) -> Iterator[None]:
    """Sockets that this thread opens, and programs that it starts, belong to the namespace.

    They stay there afterwards: enter, open, leave. None is the machine itself, for code that runs on either.
    """
    if namespace is None:
        yield
        return
    with open("/proc/thread-self/ns/net") as home, open(_NAMESPACES / namespace.name) as target:
        _set_namespace(target.fileno())
        try:
            yield
        finally:
            _set_namespace(home.fileno())


def sweep() -> list[str]:
    """Remove the namespaces whose owner is dead, with what still runs in them. Returns their names."""
    with contextlib.suppress(FileNotFoundError):
        orphans = [entry.name for entry in _NAMESPACES.iterdir() if _is_orphan(entry.name)]
        for name in orphans:
            # Two runs may sweep at once: whoever comes second finds nothing left to remove.
            with contextlib.suppress(subprocess.CalledProcessError):
                _remove(Namespace(name))
        return orphans
    return []


def _is_orphan(name: str) -> bool:
    match = _NAME.fullmatch(name)
    if match is None:
        return False
    # A pid comes back for another process; together with its start time it does not.
    return _start_time(int(match["pid"])) != match["start"]


def _start_time(pid: int) -> str | None:
    """Clock ticks from boot to the start of a process (field 22 of its stat); None if it is no more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in field 2 may hold spaces and parentheses, so fields are counted from its end.
    return stat.rpartition(")")[2].split()[19]


def _remove(namespace: Namespace) -> None:
    for pid in namespace.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _command("ip", "netns", "delete", namespace.name)


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")


def _command(*argv: str) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=20)
    if done.returncode:
        error = subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
        error.add_note(done.stderr)
        raise error
    return done.stdout
