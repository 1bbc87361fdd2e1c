"""`/v1/events`: the live figures as server-sent events, for the console."""

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from aiohttp import web

from turnrelay.web.answers import refused
from turnrelay.web.live import LiveFigures
from turnrelay.web.operator import OperatorGate

_WATCHERS = 16
_SEND_SECONDS = 10.0


class Events:
    """The route, for the operator: an event `history`, then an event `sample` every two seconds.

    It ends the sampling of the figures it is given when it is closed.
    """

    def __init__(self, figures: LiveFigures, gate: OperatorGate) -> None:
        self._figures = figures
        self._gate = gate
        self._watchers: set[asyncio.Task[Any]] = set()

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return (web.get("/v1/events", self._gate.guarded(self._get)),)

    async def close(self) -> None:
        self._figures.close()
        watchers = list(self._watchers)
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if len(self._watchers) >= _WATCHERS:
            message = f"{_WATCHERS} are watching already; close one."
            return refused(503, "too_many_watchers", message, {"Retry-After": "10"})
        task = asyncio.current_task()
        assert task is not None
        self._watchers.add(task)
        try:
            return await self._stream(request)
        finally:
            self._watchers.discard(task)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # else nginx keeps the events to itself for a while
            }
        )
        await response.prepare(request)
        with suppress(TimeoutError, ConnectionError), self._figures.watching():
            await _send(response, "history", {"samples": self._figures.history(), **self._figures.now()})
            # Checked each time: a stream must not outlive the session that it was opened with.
            while self._gate.refusal(request) is None:
                sample = await self._figures.next_sample()
                await _send(response, "sample", {"sample": sample, **self._figures.now()})
        return response


async def _send(response: web.StreamResponse, event: str, data: object) -> None:
    async with asyncio.timeout(_SEND_SECONDS):
        await response.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())
