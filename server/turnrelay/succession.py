"""Succession: one process of a relay goes on for another, from both sides."""

import asyncio
import gc
import os
import sys
from contextlib import suppress

import structlog

from turnrelay import __version__
from turnrelay.app import Relay
from turnrelay.departure import Departure
from turnrelay.handover.predecessor import HandoverFailed, hand_over
from turnrelay.handover.successor import Successor
from turnrelay.pid_file import PidFile
from turnrelay.policy.errors import OperatorError
from turnrelay.settings import Settings
from turnrelay.transports.listeners import ListenError

_tasks: set["asyncio.Task[None]"] = set()
"""Those that nobody waits for; the loop alone would let go of them."""


async def take_over(relay: Relay, predecessor: Successor, settings: Settings) -> None:
    """Starts with everything that clients have in the process that ran before. Where it cannot, this process
    ends at once, and that one goes on."""
    estate = relay.estate()

    async def go_on() -> None:
        await predecessor.prepare_workers(estate)
        predecessor.wait_for_holdings()
        predecessor.restore(estate)
        predecessor.tell_serving()
        predecessor.switch_planes(estate)
        await predecessor.connect(estate)

    gc.disable()  # there is no garbage in what is restored, and packets wait
    try:
        predecessor.bind_the_rest(settings)
        await relay.start(go_on)
    except BaseException as error:
        # Not by the end of the loop, which would read once more what the predecessor is to read.
        is_told = isinstance(error, OperatorError | ListenError)
        reason = str(error) if is_told else f"cannot go on for the running relay: {error!r}"
        predecessor.tell_failed(reason)
        with suppress(OSError):
            print(f"turnrelay: {reason}", file=sys.stderr, flush=True)
        os._exit(1)
    finally:
        gc.enable()
    predecessor.close()
    task = asyncio.create_task(predecessor.follow_predecessor(estate))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    structlog.get_logger().info("relay took over", version=__version__)


class Succession:
    """Starts the next process when the operator asks for it, and makes room."""

    def __init__(self, relay: Relay, settings: Settings, departure: Departure) -> None:
        self._relay = relay
        self._settings = settings
        self._departure = departure
        self._pid_file: PidFile | None = None
        self._serves = asyncio.Event()
        self._upgrading: asyncio.Task[None] | None = None
        self._log = structlog.get_logger()

    def begin(self, pid_file: PidFile | None) -> None:
        """The relay serves, so another process may go on for it."""
        self._pid_file = pid_file
        self._serves.set()

    def upgrade(self) -> None:
        """Nothing where it is under way."""
        if self._upgrading is None:
            self._upgrading = asyncio.get_running_loop().create_task(self._upgrade())

    def close(self) -> None:
        if self._upgrading is not None:
            self._upgrading.cancel()

    async def _upgrade(self) -> None:
        await self._serves.wait()
        try:
            pid_file = None if self._pid_file is None else self._pid_file.descriptor
            done = await hand_over(self._relay.estate(), pid_file)
        except HandoverFailed as error:
            self._failed(str(error))
            return
        except Exception as error:
            self._failed(repr(error))
            self._log.exception("bug in the hand-over")
            return
        self._log.info(
            "handed over",
            to=done.pid,
            allocations=done.allocations,
            connections=done.connections,
            pause_ms=round(1000 * done.pause_seconds, 1),
            connections_left=self._relay.remaining,
        )
        await self._relay.linger(self._settings.upgrade_timeout)
        done.following.cancel()
        self._departure.stop()

    def _failed(self, reason: str) -> None:
        self._upgrading = None
        self._log.error("upgrade failed, this process goes on", reason=reason)
        if self._pid_file is not None:
            self._pid_file.tell(reason)
