"""Watch: what the relay does to know of its own health, put together."""

import secrets
from collections.abc import Callable

from stunwire import AddressFamily

from turnrelay.core.events import AllocationCreated, AllocationEnded, Event
from turnrelay.observe.health import HealthMetrics
from turnrelay.observe.loop_lag import LoopLag
from turnrelay.observe.self_test import SelfTest

_Observer = Callable[[Event], None]


class Watch:
    """The self-test with a user of its own, and the event loop's lag."""

    def __init__(self, interval: float) -> None:
        """`interval` is the seconds between self-tests, 0 for none."""
        self._interval = interval
        self._lag: LoopLag | None = None
        self._test: SelfTest | None = None
        self._name, self._password = f"self-test-{secrets.token_hex(8)}", secrets.token_urlsafe(32)

    @property
    def user(self) -> tuple[str, str]:
        """Name and password of the self-test's user, who lives as long as the process."""
        return self._name, self._password

    def unseen(self, observe: _Observer) -> _Observer:
        """The observer without the self-test's own allocations, which are nobody's session."""

        def observe_others(event: Event) -> None:
            if isinstance(event, AllocationCreated | AllocationEnded) and event.account == self._name:
                return
            observe(event)

        return observe_others

    def start(
        self, metrics: HealthMetrics, target: tuple[str, int], families: frozenset[AddressFamily]
    ) -> None:
        """`target` is a listening address, `families` are those that the relay relays."""
        self._lag = LoopLag(metrics.loop_lag)
        self._lag.start()
        if self._interval:
            family = min(families)
            self._test = SelfTest(self.user, family, target, self._interval, metrics.self_test)
            self._test.start()

    async def stop(self) -> None:
        if self._lag is not None:
            self._lag.stop()
        if self._test is not None:
            await self._test.stop()
