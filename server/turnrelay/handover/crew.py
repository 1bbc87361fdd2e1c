"""The workers of a relay that is handed over, from the side of their supervisors.

Each worker writes what it has to its heir directly; the supervisors say when, and whether it counts.
"""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress

from turnrelay.handover.elsewhere import until_gone
from turnrelay.handover.format import FormatError, Prepared, Written, read_prepared, read_written
from turnrelay.handover.wire import (
    FAILED,
    READY,
    RESTORED,
    SERVING,
    WRITTEN,
    Wire,
    WireError,
    close_all,
    until_readable,
)
from turnrelay.policy.errors import OperatorError
from turnrelay.relay.plane import RelayHost
from turnrelay.workers.channel import Channel
from turnrelay.workers.doors import Door
from turnrelay.workers.messages import HandOver
from turnrelay.workers.pool import Pool
from turnrelay.workers.ports import PortMap, ports_of_others
from turnrelay.workers.supervisor import Supervisor

_START_SECONDS = 60.0
_WRITE_SECONDS = 15.0
"""Less than the silence for which a worker is taken to hang."""
_SAY_SECONDS = 5.0


class CrewFailed(Exception):
    """Why the workers of the predecessor go on."""


class LeavingCrew:
    """Those of the predecessor. What they have written waits for the word that their heirs serve."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        pairs = [socket.socketpair() for _ in range(supervisor.common.workers)]
        self._wires = [ours for ours, _ in pairs]
        self._heirs_wires = [theirs for _, theirs in pairs]
        self._words: list[socket.socket] = []
        self._written: list[Written] = []
        self._successors: PortMap | None = None

    @property
    def workers(self) -> int:
        return self._supervisor.common.workers

    @property
    def doors(self) -> list[Door]:
        """What they listen on."""
        return self._supervisor.doors

    @property
    def ports(self) -> PortMap:
        """The predecessor's."""
        return self._supervisor.common.ports

    @property
    def allocations(self) -> int:
        return sum(written.allocations for written in self._written)

    @property
    def connections(self) -> int:
        return sum(written.connections for written in self._written)

    def descriptors(self) -> list[int]:
        """For the successor: the map of ports, and the heirs' ends of the wires."""
        assert self.ports.descriptor is not None
        return [self.ports.descriptor, *(sock.fileno() for sock in self._heirs_wires)]

    def offered(self) -> None:
        """The successor has them."""
        _close(self._heirs_wires)

    async def write_down(self, body: bytes, descriptors: Sequence[int]) -> None:
        """Until all have written, and wait. CrewFailed says why one could not. `body` and `descriptors` are
        what the successor says of its map of ports."""
        try:
            ports = read_prepared(body).ports
            [memory] = descriptors
            self._successors = ports_of_others([RelayHost(*host) for host in ports], memory)
            channels = self._supervisor.pool.channels()
            for channel, wire in zip(channels, self._wires, strict=True):
                ours, theirs = socket.socketpair()
                self._words.append(ours)
                with theirs:
                    channel.send(HandOver([list(host) for host in ports]), [theirs, wire, memory])
        except (FormatError, OperatorError, OSError, ValueError) as error:
            raise CrewFailed(str(error)) from None
        finally:
            close_all(descriptors)
            _close(self._wires)
        answers = await asyncio.gather(
            *(_written(member, word) for member, word in enumerate(self._words, 1)), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            self._written.append(answer)
        if not self._are_still(channels):
            raise CrewFailed("a worker ended meanwhile")

    def tell_figures(self) -> None:
        """What the workers counted until they wrote."""
        for member, written in enumerate(self._written, 1):
            figures = [[each.family, each.sample, each.labels, each.value] for each in written.figures]
            self._supervisor.pool.tell(member, figures)

    def go_on(self) -> None:
        """Nothing was taken over."""
        self._say(FAILED)
        self.close()

    def let_go(self) -> None:
        """The heirs serve; who stayed may be the peer of who went."""
        self._say(SERVING)
        self.close()
        self._supervisor.pool.let_go()
        assert self._successors is not None  # write_down() came first
        self._supervisor.neighbourhood.maps.append(self._successors)

    async def follow(self, sock: socket.socket) -> None:
        """Until the successor is gone."""
        await until_gone(sock)
        assert self._successors is not None  # write_down() came first
        self._successors.clear()

    def close(self) -> None:
        for sockets in (self._wires, self._heirs_wires, self._words):
            _close(sockets)

    def _are_still(self, channels: list[Channel]) -> bool:
        try:
            return self._supervisor.pool.channels() == channels
        except OperatorError:
            return False

    def _say(self, word: str) -> None:
        for sock in self._words:
            with suppress(WireError):  # one that is gone needs no word
                Wire(sock).send(word, seconds=_SAY_SECONDS)


async def _written(member: int, word: socket.socket) -> Written:
    try:
        await until_readable(word, _WRITE_SECONDS)
        kind, body, _ = Wire(word).receive(seconds=_SAY_SECONDS)
        if kind == WRITTEN:
            return read_written(body)
        reason = body.decode(errors="replace")
    except (TimeoutError, WireError, FormatError) as error:
        reason = str(error) or "it says nothing"
    raise CrewFailed(f"worker {member} cannot hand over: {reason}")


class ComingCrew:
    """The heirs. They take what they are sent, and read nothing before the word that they serve."""

    def __init__(self, pool: Pool, ports: PortMap) -> None:
        """`ports` are those of the successor."""
        self._pool = pool
        self._ports = ports
        self._words: list[socket.socket] = []

    async def prepare(self, wires: list[socket.socket], counters: int | None) -> None:
        """Starts a worker on each wire, with the predecessor's map of the kernel's counters, until all are
        ready for what clients have; OperatorError says why one is not. Owns the wires."""
        legacies: dict[int, list[socket.socket | int]] = {}
        theirs: list[socket.socket] = []
        for member, wire in enumerate(wires, 1):
            ours, word = socket.socketpair()
            self._words.append(ours)
            theirs.append(word)
            legacies[member] = [word, wire, *([] if counters is None else [counters])]
        self._pool.begin(legacies)
        _close(wires)
        _close(theirs)
        await asyncio.gather(*(until_readable(word, _START_SECONDS) for word in self._words))
        self._expect(READY, _SAY_SECONDS)

    def prepared(self) -> tuple[bytes, list[int]]:
        """What the predecessor is told then, with its descriptor."""
        hosts = [(host.local, host.advertised) for host in self._ports.hosts]
        assert self._ports.descriptor is not None
        return Prepared(ports=hosts).model_dump_json().encode(), [self._ports.descriptor]

    def wait_for_restored(self, seconds: float) -> None:
        """OperatorError says why a worker cannot go on for another one."""
        self._expect(RESTORED, seconds)

    def must_live(self) -> None:
        """OperatorError names a worker that does not any more."""
        for member, word in enumerate(self._words, 1):
            word.setblocking(False)
            with suppress(BlockingIOError):
                word.recv(1, socket.MSG_PEEK)
                raise OperatorError(f"worker {member} ended")

    def serve(self) -> None:
        """The word."""
        for word in self._words:
            with suppress(WireError):  # one that is gone is started again, as at any other time
                Wire(word).send(SERVING, seconds=_SAY_SECONDS)
        _close(self._words)
        self._pool.go_on()

    def _expect(self, wanted: str, seconds: float) -> None:
        for member, word in enumerate(self._words, 1):
            try:
                kind, body, _ = Wire(word).receive(seconds=seconds)
            except WireError as error:
                raise OperatorError(f"worker {member}: {error}") from None
            if kind == FAILED:
                raise OperatorError(f"worker {member}: {body.decode(errors='replace')}")
            if kind != wanted:
                raise OperatorError(f"worker {member} says {kind} where {wanted} is expected")


def _close(sockets: list[socket.socket]) -> None:
    while sockets:
        sockets.pop().close()
