"""The HTTP side put together from its parts: which features are served, and what each is given."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from turnrelay.observe.metrics import CONTENT_TYPE, Metrics
from turnrelay.policy.credentials import SharedSecrets
from turnrelay.policy.outcome_tokens import OutcomeTokens
from turnrelay.policy.rate_limits import PrefixRateLimit
from turnrelay.settings import Settings
from turnrelay.transports.driver import Driver
from turnrelay.transports.listeners import ListenError, Listeners
from turnrelay.web.application import HttpServer, RouteGroup
from turnrelay.web.health import Health, Readiness
from turnrelay.web.outcomes import Outcomes, Report

_OUTCOME_SLOTS = 4096


@dataclass(frozen=True, slots=True)
class RelayParts:
    """What of a relay the features of the HTTP side may use."""

    settings: Settings
    readiness: Readiness
    metrics: Metrics
    driver: Driver
    listeners: Listeners
    shared_secrets: SharedSecrets
    outcome_tokens: OutcomeTokens


def route_groups(parts: RelayParts) -> Iterator[RouteGroup]:
    """The features that the settings ask for, one a line."""
    yield Health(parts.readiness, parts.metrics.render, CONTENT_TYPE)
    yield _outcomes(parts)


def _outcomes(parts: RelayParts) -> Outcomes:
    limits, traversal = parts.settings.limits, parts.metrics.traversal
    traversal.watch(lambda: parts.outcome_tokens.minted, [report.value for report in Report])
    return Outcomes(
        parts.outcome_tokens,
        PrefixRateLimit(
            limits.outcomes_per_prefix_per_second, limits.outcomes_per_prefix_burst, slots=_OUTCOME_SLOTS
        ),
        traversal.record,
        lambda report: traversal.count_report(report.value),
        time.monotonic,
        time.time,
    )


async def open_http(parts: RelayParts) -> HttpServer | None:
    """The listening HTTP side, None where the settings want none; ListenError names what is in the way."""
    address = parts.settings.http
    if address is None:
        return None
    server = HttpServer(list(route_groups(parts)))
    try:
        await server.open(address.host, address.port)
    except OSError as error:
        await server.close()
        raise ListenError(
            f"cannot serve HTTP on {address.host} port {address.port}: {error.strerror or error}; "
            "choose another --http ADDR:PORT, or --http off"
        ) from error
    return server
