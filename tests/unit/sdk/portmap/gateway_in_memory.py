"""Answers of gateways, byte by byte, and a client that is run by hand."""

import struct
from dataclasses import dataclass, field
from ipaddress import ip_address

from peerpath.portmap.client import GatewayClient
from peerpath.portmap.mapping import Event, Output, SendToGateway

PUBLIC = "5.6.7.8"


@dataclass
class Run:
    """What a client sent and said."""

    client: GatewayClient
    now: float = 100.0
    sent: list[bytes] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def do(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, SendToGateway):
                self.sent.append(output.data)
            else:
                self.events.append(output)

    def start(self) -> "Run":
        self.do(self.client.start(self.now))
        return self

    def receive(self, data: bytes) -> None:
        self.do(self.client.receive(data, self.now))

    def run(self, seconds: float) -> None:
        """Lets time pass, with every deadline on the way."""
        end = self.now + seconds
        while (deadline := self.client.next_deadline()) is not None and deadline <= end:
            assert deadline >= self.now
            self.now = max(deadline, self.now)
            self.do(self.client.handle_timeout(self.now))
        self.now = end


def pcp_answer(
    request: bytes,
    *,
    result: int = 0,
    lifetime: int = 7200,
    epoch: int = 1000,
    host: str = PUBLIC,
    port: int | None = None,
    **other: int | bytes,
) -> bytes:
    """The response to a MAP request (RFC 6887 sections 7.2 and 11.1)."""
    nonce, protocol, internal, _, _ = struct.unpack_from("!12sB3xHH16s", request, 24)
    address = ip_address(host)
    packed = b"\0" * 10 + b"\xff\xff" + address.packed if address.version == 4 else address.packed
    external = internal if port is None else port
    header = struct.pack(
        "!BBxBII12x", other.get("version", 2), other.get("opcode", 0x81), result, lifetime, epoch
    )
    nonce = other.get("nonce", nonce)
    return header + struct.pack(
        "!12sB3xHH16s", nonce, protocol, other.get("internal", internal), external, packed
    )


def nat_pmp_address(*, result: int = 0, epoch: int = 1000, host: str = PUBLIC, opcode: int = 128) -> bytes:
    """RFC 6886 section 3.2."""
    return struct.pack("!BBHI", 0, opcode, result, epoch) + ip_address(host).packed


def nat_pmp_mapping(
    request: bytes,
    *,
    result: int = 0,
    epoch: int = 1000,
    port: int | None = None,
    lifetime: int = 7200,
    opcode: int = 129,
) -> bytes:
    """RFC 6886 section 3.3."""
    internal, wanted = struct.unpack_from("!HH", request, 4)
    external = wanted if port is None else port
    return struct.pack("!BBHIHHI", 0, opcode, result, epoch, internal, external, lifetime)
