"""Supervisor: the process that owns the sockets, serves HTTP, and keeps the workers running."""

import socket
from collections.abc import Callable, Sequence
from typing import Any

from turnrelay.observe.metrics import Metrics
from turnrelay.transports.driver import Driver
from turnrelay.transports.listeners import Listeners
from turnrelay.workers.doors import Door, Doors
from turnrelay.workers.exchange import Exchange
from turnrelay.workers.letters import Letter
from turnrelay.workers.nursery import Nursery
from turnrelay.workers.place import SUPERVISOR, Common, OneOfMany
from turnrelay.workers.pool import Pool
from turnrelay.workers.totals import Totals


class Supervisor(OneOfMany):
    """Its own core serves those who come through HTTP: tunnels, and TURN on ports that HTTP shares."""

    def __init__(self, common: Common, nursery: Nursery, lost: Callable[[], None]) -> None:
        """`lost` is called when workers cannot be started any more."""
        super().__init__(common, SUPERVISOR)
        self._nursery = nursery
        self._lost = lost
        self._doors: Doors | None = None
        self._pool: Pool | None = None
        self._exchange: Exchange | None = None
        self._driver: Driver | None = None

    def listeners(self, *arguments: Any) -> Doors:
        legacy = self.common.legacy
        given = [] if legacy is None else legacy.doors
        self._doors = Doors(*arguments, workers=self.common.workers, given=given)
        self._doors.given_sockets = self.given
        return self._doors

    @property
    def doors(self) -> list[Door]:
        """What the workers listen on."""
        return [] if self._doors is None else self._doors.doors

    @property
    def pool(self) -> Pool:
        """Of the workers, once they were started."""
        assert self._pool is not None
        return self._pool

    def connect(self, driver: Driver, listeners: Listeners) -> None:
        self._exchange, self._driver = self.exchange(driver, listeners, self._post), driver

    @property
    def is_ready(self) -> bool:
        return self._pool is not None and self._pool.is_ready

    async def start_others(self, metrics: Metrics, own_ports: Callable[[], set[int]]) -> None:
        if self._pool is not None:
            self._pool.serve([])  # they go on for others, and are told now what else is served
            return
        await self.make_pool(metrics, own_ports).start()

    def make_pool(self, metrics: Metrics, own_ports: Callable[[], set[int]]) -> Pool:
        """The workers are in nobody's charge before; the metrics are of all of them from then on."""
        doors, exchange = self._doors, self._exchange
        assert doors is not None  # listeners() comes first
        assert exchange is not None  # so does connect()
        metrics.page = totals = Totals(metrics.registry)
        self._pool = pool = Pool(
            self._nursery,
            self.common.workers,
            totals,
            self._forget,
            lambda: doors.doors,
            own_ports,
            exchange.receive,
            self._lost,
        )
        doors.opened = pool.serve
        return pool

    def _forget(self, member: int) -> None:
        """A worker is gone; what it had no time to say of its allocations is said here."""
        self.common.forget(member)
        driver = self._driver
        assert driver is not None  # connect() comes first
        driver.carry_out(self.common.ledger.take(member, driver.clock()))

    def _post(self, letter: Letter, sockets: Sequence[socket.socket]) -> None:
        if self._pool is not None:
            self._pool.post(letter, sockets)

    async def ask_others(self, question: str, argument: Any) -> Sequence[Any]:
        return () if self._pool is None else await self._pool.ask(question, argument)

    def reload_others(self) -> None:
        if self._pool is not None:
            self._pool.reload()

    async def drain_others(self) -> None:
        if self._pool is not None:
            await self._pool.drain()

    async def linger_others(self) -> None:
        if self._pool is not None:
            await self._pool.linger()

    async def stop_others(self) -> None:
        if self._pool is not None:
            await self._pool.stop()
        else:
            self._nursery.close()
