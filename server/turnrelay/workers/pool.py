"""Pool: the supervisor's workers, from their start to their end and back again."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import structlog

from turnrelay.policy.errors import OperatorError
from turnrelay.workers.channel import Channel
from turnrelay.workers.doors import Door
from turnrelay.workers.letters import Letter
from turnrelay.workers.messages import (
    Answer,
    Drain,
    Drained,
    Figures,
    GoOn,
    Message,
    Ready,
    Reload,
    Serve,
    Stop,
    Unfit,
)
from turnrelay.workers.nursery import Nursery
from turnrelay.workers.place import SUPERVISOR
from turnrelay.workers.questions import Questions
from turnrelay.workers.totals import Totals

_START_SECONDS = 60.0
_STOP_SECONDS = 4.0
_SILENT_SECONDS = 20.0
"""A worker that says nothing for so long, of twenty reports, hangs."""
_LATE_SECONDS = 3.0
_AWAY_SECONDS = 3.0
"""How long a worker may be away before the relay says that it is not ready."""
_LONG_LIFE_SECONDS = 5.0
_MOST_SOCKETS = 100
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class Worker:
    """One place among the workers; processes come and go in it."""

    def __init__(self, member: int) -> None:
        self.member = member
        self.channel: Channel | None = None
        self.ticket = 0
        """The nursery's, for the process that is in this place now."""
        self.is_ready = False
        self.is_drained = False
        self.is_doomed = False
        """Killed; the news of its end are on their way."""
        self.unfit = ""
        self.changed_at = 0.0
        """When it was started, became ready or ended."""
        self.heard_at = 0.0
        self.short_lives = 0


