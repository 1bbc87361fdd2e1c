"""`/v1/outcomes`: SDKs report how an attempt to reach a peer ended, once for each token."""

import asyncio
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Protocol

from aiohttp import web
from stunwire import MAX_OUTCOME_SIZE, DecodeError, TraversalOutcome

from turnrelay.policy.outcome_tokens import OutcomeTokens, Redemption
from turnrelay.web.client_addresses import ClientAddresses

_BODY_SECONDS = 10.0
_BEARER = "bearer "


class Report(Enum):
    """What became of a report; also the label of the metric, and the `error` of the answer."""

    ACCEPTED = "accepted"
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    UNAUTHORIZED = "unauthorized"
    EXPIRED = "expired"
    DUPLICATE = "duplicate"
    RATE_LIMITED = "rate_limited"
    FULL = "full"


class RateLimit(Protocol):
    """How often a source prefix may report."""

    def allow(self, client_host: str, now: float) -> bool: ...


_STATUS = {
    Report.INVALID: 400,
    Report.TOO_LARGE: 413,
    Report.UNAUTHORIZED: 401,
    Report.EXPIRED: 401,
    Report.DUPLICATE: 409,
    Report.RATE_LIMITED: 429,
    Report.FULL: 429,
}
_OF_TOKEN = {
    Redemption.FORGED: (Report.UNAUTHORIZED, "give the token that came with the credential: Bearer TOKEN"),
    Redemption.EXPIRED: (Report.EXPIRED, "the token is too old"),
    Redemption.SPENT: (Report.DUPLICATE, "the token was used: one outcome was reported with it"),
    Redemption.FULL: (Report.FULL, "too many outcomes were reported today; try again later"),
}


class Outcomes:
    """The route. `record` gets each outcome that counts, `count` what became of every report."""

    def __init__(
        self,
        tokens: OutcomeTokens,
        rate_limit: RateLimit,
        clients: ClientAddresses,
        record: Callable[[TraversalOutcome], None],
        count: Callable[[Report], None],
        clock: Callable[[], float],
        unix_time: Callable[[], float],
    ) -> None:
        self._tokens = tokens
        self._rate_limit = rate_limit
        self._clients = clients
        self._record = record
        self._count = count
        self._clock = clock
        self._unix_time = unix_time

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return (web.post("/v1/outcomes", self._post),)

    async def close(self) -> None:
        """Nothing stays open."""

    async def _post(self, request: web.Request) -> web.Response:
        if not self._rate_limit.allow(self._clients.of(request), self._clock()):
            return self._refuse(Report.RATE_LIMITED, "too many reports from this network; try again later")
        token = _bearer(request)
        refused = _OF_TOKEN.get(self._tokens.check(token, self._unix_time()))
        if refused is not None:
            return self._refuse(*refused)
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await _read(request)
        except TimeoutError:
            return self._refuse(Report.INVALID, "the body did not arrive")
        if body is None:
            return self._refuse(Report.TOO_LARGE, f"a record has {MAX_OUTCOME_SIZE} bytes at most")
        try:
            outcome = TraversalOutcome.from_json(body)
        except DecodeError as error:
            return self._refuse(Report.INVALID, str(error), error.place)
        # Only now, so that a record that is refused can be mended and sent again.
        refused = _OF_TOKEN.get(self._tokens.redeem(token, self._unix_time()))
        if refused is not None:
            return self._refuse(*refused)
        self._record(outcome)
        self._count(Report.ACCEPTED)
        return web.Response(status=204)

    def _refuse(self, report: Report, message: str, field: str | None = None) -> web.Response:
        self._count(report)
        answer = {"error": report.value, "message": message}
        if field is not None:
            answer["field"] = field
        headers = {"WWW-Authenticate": "Bearer"} if _STATUS[report] == 401 else None
        return web.json_response(answer, status=_STATUS[report], headers=headers)


def _bearer(request: web.Request) -> str:
    """The token of the Authorization header (RFC 6750), "" without one."""
    header = request.headers.get("Authorization", "")
    return header[len(_BEARER) :].strip() if header.lower().startswith(_BEARER) else ""


async def _read(request: web.Request) -> bytes | None:
    """The body, None if it is too large; no more than that is read."""
    body = b""
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_OUTCOME_SIZE:
            return None
    return body
