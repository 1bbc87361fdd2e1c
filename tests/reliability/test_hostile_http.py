"""What a running relay answers to HTTP that nobody should send, and what it writes down of it."""

import http.client
import json
import signal
import socket
import ssl
import struct
from collections.abc import Iterator
from email.message import Message

import pytest
from support.ports import loopback_address
from support.relay import Access, Site
from support.turnrelay_server import TurnRelayServer

HTTP_PORT, SHARED = 9641, 443
TOKEN = "the-token-of-the-operator"
KEY = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TurnRelayServer]:
    with loopback_address() as address:
        site = Site.prepare(tmp_path_factory.mktemp("hostile"), address)
        flags = ["--shared", f"{address}:{SHARED}", "--operator-token", TOKEN, "--log-format", "json"]
        with TurnRelayServer(site, Access(), flags=flags) as server:
            server.process.wait_until(lambda: "Data directory" in server.process.output())
            yield server


@pytest.fixture(autouse=True)
def _the_log_is_clean(relay: TurnRelayServer) -> Iterator[None]:
    """Every line of it is JSON and names nobody, and there is no fault of the relay's among them."""
    before = len(relay.process.output())
    yield
    assert relay.get("/readyz")[0] == 200
    text = relay.process.output()[before:]
    for line in text.splitlines():
        record = json.loads(line)
        assert record["level"] == "info", record
    assert relay.site.address not in text
    assert "Traceback" not in text


def asked(relay: TurnRelayServer, *pieces: bytes, port: int = HTTP_PORT) -> tuple[int, Message, bytes]:
    """Status, headers and body of what comes back, on a connection of its own."""
    with socket.create_connection((relay.site.address, port), timeout=30) as plain:
        sock = plain if port == HTTP_PORT else over_tls(relay, plain)
        for piece in pieces:
            sock.sendall(piece)
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        return answer.status, answer.headers, answer.read()


def over_tls(relay: TurnRelayServer, sock: socket.socket) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(relay.site.certificates.authority))
    return context.wrap_socket(sock, server_hostname=relay.site.address)


def request(line: str, *headers: bytes, body: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return line.encode() + b" HTTP/1.1\r\nHost: relay\r\n" + length + b"".join(headers) + b"\r\n" + body


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (request("GET /v1/sessions", b"Authorization: Bearer \xff\r\n"), 401),
        (request("GET /v1/sessions", b"Cookie: turnrelay_session=\xff\r\n"), 401),
        (request("POST /v1/login", body=b'{"token": "\\ud800"}'), 401),
        (request("GET /v1/login", b"Cookie: turnrelay_session=\xff\r\n"), 200),
        (
            request("POST /v1/logout", b"Sec-Fetch-Site: same-origin\r\nCookie: turnrelay_session=\xff\r\n"),
            200,
        ),
        (request("POST /v1/outcomes", b"Authorization: Bearer \xff\r\n"), 401),
    ],
    ids=["bearer", "cookie", "login", "who", "logout", "outcome"],
)
def test_a_token_that_is_no_text_is_a_wrong_token(relay, sent, expected):
    status, _, body = asked(relay, sent)
    assert status == expected, body
    json.loads(body)


MALFORMED = {
    "length": request("POST /v1/login", b"Content-Length: x\r\n"),
    "negative length": request("POST /v1/login", b"Content-Length: -1\r\n"),
    "two lengths": request("POST /v1/login", b"Content-Length: 1\r\nContent-Length: 2\r\n"),
    "length and chunks": request("POST /v1/login", b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
    "chunk": request("POST /v1/login", b"Transfer-Encoding: chunked\r\n") + b"zz\r\n",
    "header name": request("GET /", b"\xff: x\r\n"),
    "null byte": request("GET /", b"X: \x00\r\n"),
    "long header": request("GET /", b"X: " + b"x" * 70_000 + b"\r\n"),
    "many headers": request("GET /", b"X: x\r\n" * 5000),
    "long path": request("GET /" + "x" * 70_000),
    "version": b"GET / HTTP/9.9\r\n\r\n",
    "no path": b"GET\r\n\r\n",
    "expectation": request("GET /", b"Expect: \xff\r\n"),
    "upgrade": request("GET /v1/tunnel", b"Upgrade: \xff\r\nConnection: Upgrade\r\n"),
}


@pytest.mark.parametrize("port", [HTTP_PORT, SHARED])
@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_request_is_told_so_and_tells_no_versions(relay, sent, port):
    status, headers, body = asked(relay, sent, port=port)
    assert 400 <= status < 500, body
    assert json.loads(body)["error"]
    assert headers["Server"] == "turnrelay"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/v1/tunnel", "/v1/rendezvous"])
@pytest.mark.parametrize(
    "headers",
    [
        UPGRADE + KEY + b"Sec-WebSocket-Protocol: somebody's, else's\r\n",
        UPGRADE + KEY,
        UPGRADE + b"Sec-WebSocket-Key: \xc3\xa9\r\n",
        UPGRADE + b"Sec-WebSocket-Key: \xff\r\n",
        UPGRADE.replace(b"13", b"\xff") + KEY,
        UPGRADE.replace(b"websocket", b"h2c") + KEY,
    ],
    ids=["subprotocol", "none", "key", "key that is no text", "version", "another protocol"],
)
def test_a_websocket_that_cannot_be_is_refused_in_json(relay, path, headers):
    host = relay.site.address.encode()
    sent = b"GET " + path.encode() + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + headers + b"\r\n"
    status, _, body = asked(relay, sent)
    assert status in (400, 426), body
    assert json.loads(body)["error"]


def test_a_client_that_goes_with_its_request_is_no_fault_of_ours(relay):
    context = ssl.create_default_context(cafile=str(relay.site.certificates.authority))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=relay.site.address)
    with socket.create_connection((relay.site.address, SHARED), timeout=30) as sock:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        tls.write(request("GET /"))
        # The end of the handshake, the request and the end of the connection come at once.
        relay.process.signal(signal.SIGSTOP)
        sock.sendall(outgoing.read())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    relay.process.signal(signal.SIGCONT)
