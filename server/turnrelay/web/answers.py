"""The forms that requests and answers of the API share: JSON objects, and errors that say what to mend."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

_BODY_SECONDS = 10.0
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BadRequest(Exception):
    """The request cannot be carried out as it is; the message names the field."""


def add_headers(response: web.StreamResponse) -> None:
    """What every answer carries."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    # Else aiohttp tells the versions of itself and of Python.
    response.headers["Server"] = "turnrelay"


def refused(status: int, error: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """`{"error": "a_code", "message": "What happened, and what to do."}`."""
    return web.json_response({"error": error, "message": message}, status=status, headers=headers)


async def read_object(request: web.Request, fields: Mapping[str, type]) -> dict[str, Any]:
    """The JSON object of a body with these fields and no others, all optional; no body is an empty one.

    BadRequest names the field that is wrong.
    """
    if not request.can_read_body:
        return {}
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            body = json.loads(await request.read())
    except TimeoutError:
        raise BadRequest("the body did not arrive") from None
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or nested without end
        raise BadRequest("the body is no JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("the body is no JSON object")
    for name, value in body.items():
        kind = fields.get(name)
        if kind is None:
            raise BadRequest(f"there is no field {name!r}; expected {', '.join(fields)}")
        # True is an int to Python and to nobody else.
        if not isinstance(value, kind) or isinstance(value, bool):
            raise BadRequest(f"{name}: expected {_WORDS[kind]}")
    return body


_WORDS = {str: "a text", int: "a whole number"}


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What aiohttp refuses by itself, and BadRequest, in the form of `refused`."""
    try:
        return await handler(request)
    except BadRequest as error:
        return refused(400, "bad_request", str(error))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        headers = error.headers.copy()
        for name in ("Content-Type", "Content-Length"):  # of the body that is left out
            headers.popall(name, None)
        code = error.reason.lower().replace(" ", "_")
        return refused(error.status, code, error.text or error.reason, headers)
