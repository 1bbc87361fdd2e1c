"""LinkDriver: carries what one link says, and its clock, on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from peerpath.errors import PeerpathError
from peerpath.quic import LinkOutput, SecureLink, Transmit


class LinkDriver:
    """Calls `fill` before packets leave, so that what was written meanwhile leaves together.

    `outputs` gets everything but Transmit; `transmit` may fail, which a network does as well.
    """

    def __init__(
        self,
        link: SecureLink,
        transmit: Callable[[bytes], None],
        fill: Callable[[], float | None],
        outputs: Callable[[LinkOutput], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.link = link
        self._transmit = transmit
        self._fill = fill
        self._outputs = outputs
        self._loop = loop
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self.wake()

    def wake(self) -> None:
        """Something was written, or arrived: `fill` and flush before the loop sleeps again."""
        if self._soon is None and not self._stopped:
            self._soon = self._loop.call_soon(self._run)

    def receive(self, datagram: bytes) -> None:
        self.carry(self.link.receive(datagram, self._loop.time()))
        self.wake()

    def carry(self, outputs: Iterable[LinkOutput]) -> None:
        """Does what the link said."""
        for output in outputs:
            if self._stopped:
                return
            if isinstance(output, Transmit):
                try:
                    self._transmit(output.data)
                except (PeerpathError, OSError):
                    continue  # there is no path at the moment; QUIC sends again
            else:
                self._outputs(output)

    def stop(self) -> None:
        """Nothing leaves any more; the link is not closed by this."""
        self._stopped = True
        for each in (self._soon, self._timer):
            if each is not None:
                each.cancel()
        self._soon = self._timer = None

    def _run(self) -> None:
        self._soon = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        fill_again = self._fill()
        self.carry(self.link.handle_timeout(self._loop.time()))
        if self._stopped:
            return
        times = [time for time in (fill_again, self.link.next_deadline()) if time is not None]
        if not times or self._soon is not None:
            return
        if min(times) <= self._loop.time():
            self.wake()
        else:
            self._timer = self._loop.call_at(min(times), self._run)
