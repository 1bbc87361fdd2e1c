"""What carries TURN messages to a server: a datagram socket or a stream, directly or through a proxy."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from stunwire import TransportAddress, TurnUri, UriError

from peerpath.errors import ServerError
from peerpath.net.addresses import join_host_port
from peerpath.net.datagrams import DatagramSocket
from peerpath.net.dialing import Dialed, dial
from peerpath.net.proxies import Proxy, ProxyError
from peerpath.net.resolving import Resolver
from peerpath.net.streams import FrameStream
from peerpath.net.waits import Waits, within
from peerpath.net.words import in_words
from peerpath.turn.tunnel import TunnelFraming, TunnelUri

RelayUri = TurnUri | TunnelUri
Carrier = DatagramSocket | FrameStream

_TURN_ALPN, _HTTP_ALPN = "stun.turn", "http/1.1"  # RFC 7443, RFC 7301


def parse_relay_uri(text: str) -> RelayUri:
    """`turn:`, `turns:`, `ws://` or `wss://`; ValueError naming the part at fault."""
    scheme = text.strip().partition(":")[0].lower()
    if scheme not in ("turn", "turns", "ws", "wss"):
        raise UriError("scheme", "begin with turn:, turns:, wss:// or ws://")
    is_tunnel = scheme in ("ws", "wss")
    return TunnelUri.parse(text) if is_tunnel else TurnUri.parse(text)


def via(uri: RelayUri) -> str:
    """What carries it, in one word: udp, tcp, tls, ws or wss."""
    if isinstance(uri, TunnelUri):
        return uri.scheme
    return "tls" if uri.secure else uri.transport


def meets_tcp_peers(uri: RelayUri) -> bool:
    """Whether an allocation there can be one for TCP: its control connection is TCP or TLS (RFC 6062 4.1)."""
    return not isinstance(uri, TunnelUri) and uri.transport == "tcp"


@dataclass(frozen=True, slots=True)
class Way:
    """How one server is reached, for its control connection and for those that carry data (RFC 6062).

    `address` is where: its host is a name where the proxy resolves it. `tls` stands in place of the rules
    that this machine's authorities make; the certificate is for `server_name`, or the host of `uri`.
    """

    uri: RelayUri
    address: TransportAddress
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    local_host: str | None = None
    proxy: Proxy | None = None
    resolver: Resolver | None = None
    waits: Waits = field(default_factory=Waits)

    async def open(self, on_frame: Callable[[bytes], None], on_closed: Callable[[str], None]) -> Carrier:
        """What carries the control connection. ServerError saying why there is none."""
        with self._in_words():
            if self.uri.transport == "udp":
                local = (self.local_host or ("::" if ":" in self.address.host else "0.0.0.0"), 0)
                return await DatagramSocket.open(local, lambda data, _: on_frame(data), remote=self.address)
            return await FrameStream.connect(
                self.address,
                on_frame,
                on_closed,
                tls=self._tls(),
                server_name=self.server_name or self.uri.host,
                local_host=self.local_host,
                dialed=await self._through_proxy(),
                framing=TunnelFraming(self.uri) if isinstance(self.uri, TunnelUri) else None,
                waits=self.waits,
            )

    async def open_stream(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """One more TCP or TLS connection to the server. ServerError saying why there is none."""
        tls, loop = self._tls(), asyncio.get_running_loop()
        server_name = (self.server_name or self.uri.host) if tls is not None else None
        with self._in_words():
            dialed = await self._through_proxy() or await dial(self.address, self.waits, self.local_host)
            try:
                async with within(self.waits.for_answer(dialed.round_trip), "TLS handshake"):
                    transport, _ = await loop.create_connection(
                        lambda: protocol, sock=dialed.sock, ssl=tls, server_hostname=server_name
                    )
            except BaseException:
                dialed.sock.close()
                raise
        return transport

    def _tls(self) -> ssl.SSLContext | None:
        return (self.tls or _usual_tls(self.uri)) if self.uri.secure else None

    async def _through_proxy(self) -> Dialed | None:
        if self.proxy is None:
            return None
        return await self.proxy.connect(*self.address, self.resolver or Resolver(), self.waits)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            raise ServerError(str(self.uri), in_words(error)) from error
        except ProxyError as error:
            raise ServerError(str(self.uri), str(error)) from error
        except (OSError, UnicodeError) as error:
            reason = f"{join_host_port(self.address)}: {in_words(error)}"
            raise ServerError(str(self.uri), reason) from error


def _usual_tls(uri: RelayUri) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols([_HTTP_ALPN if isinstance(uri, TunnelUri) else _TURN_ALPN])
    return context
