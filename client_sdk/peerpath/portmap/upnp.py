"""UpnpClient: port mapping by UPnP-IGD, versions 1 and 2, on top of async-upnp-client (the extra `upnp`).

Importing this module raises MappingError where the extra is not installed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Container
from typing import Any

import aiohttp
from stunwire import TransportAddress

from peerpath.portmap.gateways import Gateway
from peerpath.portmap.mapping import Mapping, MappingError, MappingMethod, objection
from peerpath.portmap.ssdp import find_description, leads_to

try:
    from async_upnp_client.client import UpnpDevice, UpnpRequester, UpnpService
    from async_upnp_client.client_factory import UpnpFactory
    from async_upnp_client.const import HttpRequest, HttpResponse
    from async_upnp_client.exceptions import UpnpActionError, UpnpError
except ImportError as missing:
    raise MappingError("not tried: install peerpath[upnp] for it") from missing


LIFETIME = 3600
"""Seconds asked for. A reboot may go unheard, so it is not long."""

_DESCRIPTION = "peerpath"
_MAX_DOCUMENT = 512 * 1024
_SECONDS = 3.0
"""For one search or one request."""
_PORTS_TRIED = 4
_CONNECTIONS = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)

# What the standard calls its errors (WANIPConnection:2 section 2.5.16).
_CONFLICT = (718, 727, 729)
_ONLY_PERMANENT = 725
_ERRORS = {
    402: "the gateway could not read the request",
    501: "the gateway failed to do it",
    606: "the gateway does not allow it",
    718: "the port is taken",
    725: "the gateway gives mappings for ever only",
    728: "the gateway has no port left",
    729: "the port is taken",
}


class UpnpClient:
    """One mapping at one gateway. Every method raises MappingError with the reason, nothing else."""

    def __init__(
        self,
        internal: TransportAddress,
        gateway: Gateway,
        *,
        transport: str = "udp",
        lifetime: int = LIFETIME,
    ) -> None:
        self.internal = internal
        self.mapping: Mapping | None = None
        self._gateway = gateway
        self._transport = transport
        self._lifetime = lifetime
        self._service: UpnpService | None = None
        self._external_host = ""
        self._asked: int | None = None
        """The external port that was asked for last, unless the gateway has refused it."""

    async def find(self) -> None:
        """Looks for the gateway's device, reads its description, and asks for its public address."""
        if ":" in self.internal.host:
            raise MappingError("not tried: it maps IPv4 addresses only")
        try:
            location = await find_description(self._gateway, self.internal.host, seconds=_SECONDS)
        except OSError as error:
            raise MappingError(error.strerror or str(error)) from error
        factory = UpnpFactory(_GatewayRequester(self._gateway.host), non_strict=True)
        device = await _in_our_words(factory.async_create_device(location))
        self._service = _connection_of(device)
        answer = await self._call("GetExternalIPAddress")
        self._external_host = str(answer.get("NewExternalIPAddress") or "0.0.0.0")
        complaint = _complaint(self._external_host, 1)
        if complaint:
            raise MappingError(complaint)

    async def map(self) -> Mapping:
        """Asks for the port of the same number, for another one where it is taken."""
        port, lifetime = self.internal.port, self._lifetime
        for _ in range(_PORTS_TRIED):
            try:
                external = await self._add(port, lifetime)
            except _Rejected as error:
                if error.code == _ONLY_PERMANENT and lifetime:
                    lifetime = 0
                elif error.code in _CONFLICT:
                    port = random.randint(1024, 65535)
                else:
                    raise
                continue
            complaint = _complaint(self._external_host, external)
            if complaint:
                raise MappingError(complaint)
            address = TransportAddress(self._external_host, external)
            self.mapping = Mapping(
                MappingMethod.UPNP, self.internal, address, lifetime or float("inf"), self._transport
            )
            return self.mapping
        raise MappingError(f"none of {_PORTS_TRIED} ports was to be had")

    async def renew(self) -> Mapping:
        """The same port once more; the public address may have become another one."""
        assert self.mapping is not None
        answer = await self._call("GetExternalIPAddress")
        self._external_host = str(answer.get("NewExternalIPAddress") or "0.0.0.0")
        lifetime = 0 if self.mapping.lifetime == float("inf") else self._lifetime
        external = await self._add(self.mapping.external.port, lifetime)
        complaint = _complaint(self._external_host, external)
        if complaint:
            raise MappingError(complaint)
        address = TransportAddress(self._external_host, external)
        self.mapping = Mapping(
            MappingMethod.UPNP, self.internal, address, self.mapping.lifetime, self._transport
        )
        return self.mapping

    async def delete(self, keep: Container[int] = ()) -> None:
        """Gives the mapping back, also one that the gateway has made but not confirmed in time.

        Nothing is done to the external ports of `keep`, which are held by another protocol: a gateway may
        have one table for all of them.
        """
        mapping, self.mapping = self.mapping, None
        asked, self._asked = self._asked, None
        if (asked if mapping is None else mapping.external.port) in keep:
            return
        if mapping is not None:
            await self._call("DeletePortMapping", **self._entry(mapping.external.port))
        elif asked is not None and await self._leads_here(asked):
            await self._call("DeletePortMapping", **self._entry(asked))

    async def _leads_here(self, port: int) -> bool:
        """Whether the mapping is ours: IGDv1 would delete anybody's."""
        entry = await self._call("GetSpecificPortMappingEntry", **self._entry(port))
        internal = (entry.get("NewInternalClient"), entry.get("NewInternalPort"))
        return internal == (self.internal.host, self.internal.port)

    def _entry(self, port: int) -> dict[str, Any]:
        """What names a mapping in every action."""
        return {"NewRemoteHost": "", "NewExternalPort": port, "NewProtocol": self._transport.upper()}

    async def _add(self, port: int, lifetime: int) -> int:
        """The external port. IGDv2 gives another one by itself where the wanted one is taken."""
        assert self._service is not None
        any_port = self._service.has_action("AddAnyPortMapping")
        self._asked = port
        try:
            answer = await self._call(
                "AddAnyPortMapping" if any_port else "AddPortMapping",
                **self._entry(port),
                NewInternalPort=self.internal.port,
                NewInternalClient=self.internal.host,
                NewEnabled=True,
                NewPortMappingDescription=_DESCRIPTION,
                NewLeaseDuration=lifetime,
            )
        except _Rejected:
            self._asked = None
            raise
        self._asked = int(answer.get("NewReservedPort", port)) if any_port else port
        return self._asked

    async def _call(self, action: str, **arguments: Any) -> dict[str, Any]:
        assert self._service is not None
        if not self._service.has_action(action):
            raise MappingError(f"its device has no action {action}")
        return dict(await _in_our_words(self._service.action(action).async_call(**arguments)))


