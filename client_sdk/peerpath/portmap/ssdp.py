"""Finding the UPnP device of a gateway (UPnP Device Architecture 1.1 section 1.3), and nobody else's."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

from stunwire import TransportAddress

from peerpath.net.datagrams import DatagramSocket
from peerpath.portmap.gateways import Gateway
from peerpath.portmap.mapping import MappingError

_GROUP = TransportAddress("239.255.255.250", 1900)
# A router that knows version 2 answers to a search for version 1 as well (section 1.3.2).
_TARGET = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
_MAX_ANSWER = 4096
_SEARCHES = 3


async def find_description(gateway: Gateway, local_host: str, *, seconds: float) -> str:
    """The URL at which `gateway` describes itself. MappingError when it does not say, or names another's."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str] = loop.create_future()
    doubt = ""

    def received(data: bytes, source: TransportAddress) -> None:
        nonlocal doubt
        if source.host != gateway.host or found.done():
            return
        try:
            found.set_result(location_in(data, gateway.host))
        except MappingError as error:
            doubt = str(error)

    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(local_host))
        made.bind((local_host, 0))
        searching = await DatagramSocket.adopt(made, received)
    except OSError:
        made.close()
        raise
    try:
        for _ in range(_SEARCHES):
            # Some routers hear only the one, some only the other.
            searching.send(_search(gateway.host), TransportAddress(gateway.host, gateway.ssdp_port))
            if gateway.multicast:
                searching.send(_search(_GROUP.host), _GROUP)
            await asyncio.wait([found], timeout=seconds / _SEARCHES)
            if found.done():
                return found.result()
    finally:
        searching.close()
    raise MappingError(doubt or "no answer")


def _search(host: str) -> bytes:
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {host}:1900",
        'MAN: "ssdp:discover"',
        "MX: 1",
        f"ST: {_TARGET}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def location_in(answer: bytes, gateway_host: str) -> str:
    """LOCATION of an answer to a search. MappingError for one that leads anywhere but to the gateway.

    Whoever can answer here could otherwise have this machine send requests to any host that it reaches.
    """
    if len(answer) > _MAX_ANSWER:
        raise MappingError(f"its answer to the search has {len(answer)} bytes")
    lines = answer.decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/1.1 200"):
        raise MappingError("its answer to the search is not one of UPnP")
    fields = (line.partition(":") for line in lines[1:])
    location = next((value.strip() for name, _, value in fields if name.strip().lower() == "location"), "")
    if not leads_to(location, gateway_host):
        raise MappingError(f"it names a description that is not at the gateway: {location[:80]!r}")
    return location


def leads_to(url: str, host: str) -> bool:
    """Whether this is a plain http URL of exactly this numeric host."""
    try:
        parts = urlsplit(url)
        return (parts.scheme, parts.hostname, parts.username) == ("http", host, None) and parts.port != 0
    except ValueError:
        return False
