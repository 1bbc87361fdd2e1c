"""One aiohttp application from the routes of many features, and the listener that serves it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from aiohttp import web

from turnrelay.web.answers import errors_as_json

_MAX_BODY = 64 * 1024
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


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
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    # Else aiohttp tells the versions of itself and of Python.
    response.headers["Server"] = "turnrelay"


class HttpServer:
    """An application on the relay's own event loop. Its features are closed by whoever made them."""

    def __init__(self, groups: Sequence[RouteGroup]) -> None:
        self._runner = web.AppRunner(
            application(groups), access_log=None, handle_signals=False, shutdown_timeout=0.5
        )
        self.port = 0
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

    async def open(self, host: str, port: int) -> None:
        """Starts listening; raises OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.port = self._runner.addresses[0][1]
        self.authority = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    async def protocol_factory(self) -> Callable[[], asyncio.Protocol]:
        """What serves connections that somebody else accepts."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        return server

    async def close(self) -> None:
        """Ends every connection."""
        await self._runner.cleanup()
