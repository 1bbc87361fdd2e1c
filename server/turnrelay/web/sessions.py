"""`/v1/sessions`: the live allocations, listed, inspected and ended."""

from collections.abc import Iterable

from aiohttp import web

from turnrelay.web.answers import BadRequest, refused
from turnrelay.web.operator import OperatorGate
from turnrelay.web.whole_relay import WholeRelay

_DEFAULT_LIMIT, _MAX_LIMIT = 100, 500


class Sessions:
    """The routes, for the operator."""

    def __init__(self, relay: WholeRelay, gate: OperatorGate) -> None:
        self._relay = relay
        self._gate = gate

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        guarded = self._gate.guarded
        return (
            web.get("/v1/sessions", guarded(self._list)),
            web.get("/v1/sessions/{id}", guarded(self._inspect)),
            web.delete("/v1/sessions/{id}", guarded(self._delete)),
        )

    async def close(self) -> None:
        """Nothing stays open."""

    async def _list(self, request: web.Request) -> web.Response:
        limit, after = _limit(request.query.get("limit")), _cursor(request.query.get("after"))
        page = await self._relay.sessions(limit, after)
        following = None if page.next is None else repr(page.next)
        return web.json_response({"sessions": page.sessions, "total": page.total, "next": following})

    async def _inspect(self, request: web.Request) -> web.Response:
        session = await self._relay.session(request.match_info["id"])
        return _not_found() if session is None else web.json_response(session)

    async def _delete(self, request: web.Request) -> web.Response:
        ended = await self._relay.end(request.match_info["id"])
        return web.Response(status=204) if ended else _not_found()


def _limit(text: str | None) -> int:
    if text is None:
        return _DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MAX_LIMIT):
        raise BadRequest(f"limit: expected 1 to {_MAX_LIMIT}")
    return int(text)


def _cursor(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise BadRequest("after: expected the value of next in the page before") from None


def _not_found() -> web.Response:
    return refused(404, "no_such_session", "There is no such session; it may have ended by itself.")
