"""What does not translate: the stateful firewall of public hosts and of IPv6, and what lets everything by.

Same shape as `nat.Nat`: `outbound` and `inbound` take a packet and the time and say what to send where.
"""

from __future__ import annotations

from .fragments import FragmentTracker
from .kinds import Dependence
from .nat import INSIDE, OUTSIDE, Emission
from .packets import ICMP, ICMP6, ICMP_ECHO, ICMP_ECHO_REPLY, ICMP_ERRORS, IPV6_FRAGMENT, TCP, UDP

ICMP6_ECHO, ICMP6_ECHO_REPLY = 128, 129
ICMP6_ERRORS = frozenset({1, 2, 3, 4})

# protocol, source address, destination address, source port, destination port
Endpoints = tuple[int, bytes, bytes, bytes, bytes]


class OpenRoad:
    """Everything passes."""

    def outbound(self, packet: bytearray, now: float) -> list[Emission]:
        return [(OUTSIDE, packet)]

    def inbound(self, packet: bytearray, now: float) -> list[Emission]:
        return [(INSIDE, packet)]

    def reboot(self, public_address: bytes) -> None:
        pass

    def sweep(self, now: float) -> None:
        pass


class Firewall:
    """Lets in what answers something that went out; how well it must fit is the filtering of RFC 4787."""

    def __init__(
        self, filtering: Dependence, udp_timeout: float, tcp_timeout: float, icmp_timeout: float
    ) -> None:
        self.filtering = filtering
        self.timeouts = {UDP: udp_timeout, TCP: tcp_timeout, ICMP: icmp_timeout, ICMP6: icmp_timeout}
        self.reboot(b"")

    def reboot(self, public_address: bytes) -> None:
        self._expires_at: dict[tuple, float] = {}
        self._fragments = FragmentTracker()

    def outbound(self, packet: bytearray, now: float) -> list[Emission]:
        if _is_ipv4_fragment(packet):
            return self._fragments.pass_on(packet, now, self._outbound_whole)
        return self._outbound_whole(packet, now)

    def inbound(self, packet: bytearray, now: float) -> list[Emission]:
        if _is_ipv4_fragment(packet):
            return self._fragments.pass_on(packet, now, self._inbound_whole)
        return self._inbound_whole(packet, now)

    def _outbound_whole(self, packet: bytearray, now: float) -> list[Emission]:
        endpoints = endpoints_of(packet)
        if endpoints is not None:
            protocol, source, destination, source_port, destination_port = endpoints
            key = self._key(protocol, source, source_port, destination, destination_port)
            self._expires_at[key] = now + self.timeouts[protocol]
        return [(OUTSIDE, packet)]

    def _inbound_whole(self, packet: bytearray, now: float) -> list[Emission]:
        endpoints = endpoints_of(packet)
        if endpoints is None:
            quoted = _quoted_by_error(packet)
            if quoted is None:
                return []
            protocol, source, destination, source_port, destination_port = quoted
            key = self._key(protocol, source, source_port, destination, destination_port)
        else:
            protocol, source, destination, source_port, destination_port = endpoints
            key = self._key(protocol, destination, destination_port, source, source_port)
        return [(INSIDE, packet)] if self._expires_at.get(key, 0) > now else []

    def _key(
        self, protocol: int, local: bytes, local_port: bytes, remote: bytes, remote_port: bytes
    ) -> tuple:
        return (protocol, local, local_port, (b"", remote, remote + remote_port)[self.filtering])

    def sweep(self, now: float) -> None:
        for key in [key for key, expires_at in self._expires_at.items() if expires_at <= now]:
            del self._expires_at[key]


def endpoints_of(packet: bytearray) -> Endpoints | None:
    """Addresses and ports of a packet; an echo's identifier stands for both ports. None for the rest."""
    if packet[0] == 0x45:
        protocol, source, destination, payload = packet[9], packet[12:16], packet[16:20], packet[20:28]
    elif packet[0] >> 4 == 6:
        protocol, source, destination, payload = packet[6], packet[8:24], packet[24:40], packet[40:48]
        if protocol == IPV6_FRAGMENT and not (packet[42] or packet[43] & 0xF8):
            protocol, payload = packet[40], packet[48:56]
    else:
        return None
    if len(payload) < 8:
        return None
    if protocol in (UDP, TCP):
        return protocol, bytes(source), bytes(destination), bytes(payload[0:2]), bytes(payload[2:4])
    is_echo = (protocol == ICMP and payload[0] in (ICMP_ECHO, ICMP_ECHO_REPLY)) or (
        protocol == ICMP6 and payload[0] in (ICMP6_ECHO, ICMP6_ECHO_REPLY)
    )
    if is_echo:
        return protocol, bytes(source), bytes(destination), bytes(payload[4:6]), bytes(payload[4:6])
    return None


def _quoted_by_error(packet: bytearray) -> Endpoints | None:
    if packet[0] == 0x45 and packet[9] == ICMP and packet[20] in ICMP_ERRORS:
        return endpoints_of(packet[28:]) if len(packet) >= 56 else None
    if packet[0] >> 4 == 6 and packet[6] == ICMP6 and packet[40] in ICMP6_ERRORS:
        return endpoints_of(packet[48:]) if len(packet) >= 96 else None
    return None


def _is_ipv4_fragment(packet: bytearray) -> bool:
    return packet[0] >> 4 == 4 and bool(packet[6] & 0x3F or packet[7])
