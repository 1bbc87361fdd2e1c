"""The tunnel's URIs, and its WebSocket against the server side of the package websockets, in memory."""

import pytest
from peerpath.net.framings import FramingBroken
from peerpath.turn.tunnel import TunnelFraming, TunnelUri
from stunwire import UriError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

URI = TunnelUri("relay.test", 443)


@pytest.mark.parametrize(
    ("text", "expected", "again"),
    [
        ("wss://relay.test", URI, "wss://relay.test/v1/tunnel"),
        ("WSS://Relay.Test/", URI, "wss://relay.test/v1/tunnel"),
        ("wss://relay.test:8443/x", TunnelUri("relay.test", 8443, True, "/x"), "wss://relay.test:8443/x"),
        ("ws://[::1]:80/v1/tunnel", TunnelUri("::1", 80, False), "ws://[::1]/v1/tunnel"),
    ],
)
def test_uris_are_read_and_written(text, expected, again):
    assert TunnelUri.parse(text) == expected
    assert str(expected) == again


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("https://relay.test", "scheme"),
        ("wss://u:p@relay.test", "host"),
        ("wss://", "host"),
        ("wss://relay.test:99999", "port"),
        ("wss://relay.test/?q=1", "path"),
        ("wss://relay.test/#f", "path"),
        ("wss://bücher.test", "host"),
        ("wss://relay .test", "host"),
        ("wss://relay..test", "host"),
        (f"wss://{'a' * 64}.test", "host"),
        (f"wss://{'.'.join(['b' * 60] * 5)}", "host"),
    ],
)
def test_what_is_no_tunnel_is_refused(text, place):
    with pytest.raises(UriError) as refused:
        TunnelUri.parse(text)
    assert refused.value.place == place


class Server:
    """The other side; `subprotocols` are those that it knows."""

    def __init__(self, subprotocols=("turn",)):
        self.protocol = ServerProtocol(subprotocols=list(subprotocols) or None)

    def agree(self, framing):
        """The bytes with which it answers the client's request."""
        self.protocol.receive_data(framing.begin())
        [request] = self.protocol.events_received()
        assert isinstance(request, Request)
        assert request.path == "/v1/tunnel"
        self.protocol.send_response(self.protocol.accept(request))
        return b"".join(self.protocol.data_to_send())

    def send(self, *frames):
        for frame in frames:
            self.protocol.send_frame(frame)
        return b"".join(self.protocol.data_to_send())

    def received(self, data):
        self.protocol.receive_data(data)
        return [event.data for event in self.protocol.events_received()]


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def framing(server):
    framing = TunnelFraming(URI)
    assert framing.feed(server.agree(framing)) == []
    assert framing.is_open
    return framing


def test_it_opens_when_the_server_has_agreed(server):
    framing = TunnelFraming(URI)
    answer = server.agree(framing)
    for byte in answer[:-1]:
        assert framing.feed(bytes([byte])) == []
        assert not framing.is_open
    framing.feed(answer[-1:])
    assert framing.is_open


def test_a_message_right_behind_the_agreement_is_not_lost(server):
    framing = TunnelFraming(URI)
    assert framing.feed(server.agree(framing) + server.send(Frame(Opcode.BINARY, b"early"))) == [b"early"]


def test_messages_both_ways(server, framing):
    assert server.received(framing.wrap(b"there")) == [b"there"]
    data = server.send(Frame(Opcode.BINARY, b"back"), Frame(Opcode.BINARY, bytes(65_000)))
    frames = []
    for start in range(0, len(data), 1000):
        frames += framing.feed(data[start : start + 1000])
    assert frames == [b"back", bytes(65_000)]


def test_a_message_in_fragments_is_one(server, framing):
    parts = [Frame(Opcode.BINARY, b"a", fin=False), Frame(Opcode.PING, b"?"), Frame(Opcode.CONT, b"b")]
    assert framing.feed(server.send(*parts)) == [b"ab"]
    assert server.received(framing.pending()) == [b"?"]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (Frame(Opcode.TEXT, b"hello"), "text"),
        (Frame(Opcode.BINARY, bytes(70_000)), "rules of WebSocket"),
        (Frame(Opcode.CLOSE, b"\x03\xe9bye"), "closed the tunnel.*bye"),
        (Frame(Opcode.CONT, b""), "rules of WebSocket"),
    ],
)
def test_what_a_relay_does_not_send_ends_it(server, framing, sent, reason):
    with pytest.raises(FramingBroken, match=reason):
        framing.feed(server.send(sent))


def test_garbage_ends_it(framing):
    with pytest.raises(FramingBroken, match="rules of WebSocket"):
        framing.feed(b"\xff" * 100)


def test_fragments_without_end_are_not_kept(server, framing):
    opcodes = [Opcode.BINARY, *[Opcode.CONT] * 100]
    sent = server.send(*(Frame(opcode, bytes(1000), fin=False) for opcode in opcodes))
    with pytest.raises(FramingBroken, match="rules of WebSocket"):
        framing.feed(sent)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404 Not Found where 101 is wanted"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "does not agree"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not agree|rules"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, "does not agree|rules"),
        (b"x" * 20_000, "does not agree|rules"),
    ],
)
def test_a_server_that_does_not_agree(answer, reason):
    framing = TunnelFraming(URI)
    framing.begin()
    with pytest.raises(FramingBroken, match=reason):
        framing.feed(answer)
    assert not framing.is_open


def test_a_server_that_knows_websockets_but_not_turn():
    framing = TunnelFraming(URI)
    with pytest.raises(FramingBroken, match="does not know the subprotocol turn"):
        framing.feed(Server(()).agree(framing))


def test_the_end_is_said(server, framing):
    assert server.received(framing.end()) == [b"\x03\xe8"]
