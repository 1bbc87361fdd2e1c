"""What an allocation was granted: permissions and channel bindings, and when to renew them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from stunwire import MAX_CHANNEL, MIN_CHANNEL, TransportAddress

# RFC 8656: a permission lasts 300 s (section 9), a channel binding 600 s (section 12), and neither its number
# nor its peer may be bound otherwise for another 300 s. Each is renewed a minute early, which leaves time for
# a whole series of retransmissions.
PERMISSION_LIFETIME = 300.0
CHANNEL_LIFETIME = 600.0
CHANNEL_REUSE_DELAY = 300.0
MARGIN = 60.0

# One request renews all the permissions that fall due soon.
_RENEW_TOGETHER = 45.0

_NEVER = float("inf")


class GrantState(Enum):
    """WANTED until a request for it leaves, ASKED until it is answered."""

    WANTED = auto()
    ASKED = auto()
    GRANTED = auto()
    REFUSED = auto()


@dataclass(slots=True)
class Permission:
    """Leave to exchange data with every port of one host."""

    host: str
    port: int = 0
    """One of the peer's. It does not count (RFC 8656 section 10.1), but some servers decide by it."""
    state: GrantState = GrantState.WANTED
    announced: bool = False
    renew_at: float = _NEVER

    def granted(self, asked_at: float) -> bool:
        """The server said yes to what was asked then; whether that is news."""
        news, self.announced = not self.announced, True
        self.state = GrantState.GRANTED
        self.renew_at = asked_at + PERMISSION_LIFETIME - MARGIN
        return news

    def refused(self) -> None:
        self.state, self.announced, self.renew_at = GrantState.REFUSED, False, _NEVER


@dataclass(slots=True)
class ChannelBinding:
    """A number that stands for a peer."""

    channel: int
    peer: TransportAddress
    state: GrantState = GrantState.WANTED
    announced: bool = False
    renew_at: float = _NEVER
    usable_until: float = 0.0
    forgotten: bool = False

    def granted(self, asked_at: float) -> bool:
        """The server said yes to what was asked then; whether that is news."""
        news, self.announced = not self.announced, True
        self.state = GrantState.GRANTED
        self.renew_at = _NEVER if self.forgotten else asked_at + CHANNEL_LIFETIME - MARGIN
        self.usable_until = asked_at + CHANNEL_LIFETIME
        return news

    def refused(self) -> None:
        # A refused renewal does not take away what was granted before, until it runs out.
        self.state, self.announced, self.renew_at = GrantState.REFUSED, False, _NEVER

    def carries(self, now: float) -> bool:
        """Whether data may be sent on it."""
        return now < self.usable_until

    def is_free_for_others(self, now: float) -> bool:
        idle = self.forgotten or self.state is GrantState.REFUSED
        return idle and now >= self.usable_until + CHANNEL_REUSE_DELAY


class Permissions:
    """The hosts that the caller wants to reach."""

    def __init__(self) -> None:
        self._by_host: dict[str, Permission] = {}

    def __contains__(self, host: str) -> bool:
        return host in self._by_host

    def get(self, host: str) -> Permission | None:
        return self._by_host.get(host)

    def want(self, host: str, port: int = 0) -> Permission:
        """The permission of `host`; one that was refused is wanted anew."""
        permission = self._by_host.setdefault(host, Permission(host))
        permission.port = port or permission.port
        if permission.state is GrantState.REFUSED:
            permission.state = GrantState.WANTED
        return permission

    def forget(self, host: str) -> None:
        self._by_host.pop(host, None)

    def wanted(self) -> list[Permission]:
        return [permission for permission in self._by_host.values() if permission.state is GrantState.WANTED]

    def due(self, now: float) -> list[Permission]:
        """Those to renew at `now`, and with them those that would be due shortly."""
        if self.next_renewal() > now:
            return []
        return [
            permission
            for permission in self._by_host.values()
            if permission.renew_at <= now + _RENEW_TOGETHER
        ]

    def next_renewal(self) -> float:
        return min((permission.renew_at for permission in self._by_host.values()), default=_NEVER)


class Channels:
    """The peers that the caller wants a channel for."""

    def __init__(self) -> None:
        self._by_peer: dict[TransportAddress, ChannelBinding] = {}
        self._by_channel: dict[int, ChannelBinding] = {}
        self._next = MIN_CHANNEL

    def of(self, peer: TransportAddress) -> ChannelBinding | None:
        return self._by_peer.get(peer)

    def peer_of(self, channel: int) -> TransportAddress | None:
        """Whose data it is. Also while the answer to ChannelBind is on its way: data may overtake it."""
        binding = self._by_channel.get(channel)
        return None if binding is None else binding.peer

    def want(self, peer: TransportAddress, now: float) -> ChannelBinding | None:
        """The binding of `peer`, with the number it had before; None when all 4096 are taken."""
        binding = self._by_peer.get(peer)
        if binding is None:
            channel = self._free_channel(now)
            if channel is None:
                return None
            binding = self._by_peer[peer] = self._by_channel[channel] = ChannelBinding(channel, peer)
        elif binding.state is GrantState.REFUSED or (binding.forgotten and not binding.carries(now)):
            binding.state, binding.announced = GrantState.WANTED, False
        elif binding.forgotten:
            binding.renew_at = now
        binding.forgotten = False
        return binding

    def forget(self, host: str) -> None:
        """Bindings to ports of `host` are not renewed any more. Number and peer stay together until freed."""
        for binding in self._by_peer.values():
            if binding.peer.host == host:
                binding.forgotten, binding.renew_at = True, _NEVER

    def wanted(self) -> list[ChannelBinding]:
        return [binding for binding in self._by_peer.values() if binding.state is GrantState.WANTED]

    def due(self, now: float) -> list[ChannelBinding]:
        return [binding for binding in self._by_peer.values() if binding.renew_at <= now]

    def next_renewal(self) -> float:
        return min((binding.renew_at for binding in self._by_peer.values()), default=_NEVER)

    def _free_channel(self, now: float) -> int | None:
        if self._next <= MAX_CHANNEL:
            self._next += 1
            return self._next - 1
        for binding in self._by_peer.values():
            if binding.is_free_for_others(now):
                del self._by_peer[binding.peer]
                del self._by_channel[binding.channel]
                return binding.channel
        return None


def hosts_of(peers: Iterable[str | tuple[str, int]]) -> dict[str, int]:
    """Hosts, each once, out of hosts and transport addresses, with a port of theirs: 0 for none named."""
    return dict((peer, 0) if isinstance(peer, str) else peer for peer in peers)