class Pool:
    """Starts workers, gives them their sockets, and starts one again that ends.

    What a worker held is given back only when its process is known to be gone: one whose channel broke is
    killed first.
    """

    def __init__(
        self,
        nursery: Nursery,
        workers: int,
        totals: Totals,
        forget: Callable[[int], None],
        doors: Callable[[], Sequence[Door]],
        own_ports: Callable[[], Iterable[int]],
        receive: Callable[[Letter, Sequence[int]], None],
        lost: Callable[[], None],
    ) -> None:
        """`forget` is told of a worker that ended, `doors` are what workers listen on, `own_ports` all that
        the relay serves; `receive` gets letters to the supervisor and owns their descriptors; `lost` is
        called when one is gone and none can be started any more."""
        self._loop = asyncio.get_running_loop()
        self._nursery = nursery
        self._totals = totals
        self._forget = forget
        self._doors = doors
        self._own_ports = own_ports
        self._letter_to_us = receive
        self._workers = [Worker(member) for member in range(1, workers + 1)]
        self._questions = Questions()
        self._log = structlog.get_logger()
        self._stopping = False
        self._all_ready: asyncio.Future[None] = self._loop.create_future()
        self._all_ready.add_done_callback(lambda ready: ready.exception())  # nobody may wait for it
        self._all_gone = asyncio.Event()
        self._draining = False
        self._all_drained = asyncio.Event()
        self._lost = lost
        self._is_lost = False
        self._watching: asyncio.Task[None] | None = None
        self._pauses: set[asyncio.TimerHandle] = set()

    @property
    def is_ready(self) -> bool:
        """Whether every worker serves, or was there a moment ago."""
        now = self._loop.time()
        return all(worker.is_ready or now - worker.changed_at < _AWAY_SECONDS for worker in self._workers)

    async def start(self) -> None:
        """Until all workers serve; OperatorError says why one cannot."""
        self.begin()
        await self.until_ready()
        self._watching = asyncio.create_task(self._watch())

    def begin(self, legacies: Mapping[int, Sequence[socket.socket | int]] = {}) -> None:
        """Starts the workers. One with a legacy, by its number, goes on for the worker of another relay."""
        self._nursery.watch(self._loop, self._exited, self._nursery_lost)
        for worker in self._workers:
            self._totals.add_worker(worker.member)
            self._fork(worker, legacies.get(worker.member, ()))

    async def until_ready(self) -> None:
        """Until all of them serve; OperatorError says why one cannot."""
        try:
            await asyncio.wait_for(asyncio.shield(self._all_ready), _START_SECONDS)
        except TimeoutError:
            raise OperatorError(f"the workers did not start in {_START_SECONDS:.0f} seconds") from None

    def go_on(self) -> None:
        """The workers have their legacies: one that ends from now on is started again."""
        if not self._all_ready.done():
            self._all_ready.set_result(None)
        for worker in self._workers:
            worker.heard_at = worker.changed_at = self._loop.time()
        self._watching = asyncio.create_task(self._watch())

    def channels(self) -> list[Channel]:
        """Those of all workers; OperatorError where one does not serve."""
        channels = [worker.channel for worker in self._workers if worker.channel and worker.is_ready]
        if len(channels) < len(self._workers):
            raise OperatorError("a worker is being started")
        return channels

    def tell(self, member: int, figures: list[list[Any]]) -> None:
        """What a worker counted, where it said so in another way."""
        self._totals.tell(member, figures)

    def serve(self, doors: Sequence[Door]) -> None:
        """Lets all workers listen on more, and know what is served."""
        for worker in self._workers:
            self._serve(worker, doors)

    async def ask(self, question: str, argument: Any) -> list[Any]:
        """The answers of the workers that serve."""
        channels = [worker.channel for worker in self._workers if worker.channel and worker.is_ready]
        return await self._questions.ask(channels, question, argument)

    def post(self, letter: Letter, sockets: Sequence[socket.socket]) -> None:
        """Sends a letter to a worker; it gets lost where there is none."""
        channel = self._workers[letter.to - 1].channel
        if channel is not None:
            channel.send(letter, sockets)

    def reload(self) -> None:
        for worker in self._workers:
            if worker.channel is not None:
                worker.channel.send(Reload())

    async def drain(self) -> None:
        """Until no worker has an allocation. One that ends meanwhile is not started again."""
        self._draining = True
        for worker in self._workers:
            if worker.channel is not None:
                worker.channel.send(Drain())
        self._note_the_end()
        await self._all_drained.wait()

    def let_go(self) -> None:
        """Another relay goes on. A worker that ends from now on is not started again."""
        self._draining = True

    async def linger(self) -> None:
        """Until no worker has a client that stayed when the others went to another relay."""
        self._note_the_end()
        await self._all_drained.wait()

    async def stop(self) -> None:
        """Ends all workers; one that does not listen is killed."""
        self._stopping = True
        if self._watching is not None:
            self._watching.cancel()
        for pause in self._pauses:
            pause.cancel()
        for worker in self._workers:
            if worker.channel is not None:
                worker.channel.send(Stop())
        self._note_the_end()
        try:
            await asyncio.wait_for(self._all_gone.wait(), _STOP_SECONDS)
        except TimeoutError:
            for worker in self._workers:
                self._kill(worker, worker.ticket)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), 1.0)
        self._nursery.close()

    # -- one worker -------------------------------------------------------------------------------------

    def _fork(self, worker: Worker, legacy: Sequence[socket.socket | int] = ()) -> None:
        if self._is_lost:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        worker.is_doomed = False
        worker.changed_at = worker.heard_at = self._loop.time()
        ticket = worker.ticket = self._nursery.fork(worker.member, theirs)
        worker.channel = Channel(
            self._loop,
            ours,
            lambda message, descriptors: self._receive(worker, message, descriptors),
            lambda: self._kill(worker, ticket),
        )
        if legacy:
            worker.channel.send(GoOn(), legacy)
        self._serve(worker, self._doors())

    def _serve(self, worker: Worker, doors: Sequence[Door]) -> None:
        if worker.channel is None:
            return
        own_ports, rest = sorted(self._own_ports()), iter(doors)
        is_told = False
        while (some := list(islice(rest, _MOST_SOCKETS))) or not is_told:
            is_told = True
            sockets: list[list[str | int]] = [[door.kind.value, door.host, door.port] for door in some]
            mine = [door.sockets[worker.member - 1] for door in some]
            worker.channel.send(Serve(sockets, own_ports), mine)

    def _receive(self, worker: Worker, message: Message, descriptors: list[int]) -> None:
        worker.heard_at = self._loop.time()
        if isinstance(message, Letter):
            self._deliver(message, descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        match message:
            case Ready(pid):
                worker.is_ready = self._totals.up[worker.member] = True
                worker.changed_at = worker.heard_at
                self._log.info("worker serves", worker=worker.member, pid=pid)
                if not self._all_ready.done() and all(each.is_ready for each in self._workers):
                    self._all_ready.set_result(None)
            case Drained():
                worker.is_drained = True
                self._note_the_end()
            case Unfit(reason):
                worker.unfit = reason
            case Figures(changed):
                self._totals.tell(worker.member, changed)
            case Answer(ticket, value):
                self._questions.answered(ticket, value)
            case _:
                self._kill(worker, worker.ticket)

    def _deliver(self, letter: Letter, descriptors: list[int]) -> None:
        if letter.to == SUPERVISOR:
            self._letter_to_us(letter, descriptors)
            return
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        self.post(letter, sockets)
        for sock in sockets:
            sock.close()

    def _kill(self, worker: Worker, ticket: int) -> None:
        if worker.channel is not None and worker.ticket == ticket and not worker.is_doomed:
            worker.is_doomed = True
            self._nursery.kill(ticket)

    def _exited(self, ticket: int, pid: int, status: int | None) -> None:
        [worker] = [worker for worker in self._workers if worker.ticket == ticket]
        member = worker.member
        if worker.channel is not None:
            # What it said last may still lie there.
            worker.channel.drain()
            worker.channel.close()
        now = self._loop.time()
        lived, was_ready = now - worker.changed_at, worker.is_ready
        worker.channel, worker.is_ready, worker.changed_at = None, False, now
        self._totals.up[member] = False
        self._totals.ended(member)
        self._forget(member)
        if self._stopping or self._draining:
            self._note_the_end()
            return
        if not self._all_ready.done():
            reason = worker.unfit or f"a worker ended as it started, with status {status}"
            self._all_ready.set_exception(OperatorError(reason))
            return
        self._log.error("worker ended", worker=member, pid=pid, status=status, reason=worker.unfit or None)
        worker.unfit = ""
        worker.short_lives = 0 if was_ready and lived > _LONG_LIFE_SECONDS else worker.short_lives + 1
        if self._is_lost:
            self._lost()
            return
        self._totals.restarts[member] += 1
        if worker.short_lives <= 1:
            self._fork(worker)
            return
        pause = min(_FIRST_PAUSE * 2 ** (worker.short_lives - 2), _LONGEST_PAUSE)
        self._pauses = {handle for handle in self._pauses if handle.when() > now and not handle.cancelled()}
        self._pauses.add(self._loop.call_later(pause, self._fork, worker))

    def _nursery_lost(self) -> None:
        self._log.error("the processes that start workers are gone, the workers that live go on")
        self._is_lost = True
        if not self._all_ready.done():
            self._all_ready.set_exception(OperatorError("the processes that start workers are gone"))
        elif any(worker.channel is None for worker in self._workers) and not self._draining:
            self._lost()

    def _note_the_end(self) -> None:
        if all(worker.channel is None for worker in self._workers):
            self._all_gone.set()
        if self._draining and all(worker.is_drained or worker.channel is None for worker in self._workers):
            self._all_drained.set()

    async def _watch(self) -> None:
        """Kills workers that hang."""
        while True:
            before = self._loop.time()
            await asyncio.sleep(1.0)
            now = self._loop.time()
            for worker in self._workers:
                if now - before > _LATE_SECONDS:
                    worker.heard_at = now  # it was the supervisor that hung, and has not listened yet
                silent = now - worker.heard_at
                if worker.channel is not None and not worker.is_doomed and silent > _SILENT_SECONDS:
                    self._log.error("worker hangs and is killed", worker=worker.member, silent=round(silent))
                    self._kill(worker, worker.ticket)
