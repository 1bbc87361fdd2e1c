"""Watch: who is told what the core does, and what the relay does to know of its own health."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from stunwire import AddressFamily

from turnrelay import __version__
from turnrelay.core.events import AllocationCreated, AllocationEnded, Event
from turnrelay.observe.health import HealthMetrics
from turnrelay.observe.loop_lag import LoopLag
from turnrelay.observe.self_test import SelfTest
from turnrelay.policy.errors import OperatorError
from turnrelay.settings import Settings

if TYPE_CHECKING:
    from turnrelay.observe.spans import Spans

_Observer = Callable[[Event], None]
_FLUSH_SECONDS = 2.0


class Watch:
    """The self-test with a user of its own, the event loop's lag, and spans where they are asked for."""

    def __init__(self, settings: Settings, user: tuple[str, str]) -> None:
        """`user` is the self-test's, a name and a password that nobody else knows. OperatorError where spans
        are asked for and cannot be made."""
        self._interval = settings.limits.self_test_seconds
        self._lag: LoopLag | None = None
        self._test: SelfTest | None = None
        self._user = user
        self._spans = _spans(settings.otlp_endpoint)

    def observers(self, *observers: _Observer) -> list[_Observer]:
        """These and the spans. None sees the self-test's own allocations, which are nobody's session."""
        spans = [] if self._spans is None else [self._spans.observe]
        return [self._unseen((*observers, *spans))]

    def start(
        self, metrics: HealthMetrics, target: tuple[str, int], families: frozenset[AddressFamily]
    ) -> None:
        """`target` is a listening address, `families` are those that the relay relays."""
        self._lag = LoopLag(metrics.loop_lag)
        self._lag.start()
        if self._interval:
            family = min(families)
            self._test = SelfTest(self._user, family, target, self._interval, metrics.self_test)
            self._test.start()

    async def stop(self) -> None:
        """Before the listeners close."""
        if self._lag is not None:
            self._lag.stop()
        await self.stop_self_test()

    async def stop_self_test(self) -> None:
        """The relay asks itself for nothing any more, and what it holds is its clients' alone."""
        test, self._test = self._test, None
        if test is not None:
            await test.stop()

    async def flush(self) -> None:
        """After the last event: sends what is left, for a few seconds at most."""
        if self._spans is not None:
            await _within(_FLUSH_SECONDS, self._spans.close)

    def _unseen(self, observers: Sequence[_Observer]) -> _Observer:
        def observe_others(event: Event) -> None:
            if isinstance(event, (AllocationCreated, AllocationEnded)) and event.account == self._user[0]:
                return
            for observe in observers:
                observe(event)

        return observe_others


async def _within(seconds: float, work: Callable[[], None]) -> None:
    """Waits for blocking work so long and no longer.

    In no thread of the loop's executor, whose end would be waited for, however long it takes.
    """
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        work()
        with suppress(RuntimeError):  # the loop has gone on without it, and is closed
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await done.wait()


def _spans(endpoint: str | None) -> "Spans | None":
    if endpoint is None:
        return None
    try:
        from turnrelay.observe.spans import Spans  # late: an extra
    except ImportError:
        raise OperatorError(
            "otlp_endpoint is set, and OpenTelemetry is not installed: install turnrelay with its extra otel "
            "(docs/logs.md says how)"
        ) from None
    return Spans(endpoint, __version__)
