"""What a relay's operator is told of a call, if the application wants that: classes and a duration."""

import asyncio
import itertools
import json

import pytest
from aiohttp import web
from peerpath import CallError, CallRefused, OutcomeReporter, Path
from peerpath.calls.outcome_reporter import method_of, outcome_record
from peerpath.connection import PathKind
from peerpath.connection.report import AttemptReport, ConnectionReport, RouteReport
from peerpath.ice.report import IceReport, PairEntry, PunchEntry, ServerEntry
from peerpath.nat.behaviour import NatType
from peerpath.signaling import memory_pair
from stunwire import NatClass, Outcome, PathFamily, TraversalMethod, TraversalOutcome
from unit.sdk.calls.people import ALICE, BOB, Person, alice, bob, nothing_left

TRANSPORTS = ["udp", "tcp", "turn-udp", "turn-tcp", "turn-tls", "turn-dtls", "turn-wss", "turn-ws",
              "turn-tls-http", "turn-wss-socks5", "turn-tls-tor"]  # fmt: skip


def pair(local_type="host", remote_type="srflx", state="failed", local="192.0.2.1:5000", **more):
    return PairEntry(
        local, local_type, "203.0.113.9:1", remote_type, state, False, False, 1, 0, None, 0, 0, 0, "", **more
    )


def report_of(*pairs, servers=(), punch=None):
    report = ConnectionReport(BOB.public_key)
    attempt = AttemptReport("dialed", 0)
    attempt.keep(RouteReport(0, 0, "", IceReport("completed", "", 1, servers, (), pairs, punch)))
    report._attempts.append(attempt)
    return report


def record(outcome, path=None, *pairs, seconds=0.25, nat=NatType.SYMMETRIC, peer_nat=NatType.FULL_CONE):
    return outcome_record(outcome, path, report_of(*pairs), seconds, nat, peer_nat)


@pytest.mark.parametrize(("kind", "transport"), list(itertools.product(PathKind, TRANSPORTS)))
def test_every_path_makes_a_record_that_goes_round(kind, transport):
    for local, family in [
        ("192.0.2.1 5000", PathFamily.IPV4),
        ("2001:db8::1 5000", PathFamily.IPV6),
        ("", PathFamily.NONE),
    ]:
        types = ["host", "srflx", "prflx", "relay"]
        pairs = [pair(a, b, s) for a in types for b in types for s in ("succeeded", "failed", "waiting")]
        made = record(Outcome.CONNECTED, Path(kind, transport, 0.01, local), *pairs)
        assert TraversalOutcome.from_json(made.as_json()) == made
        assert made.method is method_of(Path(kind, transport, 0.01, local))
        assert made.family is (PathFamily.NONE if made.method is TraversalMethod.ONION else family)
        assert (made.nat, made.peer_nat) == (NatClass.SYMMETRIC, NatClass.OPEN)
        assert made.duration_ms == 250


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CANCELLED])
def test_without_a_path_the_record_names_what_was_tried(outcome):
    made = record(
        outcome, None, pair(), pair("relay", "host", "in-progress"), pair(local="[2001:db8::1]:5000")
    )
    assert TraversalOutcome.from_json(made.as_json()) == made
    assert made.method is TraversalMethod.NONE
    assert {(tried.method, tried.family) for tried in made.attempts} == {
        (TraversalMethod.SRFLX, PathFamily.IPV4),
        (TraversalMethod.SRFLX, PathFamily.IPV6),
        (TraversalMethod.RELAY_UDP, PathFamily.IPV4),
    }
    if outcome is Outcome.FAILED:
        assert {tried.outcome for tried in made.attempts} == {Outcome.FAILED}


@pytest.mark.parametrize(
    ("facts", "method"),
    [
        ({"local_type": "relay", "way": "turn-udp"}, TraversalMethod.RELAY_UDP),
        ({"local_type": "relay", "way": "turn-tcp"}, TraversalMethod.RELAY_TCP),
        ({"local_type": "relay", "way": "turn-tls"}, TraversalMethod.RELAY_TLS),
        ({"local_type": "relay", "way": "turn-wss"}, TraversalMethod.HTTP),
        ({"local_type": "relay", "way": "turn-tls-socks5"}, TraversalMethod.PROXY),
        ({"local_type": "relay", "way": "turn-tls-tor"}, TraversalMethod.ONION),
        ({"remote_type": "relay"}, TraversalMethod.RELAY_UDP),
        ({"remote_type": "relay", "way": "tcp"}, TraversalMethod.TCP_RELAY),
        ({"local_type": "relay", "way": "turn-tls-tcp"}, TraversalMethod.TCP_RELAY),
        ({"local_type": "relay", "way": "turn-tls-tcp-http"}, TraversalMethod.PROXY),
        ({"way": "tcp"}, TraversalMethod.TCP),
        ({"technique": "portmap"}, TraversalMethod.PORTMAP),
        ({"technique": "birthday"}, TraversalMethod.PREDICTED),
        ({"local_type": "prflx", "remote_type": "host"}, TraversalMethod.PRFLX),
    ],
)
def test_a_method_that_fails_is_told_by_the_name_under_which_it_would_have_connected(facts, method):
    assert [tried.method for tried in record(Outcome.FAILED, None, pair(**facts)).attempts] == [method]


def test_a_pair_that_connected_is_told_once_under_the_method_of_its_path():
    path = Path(PathKind.RELAY, "turn-tls", 0.01, "192.0.2.1 5000")
    made = record(Outcome.CONNECTED, path, pair("relay", state="succeeded", way="turn-tls"))
    assert [(tried.method, tried.outcome) for tried in made.attempts] == [
        (TraversalMethod.RELAY_TLS, Outcome.CONNECTED)
    ]


