"""RelaySocket: one relayed address in userspace, and the packets that pass through it."""

import os
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import replace
from errno import EMSGSIZE
from typing import TYPE_CHECKING

from stunwire import (
    ICMP,
    XOR_PEER_ADDRESS,
    IcmpValue,
    Message,
    MessageClass,
    Method,
    TransportAddress,
)

from turnrelay.core.addresses import PeerAddress, RelayedAddress
from turnrelay.core.token_bucket import TokenBucket
from turnrelay.relay.flows import ChannelEntry, PermissionEntry, SocketAddress, socket_address
from turnrelay.relay.icmp import ask_for_errors, queued_errors
from turnrelay.relay.plane import Bandwidth, ClientLink, Traffic
from turnrelay.relay.receive_drops import receive_drops

if TYPE_CHECKING:
    from turnrelay.relay.userspace import UserspacePlane

HEADROOM = 64
"""Bytes before a received payload, so that a header is written in front of it and nothing is copied."""
BATCH = 32
"""Packets read from one socket before the others have their turn."""
_BURST_SECONDS = 0.0002
"""A socket that has something to read again after so little time probably has more."""

_MOST_TRIES = 8
"""To send a packet that meets errors."""

_CHANNEL_HEADER = struct.Struct("!HH")
_DATA_HEADER = struct.Struct("!HH")
_DATA_TYPE = 0x0013
_LENGTH = struct.Struct("!H")
_LENGTH_OFFSET = 2
_HEADER_BYTES = 20
_MOST_ATTRIBUTES = 0xFFFC
"""Bytes of attributes in one message: what 16 bits of length can say, in multiples of four."""


