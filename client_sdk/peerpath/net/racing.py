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


async def first_success(
    attempts: Sequence[Attempt[T]],
    *,
    stagger: float = 0.0,
    discard: Callable[[T], object] | None = None,
) -> T:
    """The result of the first attempt that succeeds; the others are cancelled, and have ended on return.

    Each begins `stagger` seconds after the one before, or as soon as all that run have failed. An attempt
    fails by PeerpathError or OSError; any other exception is a bug, and ends the race. `discard` gets every
    result that is not returned: two may come at the same moment, or one when nobody waits any more.
    """
    begun: list[asyncio.Future[T]] = []
    winner: asyncio.Future[T] | None = None
    try:
        winner = await _winner_of(attempts, stagger, begun)
        await _end([attempt for attempt in begun if attempt is not winner])
    except BaseException:
        winner = None
        await _end(begun)
        raise
    finally:
        for attempt in begun:
            if attempt is not winner and _has_succeeded(attempt) and discard is not None:
                discard(attempt.result())
    return winner.result()


async def _winner_of(
    attempts: Sequence[Attempt[T]], stagger: float, begun: list[asyncio.Future[T]]
) -> asyncio.Future[T]:
    """The first that succeeds; AllFailed. Whatever was begun is in `begun`."""
    waiting = deque(attempts)
    running: set[asyncio.Future[T]] = set()
    failures: list[Exception] = []
    while waiting or running:
        if waiting:
            begun.append(asyncio.ensure_future(waiting.popleft()()))
            running.add(begun[-1])
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
                return attempt
            if not isinstance(error, PeerpathError | OSError):
                raise error
            failures.append(error)
    raise AllFailed(failures)


async def _end(attempts: Sequence[asyncio.Future[T]]) -> None:
    for attempt in attempts:
        attempt.cancel()
    if attempts:
        await asyncio.wait(attempts)


def _has_succeeded(attempt: asyncio.Future[T]) -> bool:
    # Looked at, so that asyncio does not report an error that nobody waits for any more.
    return attempt.done() and not attempt.cancelled() and attempt.exception() is None
