"""UpnpClient and devices that may be anybody's program: one clear reason, whatever they answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from xml.etree import ElementTree

import pytest
from aiohttp import web
from peerpath.net.datagrams import DatagramSocket
from peerpath.portmap import Gateway, Mapping, MappingError, MappingMethod, PortMapper, lease
from stunwire import TransportAddress
from unit.sdk.portmap.gateway_in_memory import pcp_answer
from unit.sdk.portmap.test_hostile_gateways import HOST, INTERNAL, datagram_device, ssdp_answer

pytest.importorskip("async_upnp_client", reason="the extra `upnp` is not installed")

from peerpath.portmap import upnp
from peerpath.portmap.upnp import UpnpClient


@asynccontextmanager
async def web_server(response: bytes, pause: float = 0.0) -> AsyncIterator[int]:
    """Says the same to every request; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(pause)
        writer.write(response)
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def refusal_of_upnp(response: bytes, pause: float = 0.0) -> str:
    async with (
        web_server(response, pause) as port,
        datagram_device(lambda _: ssdp_answer(f"http://{HOST}:{port}/desc.xml")) as ssdp_port,
    ):
        client = UpnpClient(INTERNAL, Gateway(HOST, ssdp_port=ssdp_port, multicast=False))
        with pytest.raises(MappingError) as error:
            await client.find()
        return str(error.value)


BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><root>&c;</root>"""
ELSEWHERE = b"""<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><serviceId>x</serviceId>
<SCPDURL>http://169.254.169.254/latest/meta-data</SCPDURL><controlURL>http://169.254.169.254/</controlURL>
<eventSubURL>/e</eventSubURL></service></serviceList></device></root>"""


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (http(b"\x00\xff\xfegarbage"), "of no use"),
        (http(BOMB), "of no use"),
        (http(b"<html><body>Welcome</body></html>"), "of no use"),
        (http(ELSEWHERE), "maps no ports"),
        (http(b"", "302 Found", "Location: http://169.254.169.254/"), "redirects"),
        (http(b"", "500 Internal Server Error"), "of no use"),
        (http(b"x" * (600 * 1024)), "past 512 KiB"),
        (b"not http at all", "of no use"),
        (b"", "of no use"),
    ],
)
async def test_a_description_that_is_of_no_use_is_one_reason(response: bytes, reason: str) -> None:
    assert reason in await refusal_of_upnp(response)


async def test_a_slow_device_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upnp, "_SECONDS", 0.3)
    assert await refusal_of_upnp(http(b"<root/>"), pause=5) == "no answer within 0.3 s"


# -- what was asked for, and not confirmed -----------------------------------------------------------------

SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"
DESCRIPTION = f"""<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><UDN>uuid:1</UDN><serviceList>
<service><serviceType>{SERVICE}</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<SCPDURL>/scpd.xml</SCPDURL><controlURL>/control</controlURL><eventSubURL>/events</eventSubURL></service>
</serviceList></device></root>"""
ENTRY = {"NewRemoteHost": "string", "NewExternalPort": "ui2", "NewProtocol": "string"}
VALUE = {
    "NewInternalPort": "ui2",
    "NewInternalClient": "string",
    "NewEnabled": "boolean",
    "NewPortMappingDescription": "string",
    "NewLeaseDuration": "ui4",
}
ACTIONS = {
    "GetExternalIPAddress": ({}, {"NewExternalIPAddress": "string"}),
    "AddPortMapping": (ENTRY | VALUE, {}),
    "GetSpecificPortMappingEntry": (ENTRY, VALUE),
    "DeletePortMapping": (ENTRY, {}),
}


def scpd() -> str:
    """What the service can do, as it describes itself."""

    def arguments(names: dict[str, str], direction: str) -> str:
        return "".join(
            f"<argument><name>{name}</name><direction>{direction}</direction>"
            f"<relatedStateVariable>{name}</relatedStateVariable></argument>"
            for name in names
        )

    actions = "".join(
        f"<action><name>{name}</name><argumentList>{arguments(given, 'in')}{arguments(told, 'out')}"
        "</argumentList></action>"
        for name, (given, told) in ACTIONS.items()
    )
    kinds = {name: kind for given, told in ACTIONS.values() for name, kind in (given | told).items()}
    variables = "".join(
        f'<stateVariable sendEvents="no"><name>{name}</name><dataType>{kind}</dataType></stateVariable>'
        for name, kind in kinds.items()
    )
    return (
        '<?xml version="1.0"?><scpd xmlns="urn:schemas-upnp-org:service-1-0"><specVersion><major>1</major>'
        f"<minor>0</minor></specVersion><actionList>{actions}</actionList>"
        f"<serviceStateTable>{variables}</serviceStateTable></scpd>"
    )


class Router:
    """An IGDv1, which deletes for anybody. While it `is_slow`, nobody hears what it has mapped."""

    def __init__(self) -> None:
        self.mappings: dict[str, dict[str, str]] = {}
        self.is_slow = False
        self.mapped = asyncio.Event()
        self._ended = asyncio.Event()

    @asynccontextmanager
    async def found(self) -> AsyncIterator[UpnpClient]:
        """Running, with a client that has found it."""
        async with self.running() as ssdp_port:
            client = UpnpClient(INTERNAL, Gateway(HOST, ssdp_port=ssdp_port, multicast=False))
            await client.find()
            yield client

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        """Its port for searches."""
        app = web.Application()
        app.router.add_get("/desc.xml", partial(_document, DESCRIPTION))
        app.router.add_get("/scpd.xml", partial(_document, scpd()))
        app.router.add_post("/control", self._control)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        try:
            location = f"http://{HOST}:{runner.addresses[0][1]}/desc.xml"
            async with datagram_device(lambda _: ssdp_answer(location)) as ssdp_port:
                yield ssdp_port
        finally:
            self._ended.set()
            await runner.cleanup()

    async def _control(self, request: web.Request) -> web.Response:
        [[call]] = ElementTree.fromstring(await request.text())
        action = call.tag.rpartition("}")[2]
        given = {argument.tag: argument.text or "" for argument in call}
        port = given.get("NewExternalPort", "")
        told: dict[str, str] = {}
        if action == "GetExternalIPAddress":
            told = {"NewExternalIPAddress": "8.8.4.4"}
        elif action == "AddPortMapping":
            self.mappings.setdefault(port, {name: given[name] for name in VALUE})
            self.mapped.set()
            if self.is_slow:
                await self._ended.wait()
        elif action == "GetSpecificPortMappingEntry":
            told = self.mappings[port]
        else:
            del self.mappings[port]
        values = "".join(f"<{name}>{value}</{name}>" for name, value in told.items())
        return _xml(
            '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
            f'<u:{action}Response xmlns:u="{SERVICE}">{values}</u:{action}Response></s:Body></s:Envelope>'
        )


async def _document(text: str, _: web.Request) -> web.Response:
    return _xml(text)


def _xml(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/xml")


async def test_a_mapping_is_made_and_given_back() -> None:
    router = Router()
    async with router.found() as client:
        assert (await client.map()).external == ("8.8.4.4", INTERNAL.port)
        assert router.mappings[str(INTERNAL.port)]["NewInternalClient"] == INTERNAL.host
        await client.delete()
    assert router.mappings == {}


async def test_a_mapping_is_given_back_if_the_call_ends_before_the_router_has_confirmed_it() -> None:
    router = Router()
    router.is_slow = True
    async with router.found() as client:
        mapping = asyncio.ensure_future(client.map())
        await asyncio.wait_for(router.mapped.wait(), 20)
        mapping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await mapping
        await client.delete()
    assert router.mappings == {}


async def test_a_mapping_is_given_back_if_the_router_has_confirmed_it_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    router = Router()
    router.is_slow = True
    async with router.found() as client:
        with monkeypatch.context() as impatient:
            impatient.setattr(upnp, "_SECONDS", 0.3)
            with pytest.raises(MappingError, match="no answer"):
                await client.map()
        assert router.mappings
        await client.delete()
    assert router.mappings == {}


async def test_the_mapping_of_somebody_else_is_left_alone() -> None:
    router = Router()
    router.is_slow = True
    theirs = {"NewInternalClient": "192.0.2.9", "NewInternalPort": "4000", "NewEnabled": "1"}
    router.mappings[str(INTERNAL.port)] = theirs | {
        "NewPortMappingDescription": "a game",
        "NewLeaseDuration": "0",
    }
    async with router.found() as client:
        mapping = asyncio.ensure_future(client.map())
        await asyncio.wait_for(router.mapped.wait(), 20)
        mapping.cancel()
        await asyncio.wait([mapping])
        await client.delete()
    assert router.mappings[str(INTERNAL.port)]["NewPortMappingDescription"] == "a game"


async def test_the_mapping_that_another_protocol_has_won_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Routers may have one table for all protocols: what PCP has made there reads as what UPnP would make."""
    monkeypatch.setattr(lease, "FIRST_WAIT", 2.0)
    router = Router()
    router.is_slow = True
    asked: list[tuple[bytes, TransportAddress]] = []
    told: list[Mapping | None] = []
    pcp = await DatagramSocket.open((HOST, 0))
    pcp.on_datagram = lambda *request: asked.append(request)
    async with router.running() as ssdp_port:
        gateway = Gateway(HOST, port=pcp.local.port, ssdp_port=ssdp_port, multicast=False)
        methods = (MappingMethod.PCP, MappingMethod.UPNP)
        mapper = PortMapper(INTERNAL, gateway, told.append, methods=methods)
        mapper.start()
        async with asyncio.timeout(20):
            await router.mapped.wait()
            request, source = asked[0]
            pcp.send(pcp_answer(request), source)
            while mapper.attempts[1].settled_at is None:
                await asyncio.sleep(0.01)
        kept = list(router.mappings)
        await mapper.close()
    pcp.close()
    assert [mapping.method for mapping in told if mapping is not None] == [MappingMethod.PCP]
    assert kept == [str(INTERNAL.port)]
