"""Proxy: a way out of a network through somebody else's host, by HTTP CONNECT or SOCKS5."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self
from urllib.parse import unquote, urlsplit

from python_socks import ProxyError as SocksError
from python_socks import ProxyType
from python_socks.async_.asyncio import Proxy as SocksProxy
from stunwire import TransportAddress

from peerpath.errors import PeerpathError
from peerpath.net.addresses import family_of, join_host_port, to_socket
from peerpath.net.http_connect import ConnectAnswer, ConnectRefused, connect_request
from peerpath.net.racing import first_success
from peerpath.net.resolving import Resolver

_STAGGER = 0.25
_PIECE = 4096
_DEFAULT_PORTS = {"http": 8080, "socks5": 1080, "socks5h": 1080}
_LONGEST_SECRET = 255  # RFC 1929 section 2


class ProxyError(PeerpathError):
    """A proxy that gives no connection, and why."""


class ProxyKind(StrEnum):
    """The values are what reports and paths say."""

    HTTP = "http"
    SOCKS5 = "socks5"
    TOR = "tor"


@dataclass(frozen=True, slots=True)
class Proxy:
    """`host` is a name or a numeric address. With `remote_names` names are left for the proxy to resolve."""

    kind: ProxyKind
    host: str
    port: int
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    remote_names: bool = True

    @classmethod
    def parse(cls, url: str) -> Self:
        """`http://user:password@host:port`, `socks5h://...`, or `socks5://...` to resolve names here.

        ValueError saying what to write; it does not repeat the URL, which may hold a password.
        """
        try:
            parts = urlsplit(url.strip() if "://" in url else f"http://{url.strip()}")
            scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
        except ValueError:
            raise ValueError("the proxy's host or port cannot be read: write http://host:port") from None
        if scheme not in _DEFAULT_PORTS:
            raise ValueError("write a proxy as http://host:port, socks5h://host:port or socks5://host:port")
        if not host or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"write a proxy as {scheme}://host:port, with user:password@ before the host")
        username, password = unquote(parts.username or ""), unquote(parts.password or "")
        kind = ProxyKind.HTTP if scheme == "http" else ProxyKind.SOCKS5
        if kind is ProxyKind.SOCKS5 and not _fits_socks(username, password):
            raise ValueError("give a SOCKS proxy a user name and a password, ASCII, up to 255 bytes")
        if kind is ProxyKind.HTTP and ":" in username:
            raise ValueError("the user name of an HTTP proxy has no colon")
        return cls(kind, host, port or _DEFAULT_PORTS[scheme], username, password, scheme != "socks5")

    @classmethod
    def tor(cls, url: str) -> Self:
        """Tor's SOCKS port, as `socks5h://127.0.0.1:9050`: names are never resolved here. ValueError."""
        proxy = cls.parse(url)
        if proxy.kind is not ProxyKind.SOCKS5 or not proxy.remote_names:
            raise ValueError("write Tor's SOCKS port as socks5h://127.0.0.1:9050")
        return replace(proxy, kind=ProxyKind.TOR)

    def isolated(self, purpose: bytes) -> Self:
        """The same for one purpose: Tor gives each user name and password circuits of their own
        (IsolateSOCKSAuth, its default), so that nobody at the other end can link two of them."""
        digest = hashlib.sha256(purpose).hexdigest()
        return replace(self, username=digest[:32], password=digest[32:])

    def __str__(self) -> str:
        scheme = "http" if self.kind is ProxyKind.HTTP else "socks5h" if self.remote_names else "socks5"
        return f"{scheme}://{join_host_port((self.host, self.port))}"

    async def connect(self, host: str, port: int, resolver: Resolver) -> socket.socket:
        """A connection to `host` through the proxy, non-blocking. ProxyError; how long it may take is the
        caller's business."""
        try:
            addresses = await resolver.addresses(self.host, self.port)
            attempts = [lambda address=address: self._dial(address, host, port) for address in addresses]
            return await first_success(attempts, stagger=_STAGGER)
        except (PeerpathError, OSError) as error:
            raise ProxyError(f"proxy {self}: {error}") from error

    async def _dial(self, proxy: TransportAddress, host: str, port: int) -> socket.socket:
        if self.kind is ProxyKind.HTTP:
            return await self._dial_http(proxy, host, port)
        socks = SocksProxy(
            ProxyType.SOCKS5, proxy.host, proxy.port, self.username or None, self.password or None, rdns=True
        )
        try:
            return await socks.connect(host, port)
        except SocksError as error:
            raise ProxyError(str(error)) from error

    async def _dial_http(self, proxy: TransportAddress, host: str, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        sock = socket.socket(family_of(proxy.host), socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, to_socket(proxy))
            await loop.sock_sendall(sock, connect_request(host, port, self.username, self.password))
            answer = ConnectAnswer(has_credentials=bool(self.username))
            while not answer.feed(await loop.sock_recv(sock, _PIECE)):
                pass
        except ConnectRefused as refused:
            sock.close()
            raise ProxyError(str(refused)) from refused
        except BaseException:
            sock.close()
            raise
        return sock


def _fits_socks(username: str, password: str) -> bool:
    if bool(username) != bool(password):
        return False
    return all(text.isascii() and len(text) <= _LONGEST_SECRET for text in (username, password))
