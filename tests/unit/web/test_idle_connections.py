"""An HTTP connection is kept for its next request, but not for long."""

import asyncio
from collections.abc import AsyncIterator

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
