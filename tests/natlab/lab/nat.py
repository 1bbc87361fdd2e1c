"""The exact NAT: RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP) as values in, values out.

`outbound` and `inbound` take one IPv4 packet and the time, and return what to send, and on which side. No
socket, no clock: the process in `wire.py` moves the bytes.

A flow is found by the twelve bytes that follow the header checksum of a packet without options: both
addresses and both ports. Its first packet takes the long way (`_open`, `_admit`); the others find a `Flow`,
which holds the twelve new bytes and what they change in the checksums.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

from .fragments import FragmentTracker
from .kinds import Dependence, Layer, PortAssignment
from .packets import (
    CHECKSUM_OFFSET,
    ICMP,
    ICMP_ECHO,
    ICMP_ECHO_REPLY,
    ICMP_ERRORS,
    TCP,
    TCP_ACK,
    TCP_FIN,
    TCP_RST,
    TCP_SYN,
    UDP,
    adjust,
    adjust_udp,
    checksum,
    difference,
)

INSIDE, OUTSIDE = "inside", "outside"
Emission = tuple[str, bytearray]

FIRST_PORT, LAST_PORT = 1024, 65535
BLOCK_SIZE = 512
TCP_CLOSING_TIMEOUT = 4.0  # RFC 5382 REQ-5 would keep it for four minutes; no test wants to wait for that


@dataclasses.dataclass(slots=True)
class Permission:
    """A remote endpoint, or as much of one as the filter looks at, that a mapping has sent to."""

    expires_at: float


class Mapping:
    """An internal endpoint and the external port that stands for it."""

    __slots__ = ("expires_at", "external_port", "internal", "key", "open_sessions", "permissions")

    def __init__(self, key: bytes, internal: bytes, external_port: int) -> None:
        self.key = key
        self.internal = internal  # address and port, six bytes
        self.external_port = external_port
        self.expires_at = 0.0
        self.permissions: dict[bytes, Permission] = {}
        self.open_sessions = 0  # TCP connections that have not ended


class Session:
    """How far a TCP connection is, as far as its flags tell (RFC 5382 section 5)."""

    __slots__ = ("closed", "fin", "syn")

    def __init__(self) -> None:
        self.syn: set[str] = set()
        self.fin: set[str] = set()
        self.closed = False


class Flow:
    """One direction of one conversation: the endpoints to write, and what they change in the checksums."""

    __slots__ = ("endpoints", "header_delta", "mapping", "permission", "session", "transport_delta")

    def __init__(
        self, old: bytes, new: bytes, mapping: Mapping, permission: Permission, session: Session | None
    ):
        self.endpoints = new
        self.header_delta = difference(old[:8], new[:8])
        self.transport_delta = difference(old, new)
        self.mapping = mapping
        self.permission = permission
        self.session = session


class Table:
    """The mappings and flows of one transport protocol."""

    def __init__(self) -> None:
        self.by_key: dict[bytes, Mapping] = {}
        self.by_port: dict[int, Mapping] = {}
        self.outbound: dict[bytes, Flow] = {}
        self.inbound: dict[bytes, Flow] = {}


class Nat:
    """One NAT with one public address. `layer` is its row of the table in `kinds.py`."""

    def __init__(self, layer: Layer, public_address: bytes, seed: int | None = None) -> None:
        self.layer = layer
        self.random = random.Random(seed)
        self.reboot(public_address)

    def reboot(self, public_address: bytes) -> None:
        """Forget everything; the port sequence starts somewhere else."""
        self.public_address = public_address
        self.tables = {UDP: Table(), TCP: Table(), ICMP: Table()}
        self._fragments = FragmentTracker()
        self._punished_until: dict[bytes, float] = {}
        self._next_port = self.random.randrange(FIRST_PORT, LAST_PORT - BLOCK_SIZE)
        self._block_start = self._next_port

    # The two ways through -----------------------------------------------------------------------------------

    def outbound(self, packet: bytearray, now: float) -> list[Emission]:
        """A packet from a host."""
        if packet[0] != 0x45:  # IPv4 without options; hosts send nothing else
            return []
        if packet[6] & 0x3F or packet[7]:
            return self._fragments.pass_on(packet, now, self._outbound_whole)
        return self._outbound_whole(packet, now)

    def inbound(self, packet: bytearray, now: float) -> list[Emission]:
        """A packet from the outside, for our public address or lost."""
        if packet[0] != 0x45 or packet[16:20] != self.public_address:
            return []
        if packet[6] & 0x3F or packet[7]:
            return self._fragments.pass_on(packet, now, self._inbound_whole)
        return self._inbound_whole(packet, now)

    def _outbound_whole(self, packet: bytearray, now: float) -> list[Emission]:
        protocol = packet[9]
        if protocol == ICMP:
            return self._outbound_icmp(packet, now)
        table = self.tables.get(protocol)
        if table is None or len(packet) < 28:
            return []
        key = bytes(packet[12:24])
        flow = table.outbound.get(key)
        if flow is None or flow.mapping.expires_at <= now:
            flow = self._open(table, protocol, key, packet, now)
            if flow is None:
                return []
        self._refresh(flow, protocol, packet, now, INSIDE)
        self._rewrite(packet, protocol, flow)
        if packet[16:20] == self.public_address:
            return self._hairpin(packet, now)
        return [(OUTSIDE, packet)]

    def _inbound_whole(self, packet: bytearray, now: float) -> list[Emission]:
        protocol = packet[9]
        if protocol == ICMP:
            return self._inbound_icmp(packet, now)
        table = self.tables.get(protocol)
        if table is None or len(packet) < 28:
            return []
        key = bytes(packet[12:24])
        source = key[0:4] + key[8:10]
        if protocol == UDP and self._punished_until.get(source, 0.0) > now:
            return []
        flow = table.inbound.get(key)
        if flow is None or flow.mapping.expires_at <= now or flow.permission.expires_at <= now:
            flow = self._admit(table, protocol, key, now)
            if flow is None:
                if protocol == UDP and self.layer.punishment:
                    self._punished_until[source] = now + self.layer.punishment
                return []
        if protocol == TCP:
            self._refresh(flow, protocol, packet, now, OUTSIDE)
        self._rewrite(packet, protocol, flow)
        return [(INSIDE, packet)]

    def _hairpin(self, packet: bytearray, now: float) -> list[Emission]:
        """RFC 4787 REQ-9: back in, with the external source address and port, if the filter agrees."""
        return self._inbound_whole(packet, now) if self.layer.hairpin else []

    # Mappings and filters -----------------------------------------------------------------------------------

    def _open(self, table: Table, protocol: int, key: bytes, packet: bytearray, now: float) -> Flow | None:
        """The first packet of a flow from inside: find or make the mapping, open the filter."""
        internal, remote = key[0:4] + key[8:10], key[4:8] + key[10:12]
        mapping_key = internal + _scope(remote, self.layer.mapping)
        mapping = self._alive(table, table.by_key.get(mapping_key), now)
        if mapping is None:
            if protocol == TCP and not packet[33] & TCP_SYN:
                return None  # the middle of a connection from before a reboot
            port = self._choose_port(table, int.from_bytes(key[8:10], "big"), now)
            if port is None:
                return None
            mapping = Mapping(mapping_key, internal, port)
            table.by_key[mapping_key] = table.by_port[port] = mapping
        permission = mapping.permissions.setdefault(_scope(remote, self.layer.filtering), Permission(now))
        external = mapping.external_port.to_bytes(2, "big")
        answer_key = key[4:8] + self.public_address + key[10:12] + external
        session = None
        if protocol == TCP:
            # A connection that the other side opened is already known by its first packet.
            known = table.inbound.get(answer_key)
            if known is not None and known.mapping is mapping and not known.session.closed:
                session = known.session
            else:
                session = Session()
                mapping.open_sessions += 1
        flow = Flow(key, self.public_address + key[4:8] + external + key[10:12], mapping, permission, session)
        table.outbound[key] = flow
        inward = key[4:8] + key[0:4] + key[10:12] + key[8:10]
        table.inbound[answer_key] = Flow(answer_key, inward, mapping, permission, session)
        return flow

    def _admit(self, table: Table, protocol: int, key: bytes, now: float) -> Flow | None:
        """The first packet of a flow from outside: is there a mapping, and does its filter let it in?"""
        mapping = self._alive(table, table.by_port.get(int.from_bytes(key[10:12], "big")), now)
        if mapping is None:
            return None
        remote = key[0:4] + key[8:10]
        permission = mapping.permissions.get(_scope(remote, self.layer.filtering))
        if permission is None or permission.expires_at <= now:
            return None
        session = None
        if protocol == TCP:
            session = Session()
            mapping.open_sessions += 1
        new = key[0:4] + mapping.internal[:4] + key[8:10] + mapping.internal[4:]
        flow = Flow(key, new, mapping, permission, session)
        table.inbound[key] = flow
        return flow

    def _alive(self, table: Table, mapping: Mapping | None, now: float) -> Mapping | None:
        if mapping is not None and mapping.expires_at <= now:
            self._forget(table, mapping)
            return None
        return mapping

    def _forget(self, table: Table, mapping: Mapping) -> None:
        table.by_key.pop(mapping.key, None)
        if table.by_port.get(mapping.external_port) is mapping:
            del table.by_port[mapping.external_port]

    def _refresh(self, flow: Flow, protocol: int, packet: bytearray, now: float, side: str) -> None:
        """RFC 4787 REQ-6: what goes out keeps a mapping alive. For TCP (RFC 5382) either direction does."""
        mapping = flow.mapping
        if protocol == UDP:
            flow.permission.expires_at = mapping.expires_at = now + self.layer.mapping_timeout
            return
        session = flow.session
        flags = packet[33]
        if flags & TCP_SYN:
            if session.closed:  # the same two endpoints connect again
                session.__init__()
                mapping.open_sessions += 1
            session.syn.add(side)
        if flags & TCP_FIN:
            session.fin.add(side)
        if (flags & TCP_RST or len(session.fin) == 2) and not session.closed:
            session.closed = True
            mapping.open_sessions -= 1
        if session.closed:
            if mapping.open_sessions == 0:
                flow.permission.expires_at = mapping.expires_at = now + TCP_CLOSING_TIMEOUT
            return
        established = len(session.syn) == 2 and flags & TCP_ACK
        lifetime = self.layer.tcp_established_timeout if established else self.layer.tcp_transitory_timeout
        mapping.expires_at = max(mapping.expires_at, now + lifetime)
        flow.permission.expires_at = max(flow.permission.expires_at, now + lifetime)

    def _choose_port(self, table: Table, internal_port: int, now: float) -> int | None:
        assignment = self.layer.ports
        if assignment is PortAssignment.PRESERVATION and self._is_free(table, internal_port, now):
            return internal_port
        for _ in range(LAST_PORT - FIRST_PORT):
            if assignment is PortAssignment.SEQUENTIAL:
                self._next_port = self._next_port + 1 if self._next_port < LAST_PORT else FIRST_PORT
                port = self._next_port
            elif assignment is PortAssignment.BLOCK:
                offset = self._next_port - self._block_start + self.random.randint(1, 4)
                port = self._next_port = self._block_start + offset % BLOCK_SIZE
            else:
                port = self.random.randint(FIRST_PORT, LAST_PORT)
            if self._is_free(table, port, now):
                return port
        return None

    def _is_free(self, table: Table, port: int, now: float) -> bool:
        return self._alive(table, table.by_port.get(port), now) is None

    def _rewrite(self, packet: bytearray, protocol: int, flow: Flow) -> None:
        packet[12:24] = flow.endpoints
        adjust(packet, 10, flow.header_delta)
        if protocol == UDP:
            adjust_udp(packet, 26, flow.transport_delta)
        else:
            adjust(packet, 20 + CHECKSUM_OFFSET[TCP], flow.transport_delta)

    # ICMP (RFC 5508) ----------------------------------------------------------------------------------------

    def _outbound_icmp(self, packet: bytearray, now: float) -> list[Emission]:
        kind = packet[20]
        if kind == ICMP_ECHO:
            key = bytes(packet[12:20] + packet[24:26] + b"\0\0")
            table = self.tables[ICMP]
            flow = table.outbound.get(key)
            if flow is None or flow.mapping.expires_at <= now:
                flow = self._open(table, ICMP, key, packet, now)
                if flow is None:
                    return []
            flow.permission.expires_at = flow.mapping.expires_at = now + self.layer.icmp_timeout
            _readdress(packet, bytes(flow.endpoints[:8]), identifier=bytes(flow.endpoints[8:10]))
            return [(OUTSIDE, packet)]
        if kind in ICMP_ERRORS and len(packet) >= 56:
            # What the host complains about came in through us: inside, its destination is the host.
            inner = packet[28:]
            table = self.tables.get(inner[9])
            endpoints = _endpoints_of(inner)
            if table is None or endpoints is None:
                return []
            internal, remote = endpoints[4:8] + endpoints[10:12], endpoints[0:4] + endpoints[8:10]
            mapping = self._alive(table, table.by_key.get(internal + _scope(remote, self.layer.mapping)), now)
            if mapping is None:
                return []
            external = mapping.external_port.to_bytes(2, "big")
            _rewrite_inner(inner, endpoints[0:4] + self.public_address + endpoints[8:10] + external)
            packet[28:] = inner
            _readdress(packet, self.public_address + bytes(packet[16:20]))
            return [(OUTSIDE, packet)]
        return []

    def _inbound_icmp(self, packet: bytearray, now: float) -> list[Emission]:
        kind = packet[20]
        if kind == ICMP_ECHO_REPLY:
            key = bytes(packet[12:20] + b"\0\0" + packet[24:26])
            flow = self._admit(self.tables[ICMP], ICMP, key, now)
            if flow is None:
                return []
            _readdress(packet, bytes(flow.endpoints[:8]), identifier=bytes(flow.endpoints[10:12]))
            return [(INSIDE, packet)]
        if kind in ICMP_ERRORS and len(packet) >= 56:
            # REQ-4: any router on the way may send it; what counts is the packet that it quotes.
            inner = packet[28:]
            table = self.tables.get(inner[9])
            endpoints = _endpoints_of(inner)
            if table is None or endpoints is None or endpoints[0:4] != self.public_address:
                return []
            mapping = self._alive(table, table.by_port.get(int.from_bytes(endpoints[8:10], "big")), now)
            if mapping is None:
                return []
            remote = endpoints[4:8] + endpoints[10:12]
            if _scope(remote, self.layer.filtering) not in mapping.permissions:
                return []
            _rewrite_inner(
                inner, mapping.internal[:4] + endpoints[4:8] + mapping.internal[4:] + endpoints[10:12]
            )
            packet[28:] = inner
            _readdress(packet, bytes(packet[12:16]) + mapping.internal[:4])
            return [(INSIDE, packet)]
        return []

    # Housekeeping -------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Drop what has expired; without it only what is asked for again would go."""
        for source in [source for source, until in self._punished_until.items() if until <= now]:
            del self._punished_until[source]
        for table in self.tables.values():
            for mapping in [m for m in table.by_port.values() if m.expires_at <= now]:
                self._forget(table, mapping)
            for flows in (table.outbound, table.inbound):
                for key in [key for key, flow in flows.items() if flow.mapping.expires_at <= now]:
                    del flows[key]

    def mappings(self, protocol: int, now: float) -> Iterator[Mapping]:
        return (mapping for mapping in self.tables[protocol].by_port.values() if mapping.expires_at > now)


