"""The pages: a console for the operator at `/`, a test of the relay at `/test`, and what they are made of."""

import hashlib
from collections.abc import Iterable
from importlib import resources

from aiohttp import web

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
# Everything comes from this server, from files: nothing inline, so injected markup does nothing.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}


class Pages:
    """Static files of the package, read once. They hold no data, so they are for everybody."""

    def __init__(self, with_test_page: bool) -> None:
        self._with_test_page = with_test_page
        self._files = {
            file.name: file.read_bytes()
            for file in resources.files("turnrelay.web").joinpath("static").iterdir()
            if file.name.rpartition(".")[2] in _TYPES
        }

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        yield web.get("/", self._console)
        if self._with_test_page:
            yield web.get("/test", self._test)
        yield web.get("/static/{name}", self._static)

    async def close(self) -> None:
        """Nothing stays open."""

    async def _console(self, request: web.Request) -> web.Response:
        return self._serve(request, "console.html")

    async def _test(self, request: web.Request) -> web.Response:
        return self._serve(request, "test.html")

    async def _static(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._files or name.endswith(".html"):
            raise web.HTTPNotFound
        return self._serve(request, name)

    def _serve(self, request: web.Request, name: str) -> web.Response:
        body = self._files[name]
        tag = hashlib.sha256(body).hexdigest()[:32]
        headers = _HEADERS | {"ETag": f'"{tag}"'}
        if any(etag.value == tag for etag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        kind = _TYPES[name.rpartition(".")[2]]
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)
