"""A worker's process: its loop, what the supervisor wants of it, and its end."""

import asyncio
import gc
import os
import socket
from collections.abc import Callable, Coroutine
from functools import partial

import structlog

from turnrelay.app import Relay
from turnrelay.handover.wire import Wire, WireError
from turnrelay.handover.worker import Heir, write_down
from turnrelay.operator_side import make_desk
from turnrelay.policy.errors import OperatorError
from turnrelay.relay.hosts import RelayHostError
from turnrelay.relay.plane import RelayHost
from turnrelay.transports.listeners import ListenError
from turnrelay.workers.link import SupervisorLink
from turnrelay.workers.place import Common
from turnrelay.workers.ports import ports_of_others
from turnrelay.workers.worker import AsWorker, settings_of_worker


async def serve_as_worker(
    common: Common, member: int, channel: socket.socket, done: Callable[[int], None]
) -> None:
    """Until the supervisor says so, or is gone; it hears why a worker cannot serve. `done` is told the exit
    status."""
    link = SupervisorLink(channel)
    try:
        await link.wait_for_sockets()
        await _Worker(common, member, link).serve()
    except (OperatorError, RelayHostError, ListenError, OSError) as error:
        link.tell_unfit(str(error))
        done(1)
    else:
        done(0)


class _Worker:
    def __init__(self, common: Common, member: int, link: SupervisorLink) -> None:
        """OperatorError, RelayHostError or OSError says why it cannot serve."""
        self._link = link
        self._heir = None if link.legacy is None else Heir(link.legacy)
        self._place = AsWorker(common, member, link)
        try:
            self._relay = Relay(settings_of_worker(common.settings), self._place)
        except Exception as error:
            if self._heir is not None:
                self._heir.tell_failed(error)
            raise
        self._tasks: list[asyncio.Task[None]] = []

    async def serve(self) -> None:
        try:
            await self._serve()
        finally:
            await self._relay.stop()

    async def _serve(self) -> None:
        link, relay = self._link, self._relay
        link.on_sockets, link.on_reload = relay.look_around, relay.reload_certificate
        if self._heir is None:
            await relay.start()
            collect_garbage_rarely()
        else:
            await self._go_on(self._heir)
        link.on_question = make_desk(relay.parts()).answer
        link.on_drain = lambda: self._do(self._drain())
        link.on_hand_over = lambda hosts, files: self._do(self._hand_over(hosts, files))
        link.tell_ready()
        self._do(link.report(relay.registry))
        await link.stop.wait()
        for task in self._tasks:
            task.cancel()

    def _do(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _go_on(self, heir: Heir) -> None:
        collect_garbage_rarely()
        gc.disable()  # there is no garbage in what is restored, and packets wait
        try:
            await heir.receive(self._link.stop)
            await self._relay.start(partial(heir.go_on, self._relay.estate()))
        except BaseException as error:
            if heir.serves:
                raise
            heir.tell_failed(error)
            # Not by the end of the loop, which would read once more what the other worker is to read.
            os._exit(1)
        finally:
            gc.freeze()
            gc.enable()

    async def _drain(self) -> None:
        await self._relay.drain()
        self._link.tell_drained()

    async def _hand_over(self, hosts: list[list[str]], files: list[int]) -> None:
        word, wire, memory = files
        with socket.socket(fileno=word) as word_sock, socket.socket(fileno=wire) as wire_sock:
            try:
                is_gone = await write_down(self._relay.estate(), Wire(word_sock), Wire(wire_sock))
            except Exception as error:
                # There is no word, since the supervisor is gone, and nobody knows which relay serves; or what
                # the heir has was not let go of, which is a bug. Nothing may be read any more.
                if not isinstance(error, WireError):
                    structlog.get_logger().exception("bug in the hand-over", worker=self._place.member)
                os._exit(1)
        if is_gone:
            self._link.on_sockets = lambda: None
            ports = ports_of_others([RelayHost(local, advertised) for local, advertised in hosts], memory)
            self._place.neighbourhood.maps.append(ports)
        os.close(memory)
        if is_gone:
            structlog.get_logger().debug("worker handed over", worker=self._place.member)
            await self._relay.linger(None)
            self._link.tell_drained()


def collect_garbage_rarely() -> None:
    """A full collection looks at everything that sessions hold, and nothing is relayed meanwhile.

    The core makes no cycles, so there is little to find; what is there from the start stays to the end.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
