"""Place: what a core is given to stand alone, or to be one of several that make up a relay.

What several share is made before they are forked: memory for limits and ports, keys, the self-test's user.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from turnrelay.core.addresses import RelayedAddress
from turnrelay.core.allocation import Allocation
from turnrelay.core.protocols import OneProcess, Processes, Quotas
from turnrelay.observe.metrics import Metrics
from turnrelay.policy.bandwidth import BandwidthLimits
from turnrelay.policy.connection_limits import ConnectionLimits
from turnrelay.policy.quotas import AllocationQuotas
from turnrelay.policy.rate_limits import SLOTS, PrefixRateLimit
from turnrelay.relay.hosts import relay_hosts
from turnrelay.relay.kernel.attachments import Attachments, GivenDevice
from turnrelay.relay.plane import BandwidthPolicy, Neighbours, RelayHost
from turnrelay.relay.ports import PortPool
from turnrelay.settings import Settings
from turnrelay.transports.driver import Driver
from turnrelay.transports.given_sockets import GivenSockets
from turnrelay.transports.listeners import Listeners
from turnrelay.workers.bandwidth import SharedBuckets, WholeBandwidth
from turnrelay.workers.doors import Door
from turnrelay.workers.exchange import Exchange, Post
from turnrelay.workers.holdings import SharedCounts
from turnrelay.workers.kernel import KernelBuckets, SharedKernel, account_buckets
from turnrelay.workers.ledger import Ledger
from turnrelay.workers.limits import WholeConnectionLimits, WholeQuotas, take_over_allocation
from turnrelay.workers.memory import SharedMemory
from turnrelay.workers.ports import Neighbourhood, PortMap, SharedPortPool

SUPERVISOR = 0
"""The supervisor's own number; workers are numbered from 1."""

_MOST_CONNECTIONS = 1_000_000


def _self_test_user() -> tuple[str, str]:
    return f"self-test-{secrets.token_hex(8)}", secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Legacy:
    """What a process that goes on for another one is made with."""

    nonce_keys: list[bytes]
    self_test_user: tuple[str, str]
    given: GivenSockets
    devices: list[GivenDevice]
    """On which the other one's programs of the kernel plane run."""
    doors: list[Door]
    """What its workers listen on."""
    ports: PortMap | None
    """Its own, where it has several processes."""


class Alone:
    """A relay of one process; and what every process of a relay of several has of its own way."""

    def __init__(self, settings: Settings, legacy: Legacy | None = None) -> None:
        self._settings = settings
        self.member = SUPERVISOR
        self.processes: Processes = OneProcess()
        self.kernel: SharedKernel | None = None
        """The kernel plane, where it is there already."""
        self.neighbours: Neighbours | None = None
        self.nonce_keys = [secrets.token_bytes(32)] if legacy is None else legacy.nonce_keys
        self.self_test_user = _self_test_user() if legacy is None else legacy.self_test_user
        self.given = GivenSockets() if legacy is None else legacy.given
        self.devices: list[GivenDevice] = [] if legacy is None else legacy.devices

    # -- what it listens on, and with whom --------------------------------------------------------------

    def listeners(self, *arguments: Any) -> Listeners:
        """The listeners of this process; the arguments are theirs."""
        listeners = Listeners(*arguments)
        listeners.given_sockets = self.given
        return listeners

    def other_ports(self) -> set[int]:
        """Ports that other processes of the relay serve."""
        return set()

    def connect(self, driver: Driver, listeners: Listeners) -> None:
        """From now on what comes from other processes is carried out here, and what they are told leaves."""

    @property
    def is_ready(self) -> bool:
        """Whether the other processes are."""
        return True

    async def start_others(self, metrics: Metrics, own_ports: Callable[[], set[int]]) -> None:
        """Starts the other processes; OperatorError says why one cannot serve."""

    async def ask_others(self, question: str, argument: Any) -> Sequence[Any]:
        """What the desks of the other processes say."""
        return ()

    def reload_others(self) -> None:
        """They are to read the certificate again, too."""

    async def drain_others(self) -> None:
        """They are to make no new allocations, either; returns when none of them has any."""

    async def linger_others(self) -> None:
        """Another relay goes on; returns when none of them has a client that stayed."""

    async def stop_others(self) -> None:
        """Ends them."""

    # -- what it has of other processes, or they of it --------------------------------------------------

    def took_over(self, allocations: Iterable[Allocation]) -> None:
        """These live here now."""

    def gave_up(self, allocations: Iterable[Allocation]) -> None:
        """These live elsewhere now."""

    # -- policy -----------------------------------------------------------------------------------------

    def quotas(self, total: int) -> Quotas:
        limits = self._settings.limits
        return AllocationQuotas(
            per_user=limits.allocations_per_user, per_prefix=limits.allocations_per_prefix, total=total
        )

    def rate_limit(self) -> PrefixRateLimit:
        """Of answers to those who have not authenticated."""
        limits = self._settings.limits
        return PrefixRateLimit(
            limits.unauthenticated_per_prefix_per_second, limits.unauthenticated_per_prefix_burst
        )

    def connection_limits(self) -> ConnectionLimits:
        limits = self._settings.limits
        return ConnectionLimits(limits.tcp_connections_total, limits.tcp_connections_per_prefix)

    def bandwidth(self) -> BandwidthPolicy:
        limits = self._settings.limits
        return BandwidthLimits(
            limits.bandwidth_per_allocation, limits.bandwidth_per_user, limits.bandwidth_burst_seconds
        )

    def port_pool(self, host: RelayHost) -> PortPool:
        return PortPool(self._settings.min_port, self._settings.max_port)


