"""What carries TURN messages to a server: a datagram socket or a stream, directly or through a proxy."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from stunwire import TransportAddress, TurnUri

from peerpath.errors import ServerError
from peerpath.net.addresses import join_host_port
from peerpath.net.datagrams import DatagramSocket
from peerpath.net.proxies import Proxy, ProxyError
from peerpath.net.resolving import Resolver
from peerpath.net.streams import FrameStream
from peerpath.net.waits import Waits
from peerpath.turn.tunnel import TunnelFraming, TunnelUri

RelayUri = TurnUri | TunnelUri
Carrier = DatagramSocket | FrameStream

_TURN_ALPN, _HTTP_ALPN = "stun.turn", "http/1.1"  # RFC 7443, RFC 7301


def parse_relay_uri(text: str) -> RelayUri:
    """`turn:`, `turns:`, `ws://` or `wss://`; ValueError naming the part at fault."""
    is_tunnel = text.strip().lower().startswith(("ws:", "wss:"))
    return TunnelUri.parse(text) if is_tunnel else TurnUri.parse(text)


def via(uri: RelayUri) -> str:
    """What carries it, in one word: udp, tcp, tls, ws or wss."""
    if isinstance(uri, TunnelUri):
        return uri.scheme
    return "tls" if uri.secure else uri.transport


async def open_carrier(
    uri: RelayUri,
    address: TransportAddress,
    on_frame: Callable[[bytes], None],
    on_closed: Callable[[str], None],
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    local_host: str | None = None,
    proxy: Proxy | None = None,
    resolver: Resolver | None = None,
    waits: Waits | None = None,
) -> Carrier:
    """Connected to `address`, whose host is a name where the proxy resolves it. ServerError saying why not.

    `tls` in place of the rules that this machine's authorities make; the certificate is for `server_name`,
    or the host of `uri`.
    """
    try:
        if uri.transport == "udp":
            local = (local_host or ("::" if ":" in address.host else "0.0.0.0"), 0)
            return await DatagramSocket.open(local, lambda data, _: on_frame(data), remote=address)
        dialed = None if proxy is None else await proxy.connect(*address, resolver or Resolver(), waits)
        return await FrameStream.connect(
            address,
            on_frame,
            on_closed,
            tls=(tls or _usual_tls(uri)) if uri.secure else None,
            server_name=server_name or uri.host,
            local_host=local_host,
            dialed=dialed,
            framing=TunnelFraming(uri) if isinstance(uri, TunnelUri) else None,
            waits=waits,
        )
    except ssl.SSLCertVerificationError as error:
        raise ServerError(str(uri), f"its certificate is not accepted: {error.verify_message}") from error
    except ProxyError as error:
        raise ServerError(str(uri), str(error)) from error
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise ServerError(str(uri), f"{join_host_port(address)}: {reason}") from error


def _usual_tls(uri: RelayUri) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols([_HTTP_ALPN if isinstance(uri, TunnelUri) else _TURN_ALPN])
    return context
