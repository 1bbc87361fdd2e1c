"""A gateway that may be anybody's program: one clear reason for each protocol, and nothing waits for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from peerpath.net.datagrams import DatagramSocket
from peerpath.portmap import Gateway, Mapping, MappingError, MappingMethod, PortMapper, lease
from peerpath.portmap.ssdp import location_in
from stunwire import TransportAddress
from unit.sdk.portmap.gateway_in_memory import pcp_answer

HOST = "127.0.0.1"
INTERNAL = TransportAddress(HOST, 4000)
Responder = Callable[[bytes], bytes | None]


@asynccontextmanager
async def datagram_device(respond: Responder) -> AsyncIterator[int]:
    """Answers each datagram, or not; its port."""
    socket = await DatagramSocket.open((HOST, 0))

    def received(data: bytes, source: TransportAddress) -> None:
        answer = respond(data)
        if answer is not None:
            socket.send(answer, source)

    socket.on_datagram = received
    yield socket.local.port
    socket.close()


def ssdp_answer(location: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLocation: {location}\r\n\r\n".encode()


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://192.168.1.77/desc.xml",
        "http://localhost:80/desc.xml",
        "https://127.0.0.1/desc.xml",
        "http://127.0.0.1@evil.example/desc.xml",
        "http://user@127.0.0.1/desc.xml",
        "file:///etc/passwd",
        "http://127.0.0.1:99999/",
        "http://[::1/",
        "",
    ],
)
def test_a_search_is_answered_with_a_place_at_the_gateway_or_not_at_all(location: str) -> None:
    with pytest.raises(MappingError, match="not at the gateway"):
        location_in(ssdp_answer(location), HOST)


def test_what_is_no_answer_to_a_search_is_refused() -> None:
    with pytest.raises(MappingError, match="5000 bytes"):
        location_in(b"x" * 5000, HOST)
    with pytest.raises(MappingError, match="not one of UPnP"):
        location_in(b"NOTIFY * HTTP/1.1\r\n\r\n", HOST)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.6 s instead of 3.75 until a silent gateway is given up."""
    monkeypatch.setattr(lease, "FIRST_WAIT", 0.04)


async def race(
    gateway: Gateway, methods: tuple[MappingMethod, ...]
) -> tuple[list[Mapping | None], list[str]]:
    """What was told of the mapping, and the reasons, once every protocol has come to an end."""
    told: list[Mapping | None] = []
    ended: asyncio.Queue[None] = asyncio.Queue()
    mapper = PortMapper(
        INTERNAL, gateway, told.append, on_attempt=lambda _: ended.put_nowait(None), methods=methods
    )
    mapper.start()
    async with asyncio.timeout(20):
        for _ in methods:
            await ended.get()
    reasons = [attempt.reason for attempt in mapper.attempts]
    await mapper.close()
    return told, reasons


async def test_garbage_by_every_protocol_is_a_reason_for_each() -> None:
    async with datagram_device(lambda _: b"\x07garbage") as port:
        gateway = Gateway(HOST, port=port, ssdp_port=port, multicast=False)
        told, reasons = await race(gateway, tuple(MappingMethod))
    assert told == []
    assert len(reasons) == 3
    said = ("of no use", "not one of UPnP", "install peerpath[upnp]")
    assert all(any(words in reason for words in said) for reason in reasons), reasons


async def test_a_private_address_by_one_protocol_does_not_end_the_race() -> None:
    def respond(data: bytes) -> bytes | None:
        return pcp_answer(data, host="10.0.0.1") if len(data) == 60 else None

    async with datagram_device(respond) as port:
        gateway = Gateway(HOST, port=port, ssdp_port=port, multicast=False)
        told, reasons = await race(gateway, (MappingMethod.PCP, MappingMethod.NAT_PMP))
    assert told == []
    assert reasons == ["its outer address 10.0.0.1 is not public: another NAT is in front of it", "no answer"]


async def test_answers_from_another_port_than_the_gateways_do_not_count() -> None:
    impostor = await DatagramSocket.open((HOST, 0))
    listening = await DatagramSocket.open((HOST, 0))
    listening.on_datagram = lambda data, source: impostor.send(pcp_answer(data), source)
    _, reasons = await race(Gateway(HOST, port=listening.local.port), (MappingMethod.PCP,))
    assert reasons == ["no answer"]
    impostor.close()
    listening.close()
