"""Attachments: on which devices the programs run, and in which mode."""

import ctypes
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from turnrelay.relay.kernel import syscall
from turnrelay.relay.kernel.errors import KernelPlaneUnavailable
from turnrelay.relay.kernel.interfaces import Interface, interfaces_of, shared_addresses
from turnrelay.relay.kernel.kernel_object import EGRESS, GENERIC, INGRESS, NATIVE, WATCH, KernelObject
from turnrelay.relay.kernel.layouts import HOP_TAKES_FRAMES, Link, LinkKey, Watch, link_key, packed_mac
from turnrelay.relay.kernel.netlink import XDP_BASIC, XDP_NDO_XMIT, xdp_features

MODES = ("native", "tcx", "generic")
"""In the order in which they are tried."""
_CHANNELS = 65_536
"""Room in the maps; what does not fit stays in userspace. Costs 10 MB, and 2 MB more for each CPU."""
_WATCHED = ctypes.c_uint32(0)
_XDP_FLAGS_SKB_MODE, _XDP_FLAGS_DRV_MODE = 2, 4


def attach_kernel_plane(
    addresses: Iterable[str], *, limited: bool, accounts: int = 0, given: "Iterable[GivenDevice]" = ()
) -> "Attachments":
    """The programs, running where these local addresses are; KernelPlaneUnavailable names what is missing.

    `limited` if there are bandwidth limits, which take room too; `accounts` is room beside that for buckets
    that several processes spend from. On devices that are `given` another process' programs run until
    `switch()`.
    """
    buckets = (2 * _CHANNELS if limited else 0) + accounts
    attachments = Attachments(KernelObject(_CHANNELS, buckets), given=given)
    attachments.follow(addresses)
    if not attachments.modes:
        reasons = attachments.refusals or ["no Ethernet interface has an address of the relay"]
        attachments.close()
        raise KernelPlaneUnavailable("; ".join(reasons))
    return attachments


class _ModeUnfit(Exception):
    """Why a device takes no program in this mode."""


@dataclass
class GivenDevice:
    """A device with another process' programs, and the descriptors of their links by program."""

    index: int
    mode: str
    links: dict[str, int]


@dataclass
class _Attached:
    interface: Interface
    mode: str
    links: dict[str, int]
    """The descriptor of each program's link."""
    keys: list[LinkKey]
    below: int | None = None
    """The device that takes this VLAN's packets."""


