"""Inquiries: which server is to be asked for what from which base, in the order that it is done in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from stunwire import TransportAddress

from peerpath.ice.servers import GatheringServer, Inquiry


@dataclass(frozen=True, slots=True)
class Task:
    base: TransportAddress
    server: GatheringServer
    inquiry: Inquiry


class Inquiries:
    """Each server is asked from every base of its family. With `relay_only` for relayed addresses alone."""

    def __init__(self, *, relay_only: bool) -> None:
        self.servers: list[GatheringServer] = []
        self._relay_only = relay_only
        self._preferences: dict[TransportAddress, int] = {}
        self._tasks: deque[Task] = deque()

    def __len__(self) -> int:
        """What is still to be asked."""
        return len(self._tasks)

    def add_base(self, base: TransportAddress, local_preference: int) -> None:
        self._preferences[base] = local_preference
        self._plan([(base, server) for server in self.servers])

    def remove_base(self, base: TransportAddress) -> None:
        self._preferences.pop(base, None)
        self._tasks = deque(task for task in self._tasks if task.base != base)

    def add_server(self, server: GatheringServer) -> None:
        self.servers.append(server)
        self._plan([(base, server) for base in self._preferences])

    def add(self, task: Task) -> None:
        """After all others."""
        self._tasks.append(task)

    def take(self) -> Task:
        """The next one; IndexError when there is none."""
        return self._tasks.popleft()

    def clear(self) -> None:
        self._tasks.clear()

    def _plan(self, ways: list[tuple[TransportAddress, GatheringServer]]) -> None:
        """Queues what makes sense, so that each kind of candidate has a chance early on."""
        for base, server in ways:
            if (":" in server.address.host) != (":" in base.host):
                continue
            if self._asks_binding(server):
                self._tasks.append(Task(base, server, Inquiry.BINDING))
            if server.is_turn:
                self._tasks.append(Task(base, server, Inquiry.ALLOCATION))
        self._tasks = deque(sorted(self._tasks, key=self._urgency))

    def _asks_binding(self, server: GatheringServer) -> bool:
        """Whether a Binding request to it is of use.

        An allocation tells the mapped address as well, only a round trip later, so one TURN server is asked
        for it where no STUN server is known.
        """
        if self._relay_only:
            return False
        if not server.is_turn:
            return True
        ipv6 = ":" in server.address.host
        same_family = [other for other in self.servers if (":" in other.address.host) == ipv6]
        return all(other.is_turn for other in same_family) and same_family[0] is server

    def _urgency(self, task: Task) -> tuple[int, int, int]:
        same_kind = [server for server in self.servers if server.is_turn is task.server.is_turn]
        rank = same_kind.index(task.server) if task.server in same_kind else len(same_kind)
        kind = 0 if task.inquiry is Inquiry.BINDING else 1
        return rank, kind, -self._preferences[task.base]
