"""PcpClient: the Port Control Protocol (RFC 6887), MAP opcode, for IPv4 and IPv6."""

from __future__ import annotations

import secrets
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from stunwire import TransportAddress

from peerpath.portmap.client import LIFETIME, Answer, Denial, GatewayClient, Noise, Reading
from peerpath.portmap.mapping import MappingMethod

_VERSION = 2
_RESPONSE = 0x80
_MAP = 1
_PROTOCOLS = {"udp": 17, "tcp": 6}

_HEADER = struct.Struct("!BBxBII12x")
"""Of a response (section 7.2): version, R and opcode, result, lifetime, epoch."""
_MAP_DATA = struct.Struct("!12sB3xHH16s")
"""Section 11.1: nonce, protocol, internal port, external port, external address."""

UNSUPPORTED_VERSION = 1

# Section 7.4
_RESULTS = {
    1: "it speaks another version of the protocol",
    2: "the gateway does not allow it (NOT_AUTHORIZED)",
    3: "the gateway could not read the request (MALFORMED_REQUEST)",
    4: "the gateway maps no ports (UNSUPP_OPCODE)",
    5: "the gateway lacks an option (UNSUPP_OPTION)",
    6: "the gateway could not read an option (MALFORMED_OPTION)",
    7: "the gateway's own network fails (NETWORK_FAILURE)",
    8: "the gateway has no room for it (NO_RESOURCES)",
    9: "the gateway does not map this protocol (UNSUPP_PROTOCOL)",
    10: "this host has as many mappings as it may have (USER_EX_QUOTA)",
    11: "the port is not to be had (CANNOT_PROVIDE_EXTERNAL)",
    12: "another NAT is between this host and the gateway (ADDRESS_MISMATCH)",
    13: "too many peers (EXCESSIVE_REMOTE_PEERS)",
}
_PASSING = (7, 8)


class PcpClient(GatewayClient):
    """`nonce`, 12 bytes, makes the mapping ours: nobody who does not know it can change it (section 11.1)."""

    method = MappingMethod.PCP

    def __init__(
        self,
        internal: TransportAddress,
        *,
        transport: str = "udp",
        lifetime: int = LIFETIME,
        nonce: bytes | None = None,
    ) -> None:
        super().__init__(internal, transport=transport, lifetime=lifetime)
        self._nonce = nonce or secrets.token_bytes(12)
        self._protocol = _PROTOCOLS[transport]

    def _request(self, lifetime: int) -> bytes:
        # Sections 7.1, 11.1 and 11.2. The mapping that there was is suggested, so that a gateway which has
        # rebooted gives the same one (section 11.2, "renewing").
        any_host = "::" if ":" in self.internal.host else "0.0.0.0"
        wanted = TransportAddress(any_host, self.internal.port)
        if self.mapping is not None:
            wanted = self.mapping.external
        if lifetime == 0:
            wanted = TransportAddress(any_host, 0)
        header = struct.pack("!BBxxI", _VERSION, _MAP, lifetime) + _to_wire(self.internal.host)
        return header + _MAP_DATA.pack(
            self._nonce, self._protocol, self.internal.port, wanted.port, _to_wire(wanted.host)
        )

    def _read(self, data: bytes) -> Reading:
        if len(data) >= 4 and data[0] != _VERSION and data[1] & _RESPONSE:
            # Section 9 and appendix A: NAT-PMP answers in its own version, with the result in 16 bits.
            return Denial(_RESULTS[UNSUPPORTED_VERSION])
        if len(data) < _HEADER.size or len(data) % 4:
            return Noise(f"a message of {len(data)} bytes is no PCP response")
        version, opcode, result, lifetime, epoch = _HEADER.unpack_from(data)
        if version != _VERSION or opcode != _RESPONSE | _MAP:
            return Noise(f"version {version} and opcode {opcode:#04x} are no response to MAP")
        if len(data) < _HEADER.size + _MAP_DATA.size:
            return Noise(f"a MAP response of {len(data)} bytes is too short")
        nonce, protocol, internal, external, host = _MAP_DATA.unpack_from(data, _HEADER.size)
        # Section 11.4: what does not match the request is not for us.
        if nonce != self._nonce:
            return Noise("a response carries another nonce than the request")
        if (protocol, internal) != (self._protocol, self.internal.port):
            return Noise("a response is about another port than the request")
        if result:
            reason = _RESULTS.get(result, f"the gateway answered with result {result}")
            return Denial(reason, for_now=result in _PASSING)
        return Answer(TransportAddress(_from_wire(host), external), lifetime, epoch)


def _to_wire(host: str) -> bytes:
    """Section 5: IPv4 addresses are written as IPv4-mapped IPv6 ones."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv4Address):
        return b"\0" * 10 + b"\xff\xff" + address.packed
    return address.packed


def _from_wire(host: bytes) -> str:
    address = IPv6Address(host)
    return str(address.ipv4_mapped or address)
