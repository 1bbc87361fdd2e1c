"""Proxy: a way out of a network through somebody else's host, by HTTP CONNECT or SOCKS5."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self
from urllib.parse import unquote, urlsplit

from stunwire import TransportAddress

from peerpath.errors import PeerpathError
from peerpath.net.addresses import join_host_port
from peerpath.net.dialing import STAGGER, Dialed, dial
from peerpath.net.http_connect import HttpConnect
from peerpath.net.negotiation import Negotiation, ProxyRefused
from peerpath.net.racing import first_success
from peerpath.net.resolving import Resolver
from peerpath.net.socks5 import Socks5
from peerpath.net.tls_bridge import bridge
from peerpath.net.waits import Waits, within
from peerpath.net.words import in_words

_PIECE = 4096
_DEFAULT_PORTS = {"http": 8080, "https": 443, "socks5": 1080, "socks5h": 1080}
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
    """`host` is a name or a numeric address. With `remote_names` names are left for the proxy to resolve,
    with `secure` it is spoken to inside TLS."""

    kind: ProxyKind
    host: str
    port: int
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    remote_names: bool = True
    secure: bool = False

    @classmethod
    def parse(cls, url: str) -> Self:
        """`http://user:password@host:port`, `https://...`, `socks5h://...`, or `socks5://...`, for
        which names are resolved on this side.

        ValueError saying what to write; it does not repeat the URL, which may hold a password.
        """
        try:
            parts = urlsplit(url.strip() if "://" in url else f"http://{url.strip()}")
            scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
        except ValueError:
            raise ValueError("the proxy's host or port cannot be read: write http://host:port") from None
        if scheme not in _DEFAULT_PORTS:
            raise ValueError(
                "write a proxy as http://host:port, https://host:port, socks5h://host:port or socks5://host:port"
            )
        if not host or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"write a proxy as {scheme}://host:port, with user:password@ before the host")
        username, password = unquote(parts.username or ""), unquote(parts.password or "")
        kind = ProxyKind.HTTP if scheme.startswith("http") else ProxyKind.SOCKS5
        if kind is ProxyKind.SOCKS5 and not _fits_socks(username, password):
            raise ValueError("give a SOCKS proxy a user name and a password, ASCII, up to 255 bytes")
        if kind is ProxyKind.HTTP and ":" in username:
            raise ValueError("the user name of an HTTP proxy has no colon")
        remote_names, secure = scheme != "socks5", scheme == "https"
        return cls(kind, host, port or _DEFAULT_PORTS[scheme], username, password, remote_names, secure)

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
        if self.kind is ProxyKind.HTTP:
            scheme = "https" if self.secure else "http"
        else:
            scheme = "socks5h" if self.remote_names else "socks5"
        return f"{scheme}://{join_host_port((self.host, self.port))}"

    async def connect(self, host: str, port: int, resolver: Resolver, waits: Waits | None = None) -> Dialed:
        """A connection to `host` through the proxy. ProxyError, naming the proxy and what it did."""
        waits = waits or Waits()
        try:
            addresses = await resolver.addresses(self.host, self.port)
            ways = [lambda address=address: self._dial(address, host, port, waits) for address in addresses]
            return await first_success(ways, stagger=STAGGER, discard=Dialed.close)
        except (PeerpathError, OSError) as error:
            raise ProxyError(f"proxy {self}: {error}") from error

    async def _dial(self, proxy: TransportAddress, host: str, port: int, waits: Waits) -> Dialed:
        try:
            negotiation = self._negotiation(host, port)
            dialed = await dial(proxy, waits)
            return await self._negotiate(negotiation, dialed, waits)
        except ProxyRefused as refused:
            raise ProxyError(str(refused)) from refused
        except (ConnectionResetError, BrokenPipeError) as error:
            raise ProxyError("it closed the connection without an answer") from error
        except (OSError, UnicodeError) as error:
            raise ProxyError(in_words(error)) from error

    def _negotiation(self, host: str, port: int) -> Negotiation:
        protocol = HttpConnect if self.kind is ProxyKind.HTTP else Socks5
        return protocol(host, port, self.username, self.password)

    async def _negotiate(self, negotiation: Negotiation, dialed: Dialed, waits: Waits) -> Dialed:
        loop = asyncio.get_running_loop()
        limit = waits.for_answer(dialed.round_trip)
        if self.secure:
            dialed = await self._inside_tls(dialed, limit)
        began, sock = loop.time(), dialed.sock
        try:
            async with within(limit, "answer"):
                await loop.sock_sendall(sock, negotiation.begin())
                while not negotiation.is_done:
                    reply = negotiation.feed(await loop.sock_recv(sock, _PIECE))
                    await loop.sock_sendall(sock, reply)
        except BaseException:
            sock.close()
            raise
        return dialed._replace(round_trip=loop.time() - began)

    async def _inside_tls(self, dialed: Dialed, limit: float) -> Dialed:
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        try:
            async with within(limit, "TLS handshake"):
                reader, writer = await asyncio.open_connection(
                    sock=dialed.sock, ssl=context, server_hostname=self.host
                )
        except BaseException:
            dialed.sock.close()
            raise
        return dialed._replace(sock=bridge(reader, writer))


def _fits_socks(username: str, password: str) -> bool:
    if bool(username) != bool(password):
        return False
    return all(text.isascii() and len(text) <= _LONGEST_SECRET for text in (username, password))
