"""NAT behaviour discovery (RFC 5780): answers from another address, for clients that study their NAT."""

from dataclasses import dataclass

from stunwire import (
    CHANGE_REQUEST,
    MAPPED_ADDRESS,
    OTHER_ADDRESS,
    PADDING,
    RESPONSE_ORIGIN,
    RESPONSE_PORT,
    XOR_MAPPED_ADDRESS,
    Message,
    TransportAddress,
)

from turnrelay.core.addresses import ClientAddress, FiveTuple, ServerAddress, Transport
from turnrelay.core.events import RequestAnswered
from turnrelay.core.outputs import Output, Reply

UNDERSTOOD = frozenset(attribute.type for attribute in (CHANGE_REQUEST, PADDING, RESPONSE_PORT))
"""The comprehension-required attributes of RFC 5780; without a second address they are answered with 420."""

_LARGEST_PADDING = 1500
"""Bytes: enough to make a response that is fragmented, and no more than it answers (RFC 5780 section 7.6)."""


@dataclass(frozen=True, slots=True)
class ServerAddresses:
    """The four addresses of RFC 5780 section 6: two hosts, two ports, each host on each port."""

    primary: str
    alternate: str
    port: int
    alternate_port: int
    advertised: dict[str, str]
    """What clients know a host by, where that is another address."""

    def includes(self, server: ServerAddress) -> bool:
        """Whether a request that came to `server` takes part."""
        hosts, ports = (self.primary, self.alternate), (self.port, self.alternate_port)
        return server.host in hosts and server.port in ports

    def alternate_port_addresses(self) -> list[tuple[str, int]]:
        """The two addresses that are listened on for this purpose alone."""
        return [(self.primary, self.alternate_port), (self.alternate, self.alternate_port)]

    def changed(self, server: ServerAddress, change_ip: bool, change_port: bool) -> ServerAddress:
        """The address that CHANGE-REQUEST names, seen from the one the request came to."""
        host, port = server
        if change_ip:
            host = self.alternate if host == self.primary else self.primary
        if change_port:
            port = self.alternate_port if port == self.port else self.port
        return ServerAddress(TransportAddress(host, port))

    def known_as(self, server: ServerAddress) -> TransportAddress:
        """The address to write into a response."""
        return TransportAddress(self.advertised.get(server.host, server.host), server.port)


def discovery_binding(addresses: ServerAddresses, message: Message, path: FiveTuple) -> list[Output]:
    """The response of RFC 5780 section 6.1: RESPONSE-ORIGIN and OTHER-ADDRESS beside the mapped address."""
    origin, destination = path.server, path.client
    other = addresses.changed(origin, True, True)
    padding = message.get(PADDING)
    if path.transport is Transport.UDP:
        change = message.get(CHANGE_REQUEST)
        if change is not None:
            origin = addresses.changed(origin, change.change_ip, change.change_port)
        port = message.get(RESPONSE_PORT)
        if port is not None:
            destination = ClientAddress(TransportAddress(destination.host, port))
    response = Message.success_to(message).add(XOR_MAPPED_ADDRESS, path.client)
    # Not obscured, so that clients see whether something on the way rewrites addresses in payloads.
    response.add(MAPPED_ADDRESS, path.client)
    response.add(RESPONSE_ORIGIN, addresses.known_as(origin))
    response.add(OTHER_ADDRESS, addresses.known_as(other))
    if padding is not None:
        response.add(PADDING, bytes(min(len(padding), _LARGEST_PADDING)))
    way_back = FiveTuple(path.transport, origin, destination)
    return [Reply(way_back, response.encode()), RequestAnswered(message.method, 0, path.transport)]