class RelaySocket:
    """A bound UDP socket with the permissions and channels on it.

    Sockets are raw and non-blocking: asyncio's datagram protocol allocates several objects per packet.
    """

    __slots__ = (
        "_bandwidth",
        "_buckets",
        "_plane",
        "_read_at",
        "_sock",
        "account",
        "advertised",
        "channels",
        "earlier_drops",
        "earlier_traffic",
        "link",
        "number",
        "own_traffic",
        "permissions",
        "sendto",
    )

    def __init__(
        self,
        plane: "UserspacePlane",
        sock: socket.socket,
        advertised: RelayedAddress,
        account: str,
        bandwidth: Bandwidth,
    ) -> None:
        self._plane = plane
        self._sock = sock
        self.sendto = sock.sendto
        self._read_at = float("-inf")
        self.advertised = advertised
        self.account = account
        """Whose bandwidth it spends."""
        self._bandwidth = bandwidth
        self._buckets = tuple([bucket for bucket in (bandwidth.allocation, bandwidth.account) if bucket])
        self.permissions: dict[str, PermissionEntry] = {}
        self.channels: dict[SocketAddress, ChannelEntry] = {}
        self.link: ClientLink | None = None
        self.own_traffic = Traffic()
        """What this process moved in Python."""
        self.earlier_traffic = Traffic()
        """What the process moved that had it open before; it counts for this address and in no total."""
        self.earlier_drops = 0
        """What the kernel dropped while that process had it, which counted it."""
        self.number: int | None = None
        """Of this socket in the plane's mover."""

    @property
    def sock(self) -> socket.socket:
        return self._sock

    def receive_drops(self) -> int:
        """Packets that the kernel dropped since this process has it."""
        return receive_drops(self._sock) - self.earlier_drops

    @property
    def is_limited(self) -> bool:
        """Whether a packet has to be paid for."""
        return bool(self._buckets)

    @property
    def bandwidth(self) -> Bandwidth:
        return self._bandwidth

    @property
    def buckets(self) -> tuple[TokenBucket, ...]:
        """What each packet is paid from, in this order."""
        return self._buckets

    @property
    def traffic(self) -> Traffic:
        """What was relayed so far."""
        own, mover = self.own_traffic, self._plane.mover
        if mover is None or self.number is None:
            return replace(own)
        moved = mover.traffic(self.number)
        return Traffic(
            own.packets_to_peer + moved.packets_to_peer,
            own.bytes_to_peer + moved.bytes_to_peer,
            own.packets_from_peer + moved.packets_from_peer,
            own.bytes_from_peer + moved.bytes_from_peer,
        )

    def readable(self) -> None:
        """Moves what peers have sent, at most a batch."""
        plane = self._plane
        recvfrom_into, window, now = self._sock.recvfrom_into, plane.window, plane.clock()
        # Asking an empty socket costs a system call and an exception: one that was silent is asked once.
        batch = BATCH if now - self._read_at < _BURST_SECONDS else 1
        self._read_at = now
        for count in range(batch):
            try:
                size, source = recvfrom_into(window)
            except OSError as error:
                # Nothing to read at the first try means that the error queue woke us.
                if not isinstance(error, BlockingIOError) or not count:
                    self.report_errors()
                return
            self.deliver(source, size, now)

    def receive(self, data: bytes, source: SocketAddress) -> None:
        """A packet that belongs to none of the mover's flows."""
        plane, size = self._plane, len(data)
        plane.window[:size] = data
        self.deliver(source, size, plane.clock())

    def not_sent(self, error: int, data: bytes, peer: SocketAddress) -> None:
        """A packet that the mover could not send, with the errno."""
        if self._plane.relays.get(self.advertised) is self and (
            self.send_after(OSError(error, os.strerror(error)), data, peer) >= 0
        ):
            self._count_to_peer(len(data))

    def deliver(self, source: SocketAddress, size: int, now: float) -> None:
        """Peer to client: the payload lies in the plane's buffer behind HEADROOM (RFC 8656 section 11.3)."""
        plane = self._plane
        entry = self.channels.get(source)
        if entry is None:
            source = plane.as_peer(source)
            entry = self.channels.get(source)
        if entry is not None and entry.expires_at > now:
            _CHANNEL_HEADER.pack_into(plane.buffer, HEADROOM - 4, entry.channel, size)
            link = entry.link
            frame = plane.channel_frame(plane.pad(HEADROOM + size) - HEADROOM if link.padded else size)
        else:
            permission = self.permissions.get(source[0])
            if permission is None or permission.expires_at <= now:
                plane.count_drop("no_permission")
                return
            if self.link is None:
                return
            start, end = self._write_data_indication(source, size)
            if end - start - _HEADER_BYTES > _MOST_ATTRIBUTES:
                plane.count_drop("too_large")
                return
            link = self.link
            frame = plane.view[start:end]
        if self._buckets and not self._spend(size, now):
            return
        try:
            link.sendto(frame, link.address)
        except BlockingIOError:
            plane.count_drop("client_congested")
            return
        except OSError:
            plane.count_drop("client_unreachable")
            return
        traffic = self.own_traffic
        traffic.packets_from_peer += 1
        traffic.bytes_from_peer += size

    def send(self, data: memoryview | bytes, peer: SocketAddress, now: float) -> None:
        """Client to peer."""
        size = len(data)
        if self._buckets and not self._spend(size, now):
            return
        try:
            self.sendto(data, peer)
        except OSError as error:
            if self.send_after(error, data, peer) < 0:
                return
        self._count_to_peer(size)

    def send_after(self, error: OSError, data: memoryview | bytes, peer: SocketAddress) -> int:
        """Sends what did not go at first. Returns its size, -1 for a packet that is given up."""
        if isinstance(error, BlockingIOError):
            self._plane.count_drop("peer_congested")
            return -1
        # Perhaps the ICMP error of an earlier packet, perhaps to another peer: this one is not to blame.
        # Each that comes meanwhile fails one try.
        self.report_errors()
        for _ in range(_MOST_TRIES):
            try:
                return self.sendto(data, peer)
            except BlockingIOError:
                self._plane.count_drop("peer_congested")
                return -1
            except OSError as again:
                error = again
        self.report_errors()
        self._plane.count_drop("too_large" if error.errno == EMSGSIZE else "peer_unreachable")
        return -1

    def send_unfragmented(self, data: bytes, peer: SocketAddress, now: float) -> None:
        """Client to peer with DF set (RFC 8656 section 14); for the rare Send indication that asks for it."""
        level, option, usual = _IPV6_FRAGMENTATION if len(peer) == 4 else _IPV4_FRAGMENTATION
        self._sock.setsockopt(level, option, _PMTUDISC_DO)
        try:
            self.send(data, peer, now)
        finally:
            self._sock.setsockopt(level, option, usual)

    def hairpin(self, peer: PeerAddress, data: memoryview | bytes, now: float) -> None:
        """Client to a relayed address of this server: straight into the other allocation.

        Only relayed addresses that are in use are reached this way, never other ports of the machine.
        """
        plane, size = self._plane, len(data)
        target = plane.relays.get(RelayedAddress(peer))
        if target is None:
            elsewhere = plane.reach_neighbour(RelayedAddress(peer))
            if elsewhere is None:
                plane.count_drop("no_such_relay")
            else:
                self.send(data, socket_address(PeerAddress(TransportAddress(*elsewhere))), now)
            return
        if not self._spend(size, now):
            return
        self._count_to_peer(size)
        plane.view[HEADROOM : HEADROOM + size] = data
        target.deliver(plane.source_of(self), size, now)

    def count_drop(self, reason: str) -> None:
        self._plane.count_drop(reason)

    def close(self) -> None:
        self.detach().close()

    def detach(self) -> socket.socket:
        """Ends this one; the socket stays open."""
        self._bandwidth.release()
        return self._sock

    def _count_to_peer(self, size: int) -> None:
        self.own_traffic.packets_to_peer += 1
        self.own_traffic.bytes_to_peer += size

    def _spend(self, size: int, now: float) -> bool:
        for position, bucket in enumerate(self._buckets):
            if not bucket.take(size, now):
                for paid in self._buckets[:position]:
                    paid.give_back(size)
                self._plane.count_drop("bandwidth")
                return False
        return True

    def report_errors(self) -> None:
        """Tells the client of ICMP errors from peers it has permissions for (RFC 8656 section 11.5).

        Whenever the error queue was not empty, the loop may have stopped watching the socket.
        """
        self._plane.watch_again(self)
        now = self._plane.clock()
        for error in queued_errors(self._sock):
            permission = self.permissions.get(error.peer[0])
            if self.link is None or permission is None or permission.expires_at <= now:
                continue
            indication = Message(MessageClass.INDICATION, Method.DATA)
            indication.add(XOR_PEER_ADDRESS, TransportAddress(error.peer[0], error.peer[1]))
            indication.add(ICMP, IcmpValue(error.type, error.code, error.data))
            with suppress(OSError):
                self.link.sendto(memoryview(indication.encode()), self.link.address)

    def _write_data_indication(self, source: SocketAddress, size: int) -> tuple[int, int]:
        plane = self._plane
        peer = TransportAddress(source[0], source[1])
        header = Message(MessageClass.INDICATION, Method.DATA).add(XOR_PEER_ADDRESS, peer).encode()
        start = HEADROOM - 4 - len(header)
        end = plane.pad(HEADROOM + size)
        buffer = plane.buffer
        buffer[start : start + len(header)] = header
        _DATA_HEADER.pack_into(buffer, HEADROOM - 4, _DATA_TYPE, size)
        length = min(end - start - _HEADER_BYTES, _MOST_ATTRIBUTES)
        _LENGTH.pack_into(buffer, start + _LENGTH_OFFSET, length)
        return start, end


# Linux' numbers, which the socket module does not name: (level, IP(V6)_MTU_DISCOVER, usual value). The usual
# values let the system fragment: RFC 8656 section 14 takes the DF bit of the incoming packet to be 0.
_PMTUDISC_DONT, _PMTUDISC_WANT, _PMTUDISC_DO = 0, 1, 2
_IPV4_FRAGMENTATION = (socket.IPPROTO_IP, 10, _PMTUDISC_DONT)
_IPV6_FRAGMENTATION = (socket.IPPROTO_IPV6, 23, _PMTUDISC_WANT)


def open_socket(host: str, port: int) -> socket.socket:
    """A non-blocking UDP socket bound to host and port; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        elif sys.platform == "linux":
            sock.setsockopt(*_IPV4_FRAGMENTATION)
        ask_for_errors(sock, family)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