class _Rejected(MappingError):
    """An error of the device, with the code of the standard."""

    def __init__(self, code: int) -> None:
        super().__init__(_ERRORS.get(code, f"the gateway answered with error {code}"))
        self.code = code


def _complaint(host: str, port: int) -> str:
    try:
        return objection(TransportAddress(host, port))
    except ValueError:
        return f"the gateway gave {host[:40]!r} as its address"


def _connection_of(device: UpnpDevice) -> UpnpService:
    services = {service.service_type: service for service in device.all_services}
    for kind in _CONNECTIONS:
        if kind in services:
            return services[kind]
    raise MappingError("its device maps no ports")


async def _in_our_words(work: Any) -> Any:
    """What may go wrong with a device that anybody may have written, as one MappingError."""
    try:
        async with asyncio.timeout(_SECONDS):
            return await work
    except MappingError:
        raise
    except UpnpActionError as error:
        raise _Rejected(error.error_code or 0) from error
    except TimeoutError:
        raise MappingError(f"no answer within {_SECONDS:g} s") from None
    except (UpnpError, aiohttp.ClientError, OSError) as error:
        raise MappingError(f"its answer is of no use ({type(error).__name__})") from error
    except Exception as error:
        # The XML library, the schema of values and the URL parser all raise what they like at what they read.
        raise MappingError(f"its description is of no use ({type(error).__name__})") from error


class _GatewayRequester(UpnpRequester):
    """What the library asks by: one host and no other, no redirection, and no document without end."""

    def __init__(self, host: str) -> None:
        self._host = host

    async def async_http_request(self, http_request: HttpRequest) -> HttpResponse:
        if not leads_to(http_request.url, self._host):
            raise MappingError(f"it sends us to another host: {http_request.url[:80]!r}")
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session,
            session.request(
                http_request.method,
                http_request.url,
                headers=dict(http_request.headers or {}),
                data=http_request.body,
                allow_redirects=False,
            ) as response,
        ):
            if response.status in range(300, 400):
                raise MappingError("it redirects us elsewhere")
            body = bytearray()
            async for piece in response.content.iter_chunked(16384):
                body += piece
                if len(body) > _MAX_DOCUMENT:
                    raise MappingError(f"its answer goes on past {_MAX_DOCUMENT // 1024} KiB")
            return HttpResponse(response.status, response.headers, body.decode("utf-8", "replace"))
