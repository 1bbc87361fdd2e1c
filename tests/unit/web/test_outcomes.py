"""`/v1/outcomes` over a real socket."""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

import aiohttp
import pytest
from jsonschema import Draft202012Validator
from prometheus_client import CollectorRegistry, generate_latest
from stunwire import (
    MAX_OUTCOME_SIZE,
    MethodAttempt,
    NatClass,
    Outcome,
    PathFamily,
    TraversalMethod,
    TraversalOutcome,
)
from support.metrics import parse
from turnrelay.observe.traversal import TraversalMetrics
from turnrelay.policy.outcome_tokens import LIFETIME_SECONDS, OutcomeTokens
from turnrelay.policy.rate_limits import PrefixRateLimit
from turnrelay.web.application import HttpServer
from turnrelay.web.client_addresses import ClientAddresses
from turnrelay.web.openapi import description
from turnrelay.web.outcomes import Outcomes, Report

RELAYED = TraversalOutcome(
    Outcome.CONNECTED,
    TraversalMethod.RELAY_TLS,
    PathFamily.IPV4,
    duration_ms=1800,
    nat=NatClass.SYMMETRIC,
    peer_nat=NatClass.BLOCKED,
    attempts=(
        MethodAttempt(TraversalMethod.SRFLX, Outcome.FAILED, PathFamily.IPV4),
        MethodAttempt(TraversalMethod.RELAY_TLS, Outcome.CONNECTED, PathFamily.IPV4),
    ),
)


class Site:
    """The route on a loopback port, with a clock that the test moves."""

    def __init__(self, burst: int = 100) -> None:
        self.now = 1_800_000_000.0
        self.tokens = OutcomeTokens(["secret"], capacity=50)
        self.registry = CollectorRegistry()
        self.metrics = TraversalMetrics(self.registry)
        self.metrics.watch(lambda: self.tokens.minted, [report.value for report in Report])
        self.counted: Counter[Report] = Counter()
        self.server = HttpServer(
            [
                Outcomes(
                    self.tokens,
                    PrefixRateLimit(0.001, burst),
                    ClientAddresses(["127.0.0.0/8"]),
                    self.metrics.record,
                    self._count,
                    lambda: self.now,
                    lambda: self.now,
                )
            ]
        )

    def _count(self, report: Report) -> None:
        self.counted[report] += 1
        self.metrics.count_report(report.value)

    def scrape(self):
        return parse(generate_latest(self.registry).decode())

    async def post(
        self, body: object, token: str | None = None, scheme: str = "Bearer", forwarded_for: str = ""
    ) -> tuple[int, dict]:
        headers = {} if token is None else {"Authorization": f"{scheme} {token}"}
        if forwarded_for:
            headers["X-Forwarded-For"] = forwarded_for
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://{self.server.authority}/v1/outcomes", data=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json() if answer.status != 204 else {}


@asynccontextmanager
async def serving(**options: int):
    site = Site(**options)
    await site.server.open("127.0.0.1", 0)
    try:
        yield site
    finally:
        await site.server.close()


async def test_an_outcome_is_counted_in_every_figure():
    async with serving() as site:
        assert await site.post(RELAYED.as_json(), site.tokens.mint(site.now)) == (204, {})
        page = site.scrape()
    assert (
        page.total(
            "turnrelay_traversal_sessions_total", outcome="connected", method="relay_tls", family="ipv4"
        )
        == page.total("turnrelay_traversal_sessions_total")
        == 1
    )
    methods = "turnrelay_traversal_method_outcomes_total"
    assert page.total(methods, method="srflx", family="ipv4", outcome="failed") == 1
    assert page.total(methods, method="relay_tls", family="ipv4", outcome="connected") == 1
    assert page.total(methods) == 2
    pairs = "turnrelay_traversal_nat_pairs_total"
    assert page.total(pairs, pair="symmetric-blocked", outcome="connected") == page.total(pairs) == 1
    seconds = "turnrelay_traversal_duration_seconds"
    assert page.total(f"{seconds}_sum", method="relay_tls") == 1.8
    assert page.total(f"{seconds}_count") == 1
    assert page.total("turnrelay_credentials_issued_total") == 1
    assert page.total("turnrelay_traversal_reports_total", result="accepted") == 1


async def test_a_failed_attempt_counts_and_has_no_duration_of_setting_up():
    failed = TraversalOutcome(Outcome.FAILED, TraversalMethod.NONE, PathFamily.NONE, duration_ms=9)
    async with serving() as site:
        assert await site.post(failed.as_json(), site.tokens.mint(site.now)) == (204, {})
        page = site.scrape()
    assert page.total("turnrelay_traversal_sessions_total", outcome="failed", method="none") == 1
    assert page.total("turnrelay_traversal_duration_seconds_count") == 0


