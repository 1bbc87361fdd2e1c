"""One aiohttp application from the routes of many features, and the listener that serves it."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from aiohttp import web

from turnrelay.web.answers import add_headers, errors_as_json
from turnrelay.web.http_protocol import HttpProtocol

_BACKLOG = 128
_MAX_BODY = 64 * 1024
_IDLE_SECONDS = 150.0
"""That a connection may last without a whole request. Proxies in front keep theirs for 60 to 120, and whoever
is to send the next request had better be the one who closes."""
_PROTOCOL: dict[str, Any] = {
    "access_log": None,
    # Requests are small, and what inflates would have to be bounded again.
    "auto_decompress": False,
    "keepalive_timeout": _IDLE_SECONDS,
}

# It would tell, with the client's address, of each client that asks for another subprotocol.
logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)


class RouteGroup(Protocol):
    """One feature of the HTTP side: a file of its own in this folder."""

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Its routes; asked for once."""

    async def close(self) -> None:
        """Ends what it keeps open (WebSockets, event streams, tasks)."""


def application(groups: Sequence[RouteGroup]) -> web.Application:
    """The routes of all the groups in one application."""
    app = web.Application(middlewares=[errors_as_json], client_max_size=_MAX_BODY)
    app.on_response_prepare.append(_add_headers)
    for group in groups:
        app.add_routes(group.routes())
    return app


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    add_headers(response)


class HttpServer:
    """An application on the relay's own event loop. Its features are closed by whoever made them."""

    def __init__(self, groups: Sequence[RouteGroup]) -> None:
        self._runner = web.AppRunner(application(groups), shutdown_timeout=0.5)
        self._listening: asyncio.Server | None = None
        self._is_over = False
        self.port = 0
        self.sock: socket.socket | None = None
        """What it listens on, if it is open."""
        self.authority = ""
        """Host and port as they stand in a URL."""

    @property
    def routes(self) -> set[tuple[str, str]]:
        """Method and path of every route; the HEAD that comes with each GET is left out."""
        return {
            (route.method, route.resource.canonical)
            for route in self._runner.app.router.routes()
            if route.resource is not None and route.method != "HEAD"
        }

    async def open(self, host: str, port: int, given: socket.socket | None = None) -> None:
        """Starts listening; raises OSError. `given` is a listening socket that somebody else opened."""
        make_protocol = await self.protocol_factory()
        self.sock = given or listening_socket(host, port)
        # The loop closes what it listens on, where this may be handed to another process.
        self._listening = await asyncio.get_running_loop().create_server(
            make_protocol, sock=self.sock.dup(), backlog=_BACKLOG
        )
        self.port = self.sock.getsockname()[1]
        self.authority = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    async def protocol_factory(self) -> Callable[[], asyncio.Protocol]:
        """What serves connections that somebody else accepts."""
        await self._runner.setup()
        assert self._runner.server is not None
        return partial(self._make_protocol, self._runner.server)

    async def stop_listening(self) -> None:
        """Accepts nobody any more."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.close()
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()

    def close_idle(self) -> None:
        """Ends connections that have no request under way, and those that are still to come."""
        self._is_over = True
        if self._runner.server is not None:
            self._runner.server.pre_shutdown()

    async def close(self) -> None:
        """Ends every connection."""
        await self.stop_listening()
        await self._runner.cleanup()

    def _make_protocol(self, server: web.Server) -> HttpProtocol:
        protocol = HttpProtocol(server, loop=asyncio.get_running_loop(), **_PROTOCOL)
        if self._is_over:  # a TLS connection of a shared port may tell late that it is HTTP
            protocol.force_close()
        return protocol


def listening_socket(host: str, port: int) -> socket.socket:
    """Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    sock.setblocking(False)
    return sock
