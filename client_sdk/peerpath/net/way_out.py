"""The way to a host that the settings or the environment name: directly, through a proxy, or through Tor."""

from __future__ import annotations

from urllib.parse import urlsplit

from peerpath.net.dialing import Dial, Dialed, dial_host
from peerpath.net.proxies import Proxy
from peerpath.net.resolving import Resolver
from peerpath.net.waits import Waits
from peerpath.settings import Settings

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_TOR_WAITS = Waits(answer=60.0)


def dial_for(url: str, settings: Settings) -> Dial:
    """For Rendezvous(dial=...). With `onion_only` it is through Tor, with circuits of its own.

    SettingsError for a proxy in the environment that cannot be read.
    """
    if settings.onion_only:
        return _through(Proxy.tor(settings.tor).isolated(b"rendezvous"), _TOR_WAITS)
    target = urlsplit(url)
    port = target.port or _DEFAULT_PORTS.get(target.scheme, 0)
    secure = target.scheme in ("https", "wss")
    proxy = settings.proxy_rules().proxy_for(target.hostname or "", port, secure=secure)
    return dial_host if proxy is None else _through(proxy, Waits())


def _through(proxy: Proxy, waits: Waits) -> Dial:
    async def dial(host: str, port: int) -> Dialed:
        resolver = Resolver()
        if not proxy.remote_names:
            host = (await resolver.addresses(host, port))[0].host
        return await proxy.connect(host, port, resolver, waits)

    return dial
