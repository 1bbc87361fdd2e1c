"""What goes wrong on an HTTP connection, and who is told what."""

import asyncio
import json
import socket

import aiohttp
import psutil
import pytest
from aiohttp import web
from support.logs import logged, records
from turnrelay.web import http_protocol
from turnrelay.web.application import HttpServer

SECRET = "what nobody needs to know"


class Routes:
    """Fails in the ways that there are."""

    def routes(self):
        return (
            web.get("/fails", self._fail),
            web.get("/late", self._late),
            web.get("/much", self._much),
            web.post("/reads", self._read),
        )

    async def close(self) -> None:
        """Nothing stays open."""

    async def _fail(self, _: web.Request) -> web.Response:
        raise LookupError(SECRET)

    async def _late(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        raise LookupError(SECRET)

    async def _much(self, _: web.Request) -> web.Response:
        return web.Response(body=bytes(40_000))

    async def _read(self, request: web.Request) -> web.Response:
        return web.Response(body=await request.read())


@pytest.fixture
async def server():
    server = HttpServer([Routes()])
    await server.open("127.0.0.1", 0)
    yield server
    await server.close()


async def answered(server: HttpServer, *pieces: bytes) -> bytes:
    """What comes back until the relay ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_fault_of_ours_is_a_500_in_json_and_a_line_without_its_words(server):
    with logged() as stream:
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                async with session.get(f"http://127.0.0.1:{server.port}/fails") as answer:
                    assert answer.status == 500
                    assert (await answer.json())["error"] == "internal_server_error"
                    assert answer.headers["Server"] == "turnrelay"
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"
                    assert SECRET not in await answer.text()
    [line] = records(stream.getvalue())
    assert (line["level"], line["event"]) == ("error", "HTTP request failed")
    assert "in _fail" in line["exception"]
    assert "LookupError" in line["exception"]
    assert SECRET not in stream.getvalue()


async def test_a_fault_after_an_answer_began_ends_the_connection(server):
    with logged() as stream:
        answer = await answered(server, b"GET /late HTTP/1.1\r\nHost: relay\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"500" not in answer
    [line] = records(stream.getvalue())
    assert line["event"] == "HTTP request failed"


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /reads HTTP/1.1\r\nHost: relay\r\nContent-Length: x\r\n\r\n",
        b"POST /reads HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /fails HTTP/1.1\r\nHost: relay\r\nExpect: \xff\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + bytes(600),
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    ],
    ids=["length", "chunk", "header that is no text", "TLS", "header too long"],
)
async def test_what_is_no_request_is_told_so_in_json_and_nothing_is_logged(server, request_):
    with logged() as stream:
        answer = await asyncio.wait_for(answered(server, request_), 30)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400") or head.startswith(b"HTTP/1.0 400")
    assert json.loads(body)["error"] == "bad_request"
    assert b"Server: turnrelay" in head
    assert b"ython" not in answer
    assert stream.getvalue() == ""


async def test_a_client_that_goes_in_the_middle_is_no_line_in_the_log(server):
    with logged() as stream:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /reads HTTP/1.1\r\nHost: relay\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.transport.abort()
        await asyncio.sleep(0.1)
    assert stream.getvalue() == ""


async def test_a_body_is_taken_as_it_comes(server):
    async with aiohttp.ClientSession() as session:
        url, headers = f"http://127.0.0.1:{server.port}/reads", {"Content-Encoding": "gzip"}
        async with session.post(url, data=b"not inflated", headers=headers) as answer:
            assert (answer.status, await answer.read()) == (200, b"not inflated")


async def test_who_reads_no_answers_is_let_go(server, monkeypatch):
    monkeypatch.setattr(http_protocol, "_ANSWER_SECONDS", 0.3)
    loop, deaf = asyncio.get_running_loop(), []

    def served() -> list[int]:
        connections = psutil.Process().net_connections("tcp")
        return [each.raddr.port for each in connections if each.laddr.port == server.port and each.raddr]

    try:
        # Answers that fill the system's buffers and ours, the system's alone, or both to any degree.
        for count in range(1, 120, 2):
            sock = socket.socket()
            deaf.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", server.port))
            last = b"GET /much HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n"
            await loop.sock_sendall(sock, b"GET /much HTTP/1.1\r\nHost: relay\r\n\r\n" * count + last)
        assert served()
        async with asyncio.timeout(20):
            while served():
                await asyncio.sleep(0.1)
    finally:
        for sock in deaf:
            sock.close()