class Common:
    """What the processes of a relay share. Made before the first of them is forked."""

    def __init__(
        self, settings: Settings, workers: int, kernel: Attachments | None, legacy: Legacy | None = None
    ) -> None:
        """`settings.relay_ip` names the relay addresses; `kernel` are the programs of the kernel plane."""
        limits = settings.limits
        hosts = relay_hosts(settings.relay_ip, [str(mapping) for mapping in settings.external_ip])
        allocations = settings.allocations_total(len(hosts))
        connections = min(limits.tcp_connections_total, _MOST_CONNECTIONS)
        self.settings = settings
        self.workers = workers
        self.members = workers + 1
        self.legacy = legacy
        self.nonce_keys = [secrets.token_bytes(32)] if legacy is None else legacy.nonce_keys
        self.self_test_user = _self_test_user() if legacy is None else legacy.self_test_user
        self.allocations = SharedCounts(self.members, 2 * allocations + 1)
        self.connections = SharedCounts(self.members, connections + 1)
        make_buckets: Callable[..., SharedBuckets] = SharedBuckets
        if kernel is not None and limits.bandwidth_per_user:
            make_buckets = partial(KernelBuckets, kernel.kernel.buckets)
        self.buckets = make_buckets(
            self.members,
            allocations,
            limits.bandwidth_per_user,
            limits.bandwidth_burst_seconds,
            time.monotonic,
        )
        accounts = account_buckets(settings, len(hosts))
        self.kernel = None if kernel is None else SharedKernel(kernel, workers, accounts)
        self.rates = SharedMemory(8 * 2 * SLOTS).as_doubles()
        self.rates_key = secrets.token_bytes(16)
        self.ports = PortMap(hosts)
        self.ledger = Ledger(self.members, allocations)

    def forget(self, member: int) -> None:
        """The process is gone: what it held is everybody's again."""
        self.allocations.forget(member)
        self.connections.forget(member)
        with self.buckets.lock:
            self.buckets.forget(member)
        self.ports.forget(member)
        if self.kernel is not None:
            self.kernel.forget(member)


class OneOfMany(Alone):
    """A process of a relay of several. Each has a number."""

    def __init__(self, common: Common, member: int) -> None:
        super().__init__(common.settings)
        self.common = common
        if common.legacy is not None and member == SUPERVISOR:
            self.given = common.legacy.given
        self.member = common.ports.member = member
        self.nonce_keys, self.self_test_user = common.nonce_keys, common.self_test_user
        self.neighbourhood = self.neighbours = Neighbourhood(common.ports)
        if common.legacy is not None and common.legacy.ports is not None:
            self.neighbourhood.maps.append(common.legacy.ports)
        self.kernel = common.kernel
        self.processes = _Processes(member, common.members, self.neighbourhood)

    def exchange(self, driver: Driver, listeners: Listeners, post: Post) -> Exchange:
        """What carries to the other processes for the driver, by `post`, and receives for it."""
        lease = partial(take_over_allocation, self.common.allocations, self.member)
        exchange = Exchange(self.member, driver, listeners, lease, post)
        driver.use_others(exchange)
        return exchange

    def quotas(self, total: int) -> Quotas:
        limits = self._settings.limits
        return WholeQuotas(
            self.common.allocations,
            self.member,
            per_user=limits.allocations_per_user,
            per_prefix=limits.allocations_per_prefix,
            total=total,
        )

    def rate_limit(self) -> PrefixRateLimit:
        limits = self._settings.limits
        return PrefixRateLimit(
            limits.unauthenticated_per_prefix_per_second,
            limits.unauthenticated_per_prefix_burst,
            key=self.common.rates_key,
            memory=self.common.rates,
        )

    def connection_limits(self) -> ConnectionLimits:
        limits = self._settings.limits
        return WholeConnectionLimits(
            self.common.connections,
            self.member,
            limits.tcp_connections_total,
            limits.tcp_connections_per_prefix,
        )

    def bandwidth(self) -> BandwidthPolicy:
        limits = self._settings.limits
        return WholeBandwidth(
            self.common.buckets, self.member, limits.bandwidth_per_allocation, limits.bandwidth_burst_seconds
        )

    def port_pool(self, host: RelayHost) -> PortPool:
        settings = self._settings
        return SharedPortPool(
            self.common.ports, host, settings.min_port, settings.max_port, self.common.members
        )


class _Processes:
    """This process among the others (`core.protocols.Processes`)."""

    def __init__(self, member: int, members: int, neighbourhood: Neighbourhood) -> None:
        self.member = member
        self._members = members
        self._neighbourhood = neighbourhood

    def has_other(self, member: int) -> bool:
        return member != self.member and member < self._members

    def other_has(self, relay: RelayedAddress, *, tcp: bool) -> bool:
        return self._neighbourhood.reach(relay, tcp=tcp) is not None
