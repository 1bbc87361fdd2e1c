"""The entries of the userspace flow table: one per granted permission and channel."""

from typing import TYPE_CHECKING

from turnrelay.core.addresses import ClientAddress, PeerAddress
from turnrelay.relay.plane import ClientLink

if TYPE_CHECKING:
    from turnrelay.relay.relay_socket import RelaySocket

SocketAddress = tuple[str, int] | tuple[str, int, int, int]


def socket_address(peer: PeerAddress) -> SocketAddress:
    """The form that the socket calls take and give: IPv6 addresses are four-tuples there."""
    return (peer.host, peer.port, 0, 0) if ":" in peer.host else (peer.host, peer.port)


def client_socket_address(client: ClientAddress) -> SocketAddress:
    """Likewise; the scope of a link-local address is part of it."""
    host, port = client
    if ":" not in host:
        return (host, port)
    host, _, scope = host.partition("%")
    return (host, port, 0, int(scope) if scope else 0)


class PermissionEntry:
    """A peer host that may send to the client."""

    __slots__ = ("expires_at",)

    def __init__(self, expires_at: float) -> None:
        self.expires_at = expires_at


class ChannelEntry:
    """A channel and its peer, ready to move packets both ways."""

    __slots__ = (
        "_sendto",
        "_traffic",
        "channel",
        "expires_at",
        "is_direct",
        "link",
        "peer",
        "peer_address",
        "relay",
        "to_relay_of_ours",
    )

    def __init__(
        self,
        relay: "RelaySocket",
        link: ClientLink,
        channel: int,
        peer: PeerAddress,
        to_relay_of_ours: bool,
        expires_at: float,
    ) -> None:
        self.relay = relay
        self.link = link
        self.channel = channel
        self.peer = peer
        self.peer_address = socket_address(peer)
        self.to_relay_of_ours = to_relay_of_ours
        self.expires_at = expires_at
        self.is_direct = not to_relay_of_ours and not relay.is_limited
        self._sendto = relay.sendto
        self._traffic = relay.own_traffic

    def forward(self, data: memoryview, now: float) -> None:
        """Client to peer."""
        if self.expires_at <= now:
            return
        # The usual packet takes as few steps as it can: each costs a good part of what its system call does.
        if not self.is_direct:
            if self.to_relay_of_ours:
                self.relay.hairpin(self.peer, data, now)
            else:
                self.relay.send(data, self.peer_address, now)
            return
        try:
            size = self._sendto(data, self.peer_address)
        except OSError as error:
            size = self.relay.send_after(error, data, self.peer_address)
            if size < 0:
                return
        traffic = self._traffic
        traffic.packets_to_peer += 1
        traffic.bytes_to_peer += size
