"""UpnpClient and devices that may be anybody's program: one clear reason, whatever they answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from peerpath.portmap import Gateway, MappingError
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
