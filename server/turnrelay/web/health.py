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
    """The routes: `/metrics` for Prometheus, `/healthz` (it runs), `/readyz` (it takes new clients)."""

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
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        self.port = 0
        self.authority = ""
        """Host and port as they stand in a URL."""

    async def open(self, host: str, port: int) -> None:
        """Starts listening; raises OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.port = self._runner.addresses[0][1]
        self.authority = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    async def close(self) -> None:
        await self._runner.cleanup()
