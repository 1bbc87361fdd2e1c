"""DataPath: what carries the relayed packets on this machine, of what the settings allow."""

import asyncio
import time
from collections.abc import Sequence

import structlog

from turnrelay.policy.errors import OperatorError
from turnrelay.relay.kernel.attachments import Attachments, GivenDevice, attach_kernel_plane
from turnrelay.relay.kernel.buckets import KernelBandwidth
from turnrelay.relay.kernel.errors import KernelPlaneUnavailable
from turnrelay.relay.kernel.plane import XdpPlane
from turnrelay.relay.mover import MoverUnavailable, PacketMover
from turnrelay.relay.plane import RelayHost
from turnrelay.relay.tcp_relays import TcpRelays
from turnrelay.relay.userspace import UserspacePlane
from turnrelay.settings import Settings
from turnrelay.transports.driver import Driver
from turnrelay.transports.interfaces import expand
from turnrelay.workers.kernel import account_buckets
from turnrelay.workers.place import SUPERVISOR, Alone


class DataPath:
    """The kernel's programs and the mover, which are there before the plane that uses them."""

    def __init__(self, settings: Settings, hosts: Sequence[RelayHost], place: Alone) -> None:
        """OperatorError where the settings demand what is not to be had. On the devices that the place was
        given another process' programs run."""
        self._settings = settings
        self._hosts = hosts
        self._place = place
        alone = settings.worker_processes == 1
        self.kernel = load_kernel_plane(settings, hosts, place.devices) if alone else None
        self._shared_kernel = place.kernel
        self.mover = self._make_mover()

    @property
    def plane_name(self) -> str:
        return "userspace" if self.kernel is None and self._shared_kernel is None else "xdp"

    @property
    def mover_name(self) -> str:
        return "python" if self.mover is None else "c"

    def make_plane(self, driver: Driver) -> UserspacePlane | XdpPlane:
        """The plane of this process, between the ports of its place and the driver."""
        place, bandwidth, kernel, share = self._place, self._place.bandwidth(), self.kernel, None
        if self._shared_kernel is not None:
            kernel, share = self._shared_kernel.attachments, self._shared_kernel.share(place.member)
        if kernel is not None:
            numbers = None if share is None else share.buckets
            bandwidth = KernelBandwidth(bandwidth, kernel.kernel.buckets, time.monotonic, numbers)
        loop, pools = asyncio.get_running_loop(), {host: place.port_pool(host) for host in self._hosts}
        tcp = None
        if self._settings.tcp_relay == "on":
            tcp = TcpRelays(loop, pools, bandwidth, time.monotonic, driver, place.neighbours)
            driver.use_tcp_relays(tcp)
        userspace = UserspacePlane(
            loop,
            self._hosts,
            pools.__getitem__,
            bandwidth,
            driver,
            time.monotonic,
            self.mover,
            place.neighbours,
            tcp,
        )
        return userspace if kernel is None else XdpPlane(kernel, userspace, share)

    @property
    def attachments(self) -> Attachments | None:
        """The kernel's programs, where this process attaches them."""
        if self._shared_kernel is not None and self._place.member == SUPERVISOR:
            return self._shared_kernel.attachments
        return self.kernel

    def follow_interfaces(self) -> None:
        """Has the kernel's programs where the addresses are now."""
        attachments = self.attachments
        if attachments is not None:
            attachments.follow(_addresses(self._settings, self._hosts))

    def close(self) -> None:
        attachments = self.attachments
        if attachments is not None:
            attachments.close()
        if self.mover is not None:
            self.mover.close()

    def _make_mover(self) -> PacketMover | None:
        """What moves packets in userspace besides Python, None for nothing."""
        if self._settings.mover == "python":
            return None
        try:
            loop, alone = asyncio.get_running_loop(), self.plane_name == "userspace"
            # What comes coalesced, the kernel's programs leave to this process.
            return PacketMover(loop, time.monotonic, may_take_trains=alone)
        except MoverUnavailable as reason:
            if self._settings.mover == "c":
                raise OperatorError(f"--mover c: {reason}") from reason
            structlog.get_logger().info("packets are moved by Python alone", reason=str(reason))
            return None


def load_kernel_plane(
    settings: Settings, hosts: Sequence[RelayHost], given: Sequence[GivenDevice] = ()
) -> Attachments | None:
    """The programs of the kernel plane on this machine's interfaces, None if userspace carries all.

    On the devices that are `given` another process' programs run. OperatorError where the settings demand
    what is not to be had.
    """
    if settings.plane == "userspace":
        return None
    limits = settings.limits
    limited = limits.bandwidth_per_allocation or limits.bandwidth_per_user
    try:
        return attach_kernel_plane(
            _addresses(settings, hosts),
            limited=bool(limited),
            accounts=account_buckets(settings, len(hosts)),
            given=given,
        )
    except KernelPlaneUnavailable as reason:
        if settings.plane == "xdp":
            raise OperatorError(f"--plane xdp: {reason}") from reason
        structlog.get_logger().info("userspace relays, the kernel plane is not to be had", reason=str(reason))
        return None


def _addresses(settings: Settings, hosts: Sequence[RelayHost]) -> list[str]:
    """Where packets of clients and peers come in."""
    return [*(host.local for host in hosts), *expand(settings.listen)]
