"""Finding the UPnP device of a gateway (UPnP Device Architecture 1.1 section 1.3), and nobody else's."""

from __future__ import annotations

import asyncio
import socket
import struct
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
_QUIET_SECONDS = 60.0


class RestartListener:
    """Hears from a gateway that its device has started: then it may have forgotten what it mapped.

    `restarted` is set for every announcement that is not known to come from the same start as the last one.
    Announcements are repeated every few minutes, so one without a number of the start counts once a minute.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.restarted = asyncio.Event()
        self._gateway = gateway
        self._boot: str | None = None
        self._heard_at = float("-inf")
        self._socket: DatagramSocket | None = None

    async def open(self, local_host: str) -> None:
        """Without effect where the port is not to be had."""
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Some systems ask for this one where several programs want to hear the same group.
            if hasattr(socket, "SO_REUSEPORT"):
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            made.bind(("", _GROUP.port))
            group = struct.pack("4s4s", socket.inet_aton(_GROUP.host), socket.inet_aton(local_host))
            made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            self._socket = await DatagramSocket.adopt(made, self._received)
        except OSError:
            made.close()

    def _received(self, data: bytes, source: TransportAddress) -> None:
        if source.host == self._gateway.host:
            self.hear(data, asyncio.get_running_loop().time())

    def hear(self, data: bytes, now: float) -> None:
        """One message of the gateway to everybody."""
        boot = boot_announced(data)
        if boot is None or (boot and boot == self._boot):
            return
        if boot or now - self._heard_at >= _QUIET_SECONDS:
            self._boot, self._heard_at = boot, now
            self.restarted.set()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def boot_announced(data: bytes) -> str | None:
    """Of a message that says that a device is there (section 1.2.2): the number of its start, "" without
    one. None for anything else."""
    lines = data[:_MAX_ANSWER].decode("latin-1").split("\r\n")
    if not lines[0].startswith("NOTIFY "):
        return None
    fields = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    return fields.get("bootid.upnp.org", "") if fields.get("nts") == "ssdp:alive" else None


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
