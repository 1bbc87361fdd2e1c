"""AsWorker: a core that listens on what the supervisor gives it."""

from collections.abc import Iterable
from typing import Any

from turnrelay.core.allocation import Allocation
from turnrelay.settings import Settings
from turnrelay.transports.driver import Driver
from turnrelay.transports.listeners import Listeners
from turnrelay.workers.ledger import Bookkeeper
from turnrelay.workers.link import GivenListeners, SupervisorLink
from turnrelay.workers.place import Common, OneOfMany


class AsWorker(OneOfMany):
    """HTTP, the self-test and everything that a relay has once is the supervisor's."""

    def __init__(self, common: Common, member: int, link: SupervisorLink) -> None:
        super().__init__(common, member)
        self._link = link
        self._bookkeeper = Bookkeeper(common.ledger, member)

    def listeners(self, *arguments: Any) -> GivenListeners:
        return GivenListeners(*arguments, link=self._link)

    def connect(self, driver: Driver, listeners: Listeners) -> None:
        bookkeeper = self._bookkeeper
        driver.observe(lambda event: bookkeeper.observe(event, driver.clock()))
        self._link.on_letter = self.exchange(driver, listeners, self._link.post).receive

    def other_ports(self) -> set[int]:
        return self._link.own_ports

    def took_over(self, allocations: Iterable[Allocation]) -> None:
        for each in allocations:
            self._bookkeeper.enter(each.allocation_id, each.path, each.credential.account, each.created_at)

    def gave_up(self, allocations: Iterable[Allocation]) -> None:
        for each in allocations:
            self._bookkeeper.strike(each.allocation_id)


def settings_of_worker(settings: Settings) -> Settings:
    """The relay's settings without what the supervisor does."""
    limits = settings.limits.model_copy(update={"self_test_seconds": 0})
    return settings.model_copy(update={"http": None, "shared": [], "limits": limits})
