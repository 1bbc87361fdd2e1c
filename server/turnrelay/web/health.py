"""The HTTP side: /metrics, /healthz, /readyz."""

from collections.abc import Callable

from aiohttp import web


class Readiness:
    """Whether new clients should be sent here."""

    def __init__(self) -> None:
        self.ready = False


def application(
    readiness: Readiness, render_metrics: Callable[[], bytes], content_type: str
) -> web.Application:
    """The routes: `/metrics` for Prometheus, `/healthz` (the process answers), `/readyz` (it serves clients)."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render_metrics(), headers={"Content-Type": content_type})

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        if readiness.ready:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "not ready"}, status=503)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app


class HttpServer:
    """The HTTP listener on the relay's own event loop."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)

    async def open(self, host: str, port: int) -> None:
        """Starts listening; raises OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, shutdown_timeout=0.5).start()

    async def close(self) -> None:
        await self._runner.cleanup()
