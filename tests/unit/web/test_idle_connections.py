"""An HTTP connection is kept for its next request, but not for long, and by no server whose time is over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from turnrelay import __version__
from turnrelay.web import application
from turnrelay.web.application import HttpServer
from turnrelay.web.openapi import OpenApi


@pytest.fixture
async def server(monkeypatch) -> AsyncIterator[HttpServer]:
    monkeypatch.setitem(application._PROTOCOL, "keepalive_timeout", 0.3)
    server = HttpServer([OpenApi(__version__)])
    await server.open("127.0.0.1", 0)
    yield server
    await server.close()


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /openapi.json HTT", b"GET /openapi.json HTTP/1.1\r\nHost: relay.test\r\n"],
    ids=["nothing", "part of a line", "part of a request"],
)
@pytest.mark.parametrize("asked_before", [False, True], ids=["at once", "after a request"])
async def test_a_connection_without_a_whole_request_is_closed(server, said, asked_before):
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        if asked_before:
            writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: relay.test\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.write(said)
        await reader.read()
        writer.close()


@pytest.fixture
async def patient() -> AsyncIterator[HttpServer]:
    """Which waits for requests longer than any test does."""
    server = HttpServer([OpenApi(__version__)])
    await server.open("127.0.0.1", 0)
    yield server
    await server.close()


@pytest.mark.parametrize("asked_before", [False, True], ids=["at once", "after a request"])
async def test_idle_connections_end_when_they_are_closed(patient, asked_before):
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", patient.port)
        if asked_before:
            writer.write(b"HEAD /openapi.json HTTP/1.1\r\nHost: relay.test\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.1)  # until it waits for a request
        patient.close_idle()
        assert await reader.read() == b""
        writer.close()


async def test_who_comes_after_idle_connections_are_closed_is_not_served(patient):
    async with asyncio.timeout(20):
        patient.close_idle()
        reader, writer = await asyncio.open_connection("127.0.0.1", patient.port)
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: relay.test\r\n\r\n")
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