def test_what_the_router_did_not_map_and_no_guess_hit_has_failed():
    refused = ServerEntry("router", "port mapping", "udp", "192.0.2.1:5000", "", "no answer", 2.0)
    punch = PunchEntry("guess", "predicted", "linear", 1, 9, 0.5, 3.0, "nothing came through")
    report = report_of(pair(state="in-progress"), servers=(refused,), punch=punch)
    made = outcome_record(Outcome.CANCELLED, None, report, 1, NatType.SYMMETRIC, NatType.SYMMETRIC)
    assert {(tried.method, tried.outcome) for tried in made.attempts} == {
        (TraversalMethod.SRFLX, Outcome.CANCELLED),
        (TraversalMethod.PORTMAP, Outcome.FAILED),
        (TraversalMethod.PREDICTED, Outcome.FAILED),
    }


def test_a_path_that_is_gone_by_now_is_no_contradiction():
    assert record(Outcome.CONNECTED, None).outcome is Outcome.CANCELLED


def test_a_call_of_hours_is_within_what_the_record_can_say():
    assert record(Outcome.FAILED, seconds=1e9).duration_ms == 3_600_000


@pytest.mark.parametrize("nat", NatType)
def test_every_class_of_nat_can_be_told(nat):
    record(Outcome.FAILED, nat=nat, peer_nat=nat)


class Operator:
    """The relay's side: keeps what it is told."""

    def __init__(self, status=204):
        self.heard = []
        self._status = status

    async def __aenter__(self):
        application = web.Application()
        application.router.add_post("/v1/outcomes", self._take)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1/outcomes"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    async def _take(self, request):
        self.heard.append((request.headers["Authorization"], await request.text()))
        return web.Response(status=self._status)


async def call(caller, callee, **more):
    there, back = memory_pair()
    async with callee, caller, callee.listen(back), caller.connect(BOB.public_key, there, **more):
        pass


async def test_a_call_is_reported_once_by_the_caller():
    async with Operator() as operator:
        async with nothing_left():
            await call(
                alice(outcomes=OutcomeReporter(operator.url, lambda: "token")),
                bob(outcomes=OutcomeReporter(operator.url, lambda: "other")),
            )
        [(authorization, body)] = operator.heard
    assert authorization == "Bearer token"
    told = TraversalOutcome.from_json(body)
    assert (told.outcome, told.method) == (Outcome.CONNECTED, TraversalMethod.HOST)
    assert told.family in (PathFamily.IPV4, PathFamily.IPV6)
    assert str(ALICE.public_key) not in body
    assert all(secret not in body for secret in ("192.0.2", "127.0.0", str(BOB.public_key)))
    assert set(json.loads(body)) == {
        "version", "outcome", "method", "family", "duration_ms", "nat", "peer_nat", "attempts",
    }  # fmt: skip


async def test_what_came_of_calls_without_a_connection():
    async with Operator() as operator:

        async def token():
            return "token"

        async with Person(ALICE, outcomes=OutcomeReporter(operator.url, token)) as caller:
            there, _ = memory_pair()
            with pytest.raises(CallError):
                await caller.connect(BOB.public_key, there, timeout=0.1)
            with pytest.raises(CallRefused):
                await call(caller, Person(BOB))
        told = [TraversalOutcome.from_json(body).outcome for _, body in operator.heard]
    # A refusal says nothing of the network.
    assert told == [Outcome.FAILED, Outcome.CANCELLED]


@pytest.mark.parametrize("token", [lambda: None, lambda: "", lambda: 1 / 0])
async def test_without_a_token_nothing_is_sent_and_the_call_goes_on(token):
    async with Operator() as operator:
        await call(alice(outcomes=OutcomeReporter(operator.url, token)), bob())
        assert operator.heard == []


@pytest.mark.parametrize("status", [401, 500])
async def test_an_operator_who_does_not_want_it_changes_nothing(status):
    async with Operator(status) as operator:
        await call(alice(outcomes=OutcomeReporter(operator.url, lambda: "token")), bob())
        assert len(operator.heard) == 1


async def test_an_operator_who_is_not_there_holds_nobody_up():
    reporter = OutcomeReporter("http://127.0.0.1:1/v1/outcomes", lambda: "token")
    async with asyncio.timeout(10), nothing_left():
        await call(alice(outcomes=reporter), bob())


@pytest.mark.parametrize(
    ("transport", "proxy", "method"),
    [
        ("udp", "", TraversalMethod.RELAY_UDP),
        ("tls", "", TraversalMethod.RELAY_TLS),
        ("wss", "", TraversalMethod.HTTP),
        ("tls", "http", TraversalMethod.PROXY),
        ("tls", "tor", TraversalMethod.ONION),
    ],
)
def test_a_relay_that_gave_no_address_counts_as_a_method_that_failed(transport, proxy, method):
    refused = ServerEntry("turn:a", "relayed address", transport, "", "", "no answer", 2.0, proxy)
    skipped = ServerEntry("turn:b", "relayed address", "tcp", "", "", "not tried: a relay is there", 0.1)
    made = outcome_record(
        Outcome.FAILED,
        None,
        report_of(servers=(refused, skipped)),
        1.0,
        NatType.SYMMETRIC,
        NatType.UNKNOWN,
    )
    assert [(tried.method, tried.outcome) for tried in made.attempts] == [(method, Outcome.FAILED)]
