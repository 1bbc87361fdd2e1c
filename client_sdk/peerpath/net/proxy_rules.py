"""ProxyRules: which proxy, if any, a connection may go through, by the settings or the environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from peerpath.net.addresses import is_numeric
from peerpath.net.proxies import Proxy

# In the order in which they are asked, for connections inside TLS and without; curl's names.
_VARIABLES = {
    True: ("https_proxy", "all_proxy", "http_proxy"),
    False: ("http_proxy", "all_proxy", "https_proxy"),
}


@dataclass(frozen=True, slots=True)
class ProxyRules:
    """`secure` is for connections inside TLS, `plain` for others; those to `exempt` hosts go directly."""

    secure: Proxy | None = None
    plain: Proxy | None = None
    exempt: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> ProxyRules:
        """HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in small letters too, which are stronger.

        A server's CGI scripts get any visitor's Proxy header as HTTP_PROXY, which therefore does not count
        where REQUEST_METHOD is set. ValueError naming a variable that cannot be read.
        """
        found = {secure: _first(environ, names) for secure, names in _VARIABLES.items()}
        exempt = _variable(environ, "no_proxy")[1].replace(",", " ").split()
        return cls(found[True], found[False], tuple(host.lower() for host in exempt))

    @classmethod
    def always(cls, proxy: Proxy) -> ProxyRules:
        return cls(proxy, proxy)

    def proxy_for(self, host: str, port: int, *, secure: bool) -> Proxy | None:
        """The proxy for a connection to `host`, None where it is to go directly or no proxy is known."""
        proxy = self.secure if secure else self.plain
        if proxy is None or any(_covers(entry, host.lower(), port) for entry in self.exempt):
            return None
        return proxy


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> Proxy | None:
    for name in names:
        variable, value = _variable(environ, name)
        if value:
            try:
                return Proxy.parse(value)
            except ValueError as error:
                raise ValueError(f"{variable}: {error}") from None
    return None


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """The name that it goes by, and its value."""
    if value := environ.get(name, "").strip():
        return name, value
    large = name.upper()
    if large == "HTTP_PROXY" and "REQUEST_METHOD" in environ:
        return large, ""
    return large, environ.get(large, "").strip()


def _covers(entry: str, host: str, port: int) -> bool:
    """An entry of NO_PROXY: `*`, a domain and what is below it, an address, a network, any with a port."""
    if entry == "*":
        return True
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and (":" not in name or name.startswith("[")):
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    if is_numeric(host):
        try:
            return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    domain = entry.lstrip("*").lstrip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))
