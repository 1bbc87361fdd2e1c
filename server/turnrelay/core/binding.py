"""Binding (RFC 8489 section 6.3): tells a client its server-reflexive address, to anybody who asks."""

from stunwire import XOR_MAPPED_ADDRESS, Message

from turnrelay.core.addresses import FiveTuple
from turnrelay.core.events import RequestAnswered
from turnrelay.core.outputs import Output, Reply


def binding(message: Message, path: FiveTuple) -> list[Output]:
    """XOR-MAPPED-ADDRESS and nothing else: 32 bytes (IPv4) or 44 (IPv6), so that nobody is amplified."""
    response = Message.success_to(message).add(XOR_MAPPED_ADDRESS, path.client)
    return [Reply(path, response.encode()), RequestAnswered(message.method, 0, path.transport)]
