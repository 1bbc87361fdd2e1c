"""Several ways to the same thing, tried side by side: the first that succeeds wins (after RFC 8305)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from peerpath.errors import PeerpathError
from peerpath.net.words import in_words

T = TypeVar("T")
Attempt = Callable[[], Awaitable[T]]


class AllFailed(PeerpathError):
    """No attempt succeeded. `failures` has the error of each, in the order in which they came."""

    def __init__(self, failures: Sequence[Exception]) -> None:
        reasons = dict.fromkeys(_words(failure) for failure in failures)
        super().__init__("; ".join(reasons) or "there was nothing to try")
        self.failures = tuple(failures)


def _words(failure: Exception) -> str:
    return in_words(failure) if isinstance(failure, OSError) else str(failure)


async def first_success(attempts: Sequence[Attempt[T]], *, stagger: float = 0.0) -> T:
    """The result of the first attempt that succeeds; the others are cancelled, and have ended on return.

    Each begins `stagger` seconds after the one before, or as soon as all that run have failed. An attempt
    fails by PeerpathError or OSError; any other exception is a bug, and ends the race.
    """
    waiting = deque(attempts)
    running: set[asyncio.Future[T]] = set()
    failures: list[Exception] = []
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(waiting.popleft()()))
            if waiting and stagger <= 0:
                continue
            finished: set[asyncio.Future[T]] = set()
            while not finished:
                patience = stagger if waiting else None
                finished, running = await asyncio.wait(
                    running, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                )
                if waiting and not finished:
                    break
            for attempt in finished:
                error = attempt.exception()
                if error is None:
                    return attempt.result()
                if not isinstance(error, PeerpathError | OSError):
                    raise error
                failures.append(error)
    finally:
        for attempt in running:
            attempt.cancel()
        if running:
            await asyncio.wait(running)
            for attempt in running:
                # Looked at, so that asyncio does not report an error that nobody waits for any more.
                if not attempt.cancelled():
                    attempt.exception()
    raise AllFailed(failures)
