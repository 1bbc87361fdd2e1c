"""The operator at the door: a bearer token for programs, a session cookie for the console."""

from collections.abc import Callable, Iterable

import structlog
from aiohttp import web

from turnrelay.policy.operator_access import SESSION_SECONDS, OperatorAccess, TooManyLogins
from turnrelay.web.answers import BadRequest, Handler, read_object, refused
from turnrelay.web.client_addresses import ClientAddresses

_COOKIE = "turnrelay_session"
_SAFE_METHODS = ("GET", "HEAD")


class OperatorGate:
    """Lets the operator in, and nobody else. `/v1/login` gives a browser a session, `/v1/logout` ends it."""

    def __init__(self, access: OperatorAccess, clients: ClientAddresses, clock: Callable[[], float]) -> None:
        self._access = access
        self._clients = clients
        self._clock = clock
        self._log = structlog.get_logger()

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return (
            web.get("/v1/login", self._who),
            web.post("/v1/login", self._log_in),
            web.post("/v1/logout", self._log_out),
        )

    async def close(self) -> None:
        """Nothing stays open."""

    def guarded(self, handler: Handler) -> Handler:
        """The handler for the operator alone: 401 for anybody else, 403 for a request of another site."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            refusal = self.refusal(request)
            return await handler(request) if refusal is None else refusal

        return guarded

    def refusal(self, request: web.Request) -> web.Response | None:
        """Why the request is not the operator's, None if it is."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._access.knows(token.strip()):
            return None
        if not self._has_session(request):
            return refused(
                401,
                "unauthorized",
                "The operator's token is needed: Authorization: Bearer TOKEN (turnrelay token prints it).",
                {"WWW-Authenticate": "Bearer"},
            )
        # The cookie comes by itself, so a page of another site could have sent what changes something.
        if request.method not in _SAFE_METHODS and not _is_same_origin(request):
            return refused(403, "other_origin", "The request comes from a page of another site.")
        return None

    async def _who(self, request: web.Request) -> web.Response:
        return web.json_response({"logged_in": self._has_session(request)})

    async def _log_in(self, request: web.Request) -> web.Response:
        token = (await read_object(request, {"token": str})).get("token")
        if token is None:
            raise BadRequest("token: expected the operator's token (turnrelay token prints it)")
        try:
            session = self._access.log_in(token.strip(), self._clients.of(request), self._clock())
        except TooManyLogins:  # no line of the log, whose number would have no limit
            message = "Too many attempts; try again in a few seconds."
            return refused(429, "too_many_logins", message, {"Retry-After": "5"})
        if session is None:
            self._log.info("operator login refused", reason="wrong_token")
            return refused(401, "wrong_token", "This is not the operator's token.")
        self._log.info("operator logged in")
        answer = web.json_response({"logged_in": True})
        answer.set_cookie(
            _COOKIE,
            session,
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=request.secure or request.headers.get("X-Forwarded-Proto") == "https",
        )
        return answer

    async def _log_out(self, request: web.Request) -> web.Response:
        if not _is_same_origin(request):
            return refused(403, "other_origin", "The request comes from a page of another site.")
        self._access.log_out(request.cookies.get(_COOKIE, ""))
        answer = web.json_response({"logged_in": False})
        answer.del_cookie(_COOKIE)
        return answer

    def _has_session(self, request: web.Request) -> bool:
        session = request.cookies.get(_COOKIE)
        return session is not None and self._access.is_logged_in(session, self._clock())


def _is_same_origin(request: web.Request) -> bool:
    """Whether the browser says that a page of this very server sent the request."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return request.headers.get("Origin", "").partition("://")[2] == request.host
