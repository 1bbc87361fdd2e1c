"""NatPmpClient: the NAT Port Mapping Protocol (RFC 6886), the elder brother of PCP. IPv4 alone."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from stunwire import TransportAddress

from peerpath.portmap.client import LIFETIME, Answer, Denial, GatewayClient, Noise, Reading
from peerpath.portmap.mapping import Found, MappingMethod, Output

_VERSION = 0
_RESPONSE = 128
_ADDRESS = 0
_MAP = {"udp": 1, "tcp": 2}

# Section 3.5
_RESULTS = {
    1: "it speaks another version of the protocol",
    2: "the gateway does not allow it",
    3: "the gateway has no address of its own yet",
    4: "the gateway has no room for it",
    5: "the gateway maps no ports",
}
_PASSING = (3, 4)


class NatPmpClient(GatewayClient):
    """Asks for the public address (section 3.2), says Found, and asks for the port (3.3) by `map`."""

    method = MappingMethod.NAT_PMP

    def __init__(
        self, internal: TransportAddress, *, transport: str = "udp", lifetime: int = LIFETIME
    ) -> None:
        super().__init__(internal, transport=transport, lifetime=lifetime)
        self._address: str | None = None
        self._mapping_opcode = _MAP[transport]

    def map(self, now: float) -> list[Output]:
        """The second step, after Found."""
        self._lease.begin(now)
        return self._ask(now)

    @property
    def _asks_for_port(self) -> bool:
        return self._address is not None

    def _request(self, lifetime: int) -> bytes:
        if self._address is None and lifetime:
            return struct.pack("!BB", _VERSION, _ADDRESS)
        port = self.mapping.external.port if self.mapping is not None else self.internal.port
        # Section 3.4: a deletion names no external port.
        wanted = port if lifetime else 0
        return struct.pack("!BBxxHHI", _VERSION, self._mapping_opcode, self.internal.port, wanted, lifetime)

    def _read(self, data: bytes) -> Reading:
        if len(data) < 8:
            return Noise(f"a message of {len(data)} bytes is no NAT-PMP response")
        version, opcode, result, epoch = struct.unpack_from("!BBHI", data)
        expected = _ADDRESS if self._address is None else self._mapping_opcode
        if version != _VERSION or opcode != _RESPONSE | expected:
            return Noise(f"version {version} and opcode {opcode} are no response to the request")
        if result:
            reason = _RESULTS.get(result, f"the gateway answered with result {result}")
            return Denial(reason, for_now=result in _PASSING)
        if len(data) < (12 if expected == _ADDRESS else 16):
            return Noise(f"a response of {len(data)} bytes is too short")
        if expected == _ADDRESS:
            self._address = str(IPv4Address(data[8:12]))
            return Answer(None, 0, epoch)
        internal, external, lifetime = struct.unpack_from("!HHI", data, 8)
        if self._address is None or internal != self.internal.port:
            return Noise("a response is about another port than the request")
        return Answer(TransportAddress(self._address, external), lifetime, epoch)

    def _forgotten(self) -> bool:
        # Its address may be another one now, so both steps are taken again.
        self._address = None
        return True

    def _first_step_done(self, now: float) -> list[Output]:
        if self.mapping is not None:
            return self.map(now)
        self._lease.end()
        return [Found()]