def _scope(remote: bytes, dependence: Dependence) -> bytes:
    """As much of a remote endpoint (address and port, six bytes) as this dependence looks at."""
    return remote[: (0, 4, 6)[dependence]]


def _endpoints_of(inner: bytearray) -> bytes | None:
    """The endpoints of a packet quoted in an ICMP error: addresses, then ports or the echo identifier."""
    if inner[0] != 0x45:
        return None
    if inner[9] == ICMP:
        return bytes(inner[12:20] + inner[24:26] + b"\0\0")
    return bytes(inner[12:24])


def _rewrite_inner(inner: bytearray, new: bytes) -> None:
    """REQ-4, REQ-5: the quoted packet must look as its sender sent it, checksums included."""
    old = _endpoints_of(inner)
    adjust(inner, 10, difference(old[:8], new[:8]))
    protocol = inner[9]
    if protocol == ICMP:
        inner[12:20] = new[:8]
        inner[24:26] = new[8:10]
        adjust(inner, 22, difference(old[8:10], new[8:10]))
        return
    inner[12:24] = new
    offset = 20 + CHECKSUM_OFFSET[protocol]
    if len(inner) >= offset + 2:
        (adjust_udp if protocol == UDP else adjust)(inner, offset, difference(old, new))


def _readdress(packet: bytearray, addresses: bytes, identifier: bytes | None = None) -> None:
    """Give an ICMP packet new addresses (and a new identifier), and both checksums anew."""
    adjust(packet, 10, difference(bytes(packet[12:20]), addresses))
    packet[12:20] = addresses
    if identifier is not None:
        packet[24:26] = identifier
    packet[22:24] = b"\0\0"
    packet[22:24] = checksum(packet[20:]).to_bytes(2, "big")
