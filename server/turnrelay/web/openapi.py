"""`/openapi.json`: every route of the HTTP side, described for programs and their writers."""

import json
from collections.abc import Iterable
from importlib import resources
from typing import Any

from aiohttp import web


def description(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document, which is openapi.json beside this file and the running version."""
    document: dict[str, Any] = json.loads(
        resources.files("turnrelay.web").joinpath("openapi.json").read_bytes()
    )
    document["info"]["version"] = version
    return document


class OpenApi:
    """The route, for everybody: what can be asked is no secret."""

    def __init__(self, version: str) -> None:
        self._body = json.dumps(description(version)).encode()

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return (web.get("/openapi.json", self._get),)

    async def close(self) -> None:
        """Nothing stays open."""

    async def _get(self, _: web.Request) -> web.Response:
        return web.Response(body=self._body, content_type="application/json")
