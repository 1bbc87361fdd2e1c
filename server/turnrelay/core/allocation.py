"""What a client holds: Allocation, its permissions and ChannelBindings (RFC 8656 sections 3.2, 9, 12)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stunwire import AddressFamily, ErrorCode

from turnrelay.core.addresses import FiveTuple, PeerAddress, RelayedAddress, family_of
from turnrelay.core.deadlines import NEVER
from turnrelay.core.limits import CHANNEL_LIFETIME, CHANNEL_REUSE_DELAY, PERMISSION_LIFETIME, Limits
from turnrelay.core.outputs import ChannelFlow, Grant, Output, PermissionFlow, Revoke
from turnrelay.core.protocols import Credential, DenyRule, Lease
from turnrelay.core.refused import PeerRefused, Refused
from turnrelay.core.token_bucket import TokenBucket

PeerCheck = Callable[[PeerAddress], DenyRule | None]


@dataclass(slots=True)
class Relay:
    """One relayed address of an allocation with its own time-to-expiry: a dual one may end singly."""

    address: RelayedAddress
    expires_at: float


@dataclass(slots=True)
class ChannelBinding:
    """A channel number and a peer, bound to each other until `expires_at`, kept apart some time longer."""

    channel: int
    peer: PeerAddress
    expires_at: float
    bound: bool = True
    """False once expired: no data passes, but number and peer are not yet free for others."""


class Allocation:
    """The relayed addresses of one 5-tuple and everything that was granted on them."""

    __slots__ = (
        "allocation_id",
        "channels",
        "channels_by_peer",
        "connections",
        "created_at",
        "credential",
        "lease",
        "path",
        "permissions",
        "relays",
        "requests",
        "reservation_token",
        "tcp",
        "wake_at",
    )

    def __init__(
        self,
        allocation_id: str,
        path: FiveTuple,
        credential: Credential,
        relays: dict[AddressFamily, Relay],
        lease: Lease,
        limits: Limits,
        now: float,
        tcp: bool = False,
    ) -> None:
        self.allocation_id = allocation_id
        self.path = path
        self.credential = credential
        self.relays = relays
        self.lease = lease
        self.tcp = tcp
        """Whether it relays TCP connections (RFC 6062); then nothing passes by permission or channel."""
        self.connections: dict[PeerAddress, int] = {}
        """The CONNECTION-ID of each connection with a peer."""
        self.created_at = now
        self.permissions: dict[str, float] = {}
        """Peer host to the time at which its permission ends."""
        self.channels: dict[int, ChannelBinding] = {}
        self.channels_by_peer: dict[PeerAddress, ChannelBinding] = {}
        self.requests = TokenBucket(limits.requests_per_allocation, limits.requests_burst, now)
        self.wake_at = NEVER

    def relay_for(self, host: str) -> RelayedAddress:
        """The relayed address of the family of `host`; 443 if the allocation has none."""
        relay = self.relays.get(family_of(host))
        if relay is None:
            raise Refused(ErrorCode.PEER_ADDRESS_FAMILY_MISMATCH)
        return relay.address

    def permit(
        self,
        peers: Sequence[PeerAddress],
        check: PeerCheck,
        limits: Limits,
        now: float,
        binding: ChannelBinding | None = None,
    ) -> list[Output]:
        """Installs or refreshes a permission for each peer's host, all or none, and `binding` with it.

        This is the one door by which any peer may be reached: CreatePermission and ChannelBind pass here, and
        Connect, which grants nothing lasting, passes the part of it that is `admit`. 443 for a family that
        the allocation lacks, 403 (Forbidden) for a peer that policy denies, 508 when the allocation holds too
        many.
        """
        self.admit(peers, check)
        hosts = dict.fromkeys([peer.host for peer in peers])
        most = limits.permissions_per_allocation
        # Without looking which are new, where that many are allowed anyway.
        if len(self.permissions) + len(hosts) > most < len(self.permissions.keys() | hosts.keys()):
            raise Refused(ErrorCode.INSUFFICIENT_CAPACITY, "Too many permissions")
        if binding is not None:
            if binding.channel not in self.channels and len(self.channels) >= limits.channels_per_allocation:
                raise Refused(ErrorCode.INSUFFICIENT_CAPACITY, "Too many channels")
            self._record(binding, now)
        outputs: list[Output] = []
        for host in hosts:
            self.permissions[host] = now + PERMISSION_LIFETIME
            self._grant(host, check, outputs)
        return outputs

    def admit(self, peers: Sequence[PeerAddress], check: PeerCheck) -> None:
        """443 if any peer is of a family that the allocation lacks, 403 if policy denies any."""
        for peer in peers:
            self.relay_for(peer.host)
        for peer in peers:
            rule = check(peer)
            if rule is not None:
                raise PeerRefused(rule)

    def prolong(self, family: AddressFamily, expires_at: float, check: PeerCheck) -> list[Output]:
        """Sets the time-to-expiry of a relayed address, and grants again what would have ended with it."""
        relay = self.relays[family]
        before, relay.expires_at = relay.expires_at, expires_at
        outputs: list[Output] = []
        for host, permitted_until in self.permissions.items():
            if family_of(host) is family and permitted_until > min(before, expires_at):
                self._grant(host, check, outputs)
        return outputs

    def granted(self, check: PeerCheck) -> list[Output]:
        """Everything that is granted on it, once more: for a plane that knows nothing of it yet."""
        outputs: list[Output] = []
        for host in self.permissions:
            self._grant(host, check, outputs)
        return outputs

    def permits(self, peer: PeerAddress, now: float) -> bool:
        """Whether a live permission covers the peer's host (ports do not matter, RFC 8656 section 9)."""
        return self.permissions.get(peer.host, 0.0) > now

    def bind(
        self, channel: int, peer: PeerAddress, check: PeerCheck, limits: Limits, now: float
    ) -> list[Output]:
        """Binds `channel` to `peer` or refreshes the binding, with its permission (RFC 8656 section 12.2)."""
        binding = self.channels.get(channel)
        bound_elsewhere = self.channels_by_peer.get(peer)
        if binding is not None and binding.peer != peer:
            raise Refused(ErrorCode.BAD_REQUEST, "Channel is bound to another peer")
        if bound_elsewhere is not None and bound_elsewhere.channel != channel:
            raise Refused(ErrorCode.BAD_REQUEST, "Peer is bound to another channel")
        return self.permit([peer], check, limits, now, binding or ChannelBinding(channel, peer, NEVER))

    def sweep(self, now: float) -> list[Output]:
        """Ends the permissions and channel bindings that have expired."""
        outputs: list[Output] = []
        for host in [host for host, expires_at in self.permissions.items() if expires_at <= now]:
            del self.permissions[host]
            if self.tcp:
                continue
            outputs.append(Revoke(PermissionFlow(self.path, self.relay_for(host), host)))
            outputs += [Revoke(self._flow(binding)) for binding in self._bound_to(host)]
        for binding in list(self.channels.values()):
            if binding.expires_at + CHANNEL_REUSE_DELAY <= now:
                self._unbind(binding)
            elif binding.expires_at <= now and binding.bound:
                binding.bound = False
                outputs.append(Revoke(self._flow(binding)))
        return outputs

    def drop_family(self, family: AddressFamily) -> None:
        """Forgets one relayed address and everything granted on it."""
        del self.relays[family]
        for host in [host for host in self.permissions if family_of(host) is family]:
            del self.permissions[host]
        for binding in [b for b in self.channels.values() if family_of(b.peer.host) is family]:
            self._unbind(binding)

    def next_expiry(self) -> float:
        """The earliest moment at which `sweep` has something to do, or a relayed address expires.

        It is woken no later than that: whatever sets an expiry has it scheduled.
        """
        moments = [relay.expires_at for relay in self.relays.values()]
        moments += self.permissions.values()
        for binding in self.channels.values():
            moments.append(binding.expires_at + (0.0 if binding.bound else CHANNEL_REUSE_DELAY))
        return min(moments)

    def bound_channels(self) -> int:
        """How many channels are bound now; those kept apart for reuse are not counted."""
        return sum(binding.bound for binding in self.channels.values())

    def _grant(self, host: str, check: PeerCheck, outputs: list[Output]) -> None:
        """The flows of a permitted host. None outlives what it hangs on, so a stalled process fails closed.

        A channel moves data only while its peer is permitted, so it is granted with the permission; unless
        policy denies it by now, as it does a relayed address of ours that has ended.
        """
        if self.tcp:
            return  # the core itself is asked about each connection
        relay = self.relays[family_of(host)]
        expires_at = min(self.permissions[host], relay.expires_at)
        outputs.append(Grant(PermissionFlow(self.path, relay.address, host), expires_at))
        for binding in self._bound_to(host):
            if check(binding.peer) is None:
                flow = ChannelFlow(self.path, relay.address, binding.channel, binding.peer)
                outputs.append(Grant(flow, min(expires_at, binding.expires_at)))

    def _flow(self, binding: ChannelBinding) -> ChannelFlow:
        relay = self.relay_for(binding.peer.host)
        return ChannelFlow(self.path, relay, binding.channel, binding.peer)

    def _bound_to(self, host: str) -> list[ChannelBinding]:
        return [binding for binding in self.channels.values() if binding.bound and binding.peer.host == host]

    def _record(self, binding: ChannelBinding, now: float) -> None:
        self.channels[binding.channel] = self.channels_by_peer[binding.peer] = binding
        binding.expires_at = now + CHANNEL_LIFETIME
        binding.bound = True

    def _unbind(self, binding: ChannelBinding) -> None:
        del self.channels[binding.channel]
        del self.channels_by_peer[binding.peer]