async def test_series_are_there_before_the_first_report():
    async with serving() as site:
        page = site.scrape()
    pairs = {dict(labels)["pair"] for name, labels in page.samples if name.endswith("nat_pairs_total")}
    assert len(pairs) == 15
    results = [labels for name, labels in page.samples if name.endswith("reports_total")]
    assert len(results) == len(Report)


async def test_a_token_counts_once():
    async with serving() as site:
        token = site.tokens.mint(site.now)
        assert (await site.post(RELAYED.as_json(), token))[0] == 204
        status, answer = await site.post(RELAYED.as_json(), token)
        assert (status, answer["error"]) == (409, "duplicate")
        assert site.scrape().total("turnrelay_traversal_sessions_total") == 1


async def test_of_reports_at_the_same_time_with_one_token_one_counts():
    async with serving() as site:
        token = site.tokens.mint(site.now)
        answers = await asyncio.gather(*(site.post(RELAYED.as_json(), token) for _ in range(10)))
        assert sorted(status for status, _ in answers) == [204] + [409] * 9


async def test_a_refused_record_leaves_the_token_good_and_names_the_field():
    async with serving() as site:
        token = site.tokens.mint(site.now)
        status, answer = await site.post(RELAYED.as_json().replace("relay_tls", "magic"), token)
        assert (status, answer["error"], answer["field"]) == (400, "invalid", "method")
        assert "magic" not in answer["message"]
        assert (await site.post(RELAYED.as_json(), token))[0] == 204


@pytest.mark.parametrize("token", [None, "", "A" * 44])
async def test_without_a_token_of_this_relay_nothing_is_taken(token):
    async with serving() as site:
        status, answer = await site.post(RELAYED.as_json(), token)
        assert (status, answer["error"]) == (401, "unauthorized")
        good = site.tokens.mint(site.now)
        assert (await site.post(RELAYED.as_json(), good, scheme="Basic"))[0] == 401
        assert site.scrape().total("turnrelay_traversal_sessions_total") == 0


async def test_an_old_token_is_refused():
    async with serving() as site:
        token = site.tokens.mint(site.now)
        site.now += LIFETIME_SECONDS + 1
        status, answer = await site.post(RELAYED.as_json(), token)
        assert (status, answer["error"]) == (401, "expired")


async def test_a_large_body_is_refused_however_it_is_sent():
    async def in_pieces():
        for _ in range(20):
            yield b" " * 1024

    async with serving() as site:
        token = site.tokens.mint(site.now)
        assert (await site.post(" " * (MAX_OUTCOME_SIZE + 1), token))[0] == 413
        assert (await site.post(in_pieces(), token))[0] == 413
        assert site.counted[Report.TOO_LARGE] == 2


async def test_a_prefix_that_reports_too_often_is_slowed_down():
    async with serving(burst=3) as site:
        statuses = [(await site.post("{}", "x"))[0] for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        assert site.counted == {Report.UNAUTHORIZED: 3, Report.RATE_LIMITED: 2}


async def test_behind_a_trusted_proxy_each_prefix_has_its_own_share():
    async with serving(burst=1) as site:
        hosts = ["198.51.100.1", "198.51.100.2", "203.0.113.9"]
        statuses = [(await site.post("{}", "x", forwarded_for=host))[0] for host in hosts]
        assert statuses == [401, 429, 401]


async def test_when_no_more_tokens_can_be_remembered_reports_wait():
    async with serving() as site:
        for _ in range(50):
            site.tokens.redeem(site.tokens.mint(site.now), site.now)
        status, answer = await site.post(RELAYED.as_json(), site.tokens.mint(site.now))
        assert (status, answer["error"]) == (429, "full")


def test_the_description_of_the_api_has_the_record_as_it_is():
    schema = description("1")["components"]["schemas"]["TraversalOutcome"]
    validator = Draft202012Validator(schema)
    record = json.loads(RELAYED.as_json())
    validator.validate(record)
    assert set(schema["required"]) == set(schema["properties"]) == set(record)
    for name, enum in (
        ("outcome", Outcome),
        ("method", TraversalMethod),
        ("family", PathFamily),
        ("nat", NatClass),
        ("peer_nat", NatClass),
    ):
        assert schema["properties"][name]["enum"] == [member.value for member in enum]
    for name, value in (("method", "magic"), ("duration_ms", -1), ("attempts", [{}]), ("more", 1)):
        assert not validator.is_valid({**record, name: value})
