"""PortPool: which relay ports of one address are free."""

import random
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext


class PortPool:
    """The relay ports of one local address.

    Ports start in random order (RFC 6056) and come back at the end of the queue, so that a port rests as
    long as possible before its next owner can hear a stranger's late packets.
    """

    def __init__(self, first: int, last: int) -> None:
        ports = list(range(first, last + 1))
        random.shuffle(ports)
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(ports)
        self._range = range(first, last + 1)
        self.capacity = len(ports)
        self.alone: AbstractContextManager[None] = nullcontext()
        """Held where a port is looked at and taken, since others may look at it, too."""

    @property
    def in_use(self) -> int:
        return self.capacity - len(self._free)

    def candidates(self, even: bool, with_next: bool) -> Iterator[int]:
        """Free ports to try, in turn; `with_next` yields only ports whose next one is free too."""
        if not even and not with_next:
            return self._queue()
        return (
            port
            for port in list(self._free)
            if not (even and port % 2) and (port + 1 in self._free or not with_next)
        )

    def is_free(self, port: int) -> bool:
        """Whether nobody has taken it since it was a candidate."""
        return port in self._free

    def take(self, port: int, *, tcp: bool = False) -> None:
        del self._free[port]

    def adopt(self, port: int) -> None:
        """Somebody holds it already; nothing for a port outside of the range."""
        if port in self._free:
            self.take(port)

    def give_back(self, port: int) -> None:
        if port in self._range:
            self._free[port] = None

    def _queue(self) -> Iterator[int]:
        """Each free port once. One that the caller does not take (somebody else has it) goes to the end."""
        for _ in range(len(self._free)):
            if not self._free:
                return
            port = next(iter(self._free))
            yield port
            if port in self._free:
                self._free.move_to_end(port)
