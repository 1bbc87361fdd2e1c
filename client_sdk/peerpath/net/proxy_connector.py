"""ProxyConnector: HTTP and WebSockets of aiohttp through any Proxy, with names resolved at its far end.

aiohttp's own proxies are HTTP ones alone. This is the one file that relies on what aiohttp does not document:
that a connector makes connections in `_create_connection`, with the protocols of `_factory`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from peerpath.net.proxies import Proxy, ProxyError
from peerpath.net.resolving import Resolver
from peerpath.settings import Settings

_SECURE = ("https", "wss")


class ProxyConnector(aiohttp.BaseConnector):
    """Every connection of its own goes through `proxy`."""

    def __init__(self, proxy: Proxy, resolver: Resolver | None = None) -> None:
        super().__init__(force_close=True)
        self._proxy = proxy
        self._resolver = resolver or Resolver()

    async def _create_connection(self, req: aiohttp.ClientRequest, *_: Any) -> ResponseHandler:
        host, port = req.url.host, req.url.port
        assert host is not None
        assert port is not None
        tls: ssl.SSLContext | None = None
        if req.url.scheme in _SECURE:
            tls = req.ssl if isinstance(req.ssl, ssl.SSLContext) else ssl.create_default_context()
        try:
            target = host
            if not self._proxy.remote_names:
                target = (await self._resolver.addresses(host, port))[0].host
            sock = await self._proxy.connect(target, port, self._resolver)
        except ProxyError as error:
            raise aiohttp.ClientConnectionError(str(error)) from error
        _transport, protocol = await self._loop.create_connection(
            self._factory, sock=sock, ssl=tls, server_hostname=host if tls is not None else None
        )
        return protocol


def connector_for(url: str, settings: Settings) -> Callable[[], aiohttp.BaseConnector] | None:
    """For Rendezvous(connector=...): the way out that the settings or the environment name, None if direct.

    With `onion_only` it is Tor. SettingsError for a proxy in the environment that cannot be read.
    """
    target = URL(url)
    secure = target.scheme in _SECURE
    if settings.onion_only:
        proxy: Proxy | None = Proxy.tor(settings.tor).isolated(b"rendezvous")
    else:
        proxy = settings.proxy_rules().proxy_for(target.host or "", target.port or 0, secure=secure)
    if proxy is None:
        return None
    chosen = proxy
    return lambda: ProxyConnector(chosen)
