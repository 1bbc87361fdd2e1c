"""The entries of the userspace flow table: one per granted permission and channel."""

from typing import TYPE_CHECKING

from turnrelay.core.addresses import ClientAddress, PeerAddress
from turnrelay.relay.plane import ClientLink
from turnrelay.relay.send_indications import PeerKey, peer_key

if TYPE_CHECKING:
    from turnrelay.relay.relay_socket import RelaySocket

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
_MOST_ADMITTED = 64
"""Ports of one host that a client may send to without asking the core."""


def socket_address(peer: PeerAddress) -> SocketAddress:
    """The form that the socket calls take and give: IPv6 addresses are four-tuples there."""
    return (peer.host, peer.port, 0, 0) if ":" in peer.host else peer


def host_address(host: str) -> SocketAddress:
    """Likewise for a host alone, with no port."""
    return (host, 0, 0, 0) if ":" in host else (host, 0)


def client_socket_address(client: ClientAddress) -> SocketAddress:
    """Likewise; the scope of a link-local address is part of it."""
    if ":" not in client.host:
        return client
    host, port = client
    host, _, scope = host.partition("%")
    return (host, port, 0, int(scope) if scope else 0)


class PermissionEntry:
    """A peer host that may send to the client, and the ports there that the client may send to unasked."""

    __slots__ = ("_admitted", "expires_at")

    def __init__(self, expires_at: float) -> None:
        self.expires_at = expires_at
        self._admitted: list[PeerKey] = []

    def admit(self, relay: "RelaySocket", link: ClientLink, peer: PeerAddress) -> bool:
        """The core let data of a Send indication pass to `peer`: so may what follows. False for a peer that
        is known, and for one too many, about which the core is asked each time."""
        key = peer_key(peer)
        if key in link.admitted or len(self._admitted) >= _MOST_ADMITTED:
            return False
        self._admitted.append(key)
        link.admitted[key] = AdmittedPeer(relay, self, peer)
        return True

    def forget_admitted(self, link: ClientLink) -> None:
        """The core is asked again."""
        for key in self._admitted:
            link.admitted.pop(key, None)
        self._admitted.clear()


class AdmittedPeer:
    """A peer that the client may send to by Send indications, for as long as its permission lives."""

    __slots__ = ("_peer", "_permission", "_relay")

    def __init__(self, relay: "RelaySocket", permission: PermissionEntry, peer: PeerAddress) -> None:
        self._relay = relay
        self._permission = permission
        self._peer = socket_address(peer)

    def forward(self, data: memoryview, now: float) -> None:
        """Client to peer."""
        if self._permission.expires_at > now:
            self._relay.send(data, self._peer, now)
        else:
            self._relay.count_drop("no_permission")


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
            self.relay.count_drop("no_permission")
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
