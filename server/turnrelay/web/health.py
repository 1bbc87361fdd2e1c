"""`/metrics` for Prometheus, `/healthz` (it runs), `/readyz` (it takes new clients)."""

from collections.abc import Callable, Iterable

from aiohttp import web


class Readiness:
    """Whether new clients should be sent here."""

    def __init__(self, others: Callable[[], bool] = lambda: True) -> None:
        """`others` tells whether the other processes of the relay are ready."""
        self.takes_clients = False
        self.draining = False
        """Whether it is to stop when its last client has gone."""
        self._others = others

    @property
    def ready(self) -> bool:
        return self.takes_clients and self._others()


class Health:
    """What machines ask the relay about itself, without authentication."""

    def __init__(
        self, readiness: Readiness, render_metrics: Callable[[], bytes], metrics_content_type: str
    ) -> None:
        self._readiness = readiness
        self._render_metrics = render_metrics
        self._metrics_headers = {"Content-Type": metrics_content_type}

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return (
            web.get("/metrics", self._metrics),
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
        )

    async def close(self) -> None:
        """Nothing stays open."""

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._render_metrics(), headers=self._metrics_headers)

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._readiness.ready:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "not ready"}, status=503)