class Attachments:
    """Follows the devices of the relay's addresses. The kernel detaches everything when the process ends."""

    def __init__(
        self, kernel: KernelObject, modes: Iterable[str] = MODES, given: Iterable[GivenDevice] = ()
    ) -> None:
        self.kernel = kernel
        self._modes = tuple(modes)
        self._given = {device.index: device for device in given}
        self._to_switch: list[tuple[int, str, int]] = []
        """Device, program and link of those that run another process' programs yet."""
        self._attached: dict[int, _Attached] = {}
        self._refused: dict[int, str] = {}
        self._blind: set[int] = set()
        """Devices whose VLAN tags XDP was seen not to see. A restart forgets them."""
        self._shared: set[str] = set()
        """Addresses on several devices: what is sent to them is told apart by the way back alone."""
        self._log = structlog.get_logger()

    @property
    def modes(self) -> dict[str, str]:
        """The mode by the device's name."""
        return {attached.interface.name: attached.mode for attached in self._attached.values()}

    @property
    def devices(self) -> list[tuple[Interface, str, dict[str, int]]]:
        """Each with its mode and the descriptors of its links by program."""
        return [(each.interface, each.mode, each.links) for each in self._attached.values()]

    def switch(self) -> None:
        """Has the given devices run this process' programs, from one packet to the next."""
        for index, program, link in self._to_switch:
            try:
                syscall.update_link(link, self.kernel.programs[program])
            except OSError as error:
                self._log.error("kernel plane not taken over", device=index, error=error.strerror)
                self._detach(index)
        self._to_switch.clear()
        for device in self._given.values():
            _close_links(device.links)
        self._given.clear()

    @property
    def refusals(self) -> list[str]:
        """The devices that have no program, and why."""
        return list(self._refused.values())

    def follow(self, addresses: Iterable[str]) -> None:
        """Attaches to the devices that these addresses are on, and lets go of others and of changed ones."""
        present = {interface.index: interface for interface in interfaces_of(addresses)}
        self._notice_blind()
        self._notice_refusing()
        self._notice_shared(shared_addresses(present.values()))
        for index, attached in list(self._attached.items()):
            if present.get(index) != attached.interface or not _still_fit(attached):
                self._detach(index)
        for index in [index for index in self._refused if index not in present]:
            del self._refused[index]
        # A VLAN needs the program of the device below, so that comes first.
        for interface in sorted(present.values(), key=lambda interface: interface.below is not None):
            if interface.index not in self._attached:
                self._attach(interface)

    def close(self) -> None:
        """Lets go of the programs: they are gone when no other process holds their links."""
        while self._attached:
            _release(self._attached.popitem()[1])
        for device in self._given.values():
            _close_links(device.links)
        self._given.clear()
        self.kernel.close()

    def _notice_blind(self) -> None:
        seen = self.kernel.watched.get(_WATCHED)
        if seen is None or not seen.blind_ifindex:
            return
        self._blind.add(seen.blind_ifindex)
        self._detach(seen.blind_ifindex)
        # Until here every XDP program has passed on all that it saw.
        self.kernel.watched.set(_WATCHED, Watch())

    def _notice_refusing(self) -> None:
        """A device that refused frames has changed, or the way to it: nothing learned there holds."""
        seen = self.kernel.watched.get(_WATCHED)
        if seen is None or not seen.refusing_ifindex:
            return
        attached = self._attached.get(seen.refusing_ifindex)
        self._log.warning(
            "kernel plane lost packets that a device would not send",
            interface=str(seen.refusing_ifindex) if attached is None else attached.interface.name,
            since_start=self.kernel.refused(),
        )
        self.kernel.hops.zero(range(self.kernel.hops.max_entries))
        self.kernel.watched.set(_WATCHED, Watch(seen.blind_ifindex))

    def _notice_shared(self, shared: set[str]) -> None:
        if shared == self._shared:
            return
        self._shared = shared
        # They are attached anew, with the addresses that are each on one of them.
        for index in list(self._attached):
            self._detach(index)

    def _attach(self, interface: Interface) -> None:
        reasons: list[str] = []
        given = self._given.get(interface.index)
        # The mode that there is comes first: another one would be in its way.
        modes = self._modes if given is None else dict.fromkeys((given.mode, *self._modes))
        for mode in modes:
            # Below a VLAN only XDP is of use, which takes tags off and puts them on.
            if not interface.addresses and mode != "native":
                continue
            try:
                attached = self._try(interface, mode)
            except _ModeUnfit as reason:
                reasons.append(f"{mode}: {reason}")
                continue
            self._attached[interface.index] = attached
            self._refused.pop(interface.index, None)
            self._log.info(
                "kernel plane attached", interface=interface.name, mode=mode, instead_of=reasons or None
            )
            return
        refusal = f"{interface.name}: {', '.join(reasons)}"
        if self._refused.get(interface.index) == refusal:
            return
        self._refused[interface.index] = refusal
        if interface.addresses:
            self._log.warning("kernel plane not on this interface", interface=interface.name, reasons=reasons)

    def _try(self, interface: Interface, mode: str) -> _Attached:
        """Attached in that mode, or _ModeUnfit and nothing changed."""
        attached = _Attached(interface, mode, {}, [])
        try:
            # Learning comes first: without it no packet would ever be moved.
            self._link(attached, EGRESS, interface.index, syscall.ATTACH_TCX_EGRESS)
            if mode == "native":
                self._native(attached)
            elif mode == "tcx":
                self._link(attached, INGRESS, interface.index, syscall.ATTACH_TCX_INGRESS)
            else:
                self._xdp(attached, GENERIC, _XDP_FLAGS_SKB_MODE)
        except _ModeUnfit:
            self._keep(interface.index)
            _release(attached)
            raise
        features = xdp_features(attached.below or interface.index)
        link = Link(
            attached.below or interface.index,
            interface.vlan if attached.below else 0,
            interface.mtu,
            packed_mac(interface.mac),
            hop_flags=HOP_TAKES_FRAMES if features & XDP_NDO_XMIT else 0,
        )
        networks = [(interface.index, 0)]
        if attached.below:
            networks.append((attached.below, interface.vlan))
        for index, vlan in networks:
            attached.keys.append(LinkKey(index, vlan))
            attached.keys += [link_key(index, vlan, host) for host in interface.addresses - self._shared]
        for key in attached.keys:
            self.kernel.links.set(key, link)
        return attached

    def _native(self, attached: _Attached) -> None:
        interface = attached.interface
        if interface.below is not None:
            # The driver's program is that of the device below; it takes the tags off and puts them on.
            below = self._attached.get(interface.below)
            if below is None or below.mode != "native":
                reason = self._refused.get(interface.below, "no native program")
                raise _ModeUnfit(f"on the device below: {reason}")
            attached.below = interface.below
            return
        if interface.kind == "bond":
            raise _ModeUnfit("frames arrive on the devices that are bonded")
        if not xdp_features(interface.index) & XDP_BASIC:
            raise _ModeUnfit("the driver has no XDP")
        self._xdp(attached, NATIVE, _XDP_FLAGS_DRV_MODE)
        if not xdp_features(interface.index) & XDP_NDO_XMIT:
            raise _ModeUnfit(
                "the device loses frames that XDP sends; a veth takes them once its other end has GRO "
                "(ethtool -K OTHER_END gro on) or an XDP program"
            )

    def _xdp(self, attached: _Attached, program: str, flags: int) -> None:
        interface = attached.interface
        if interface.hides_tags or interface.index in self._blind:
            other_end = ", and txvlan off at the other end of the veth" if interface.kind == "veth" else ""
            raise _ModeUnfit(
                "VLAN tags are taken off before XDP sees them "
                f"(ethtool -K {interface.name} rxvlan off{other_end}, then restart)"
            )
        self._link(attached, WATCH, interface.index, syscall.ATTACH_TCX_INGRESS)
        self._link(attached, program, interface.index, syscall.ATTACH_XDP, flags)

    def _link(self, attached: _Attached, program: str, ifindex: int, kind: int, flags: int = 0) -> None:
        given = self._given.get(ifindex)
        if given is not None and program in given.links:
            attached.links[program] = link = given.links.pop(program)
            self._to_switch.append((ifindex, program, link))
            return
        try:
            attached.links[program] = syscall.create_link(self.kernel.programs[program], ifindex, kind, flags)
        except OSError as error:
            raise _ModeUnfit(f"{program} {error.strerror}") from error

    def _detach(self, index: int) -> None:
        attached = self._attached.pop(index, None)
        if attached is None:
            return  # a VLAN that went with its parent
        # VLANs that live on its program go with it; they are attached anew by the caller.
        for other in [other for other, vlan in self._attached.items() if vlan.below == index]:
            self._detach(other)
        for key in attached.keys:
            self.kernel.links.delete(key)
        # Ways that were learned there lead to where nobody listens any more, or with too large packets.
        self.kernel.hops.zero(range(self.kernel.hops.max_entries))
        self._keep(index)
        for link in attached.links.values():
            # Workers hold the descriptors that they were forked with, so closing one takes nothing off.
            with suppress(OSError):
                syscall.detach_link(link)
        _release(attached)

    def _keep(self, index: int) -> None:
        """Whatever runs on the device is not switched."""
        self._to_switch = [waiting for waiting in self._to_switch if waiting[0] != index]


def _still_fit(attached: _Attached) -> bool:
    """Whether frames are still taken: the other end of a veth can change its mind."""
    if attached.mode != "native":
        return True
    with suppress(OSError):
        return bool(xdp_features(attached.below or attached.interface.index) & XDP_NDO_XMIT)
    return False


def _release(attached: _Attached) -> None:
    _close_links(attached.links)


def _close_links(links: dict[str, int]) -> None:
    while links:
        os.close(links.popitem()[1])
