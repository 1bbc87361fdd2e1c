"""ClientAddresses: whom a request is from, behind reverse proxies too."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web

_GONE = "0.0.0.0"


class ClientAddresses:
    """Believes X-Forwarded-For exactly as far as the operator's own proxies wrote it.

    Each proxy adds the address that it was connected from at the end. So the client is the last address that
    is not a trusted proxy's; what stands before that, the client may have written itself.
    """

    def __init__(self, trusted_proxies: Iterable[str]) -> None:
        """Ranges of addresses, as CIDR text."""
        self._trusted = [ip_network(cidr) for cidr in trusted_proxies]

    def of(self, request: web.Request) -> str:
        """The client's numeric address; 0.0.0.0 if its connection is gone already."""
        client = request.remote or _GONE
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
        while forwarded and self._is_trusted(client):
            hop = _address(forwarded.pop())
            if hop is None:
                break
            client = str(hop)
        return client

    def _is_trusted(self, host: str) -> bool:
        address = _address(host)
        return address is not None and any(address in network for network in self._trusted)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    # A listener on [::] sees IPv4 connections so.
    return getattr(address, "ipv4_mapped", None) or address
