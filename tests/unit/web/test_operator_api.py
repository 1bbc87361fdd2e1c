"""The operator's API of a whole relay, over real sockets: who may ask, and what comes back."""

import asyncio
import json
import re
from email.utils import parsedate_to_datetime

import pytest
from openapi_spec_validator import validate
from peerpath.turn.connection import TurnRefused
from support.logs import logged, records
from support.relay_in_process import operated_relay
from turnrelay import __version__
from turnrelay.policy.outcome_tokens import OutcomeTokens, Redemption
from turnrelay.policy.time_limited import rest_password

SECRET = "north-north-north-north"
GUARDED = [
    ("POST", "/v1/credentials"),
    ("GET", "/v1/sessions"),
    ("GET", "/v1/sessions/000000000000"),
    ("DELETE", "/v1/sessions/000000000000"),
    ("GET", "/v1/events"),
    ("POST", "/v1/test"),
]


@pytest.fixture
async def relay(tmp_path):
    async with operated_relay(tmp_path / "data", shared_secrets=[SECRET]) as relay:
        yield relay


# -- who may ask ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize("token", [None, "", "a wrong token of some length"])
async def test_nothing_without_the_token(relay, method, path, token):
    status, answer = await relay.ask(method, path, token=token)
    assert (status, answer["error"]) == (401, "unauthorized")


async def test_the_token_is_made_once_and_private(tmp_path):
    tokens = []
    for _ in range(2):
        async with operated_relay(tmp_path / "data") as relay:
            tokens.append(relay.token)
            assert (await relay.as_operator("GET", "/v1/sessions"))[0] == 200
    assert tokens[0] == tokens[1]
    assert (tmp_path / "data" / "operator-token").stat().st_mode & 0o777 == 0o600


async def test_a_configured_token_takes_the_place_of_the_file(tmp_path):
    token = "configured-by-the-operator"
    async with operated_relay(tmp_path / "data", operator_token=token, shared_secrets=[SECRET]) as relay:
        assert (await relay.ask("GET", "/v1/sessions", token=token))[0] == 200
    assert not (tmp_path / "data" / "operator-token").exists()


async def test_a_relay_that_cannot_keep_a_token_relays_and_has_no_operator(tmp_path):
    (tmp_path / "data").write_text("in the way of a directory")
    async with operated_relay(tmp_path / "data" / "deeper", shared_secrets=[SECRET]) as relay:
        assert (await relay.ask("GET", "/readyz"))[0] == 200
        assert (await relay.ask("GET", "/v1/sessions", token=""))[0] == 401
        assert (await relay.ask("POST", "/v1/login", {"token": ""}))[0] == 401


async def _log_in(relay) -> str:
    answer = await relay.http.post(f"{relay.base}/v1/login", json={"token": relay.token})
    assert answer.status == 200
    return answer.headers["Set-Cookie"]


async def test_a_browser_logs_in_and_out(relay):
    cookie = await _log_in(relay)
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert relay.token not in cookie
    assert await relay.ask("GET", "/v1/login") == (200, {"logged_in": True})
    assert (await relay.ask("GET", "/v1/sessions"))[0] == 200
    here = {"Origin": relay.base}
    assert (await relay.ask("POST", "/v1/logout", headers={"Origin": "http://elsewhere.example"}))[0] == 403
    assert (await relay.ask("POST", "/v1/logout", headers=here))[0] == 200
    assert await relay.ask("GET", "/v1/login") == (200, {"logged_in": False})
    assert (await relay.ask("GET", "/v1/sessions"))[0] == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 404),
    ],
)
async def test_a_session_changes_nothing_for_pages_of_other_sites(relay, headers, status):
    await _log_in(relay)
    answer = await relay.ask("DELETE", "/v1/sessions/000000000000", headers=headers)
    assert answer[0] == status


async def test_guesses_at_the_token_are_few_and_so_are_their_lines_in_the_log(relay):
    with logged() as stream:
        guesses = [(await relay.ask("POST", "/v1/login", {"token": "guess"}))[0] for _ in range(15)]
    assert guesses[0] == 401
    assert guesses[-1] == 429
    lines = [(line["event"], line["reason"]) for line in records(stream.getvalue())]
    assert lines == [("operator login refused", "wrong_token")] * guesses.count(401)


async def test_behind_a_trusted_proxy_one_network_guesses_for_itself_alone(tmp_path):
    async with operated_relay(tmp_path, trusted_proxy=["127.0.0.0/8"]) as relay:
        for _ in range(15):
            await relay.ask("POST", "/v1/login", {"token": "x"}, headers={"X-Forwarded-For": "203.0.113.9"})
        guess, right = {"token": "x"}, {"token": relay.token}
        statuses = [
            (await relay.ask("POST", "/v1/login", body, headers={"X-Forwarded-For": client}))[0]
            for body, client in ((guess, "203.0.113.9"), (right, "203.0.113.9"), (right, "198.51.100.7"))
        ]
    assert statuses == [429, 429, 200]


# -- credentials ------------------------------------------------------------------------------------------


async def _mint(relay, **asked):
    status, minted = await relay.as_operator("POST", "/v1/credentials", asked)
    assert status == 201, minted
    assert OutcomeTokens([SECRET]).check(minted.pop("outcome_token"), 0) is Redemption.GOOD
    return minted


@pytest.mark.parametrize("dialect", ["rest", "matrix"])
async def test_the_form_of_the_rest_draft_and_of_matrix(relay, dialect):
    minted = await _mint(relay, name="@alice:example.org", ttl=600, format=dialect)
    assert list(minted) == ["username", "password", "ttl", "uris"]
    assert re.fullmatch(r"\d{10}:@alice:example\.org", minted["username"])
    assert minted["password"] == rest_password(SECRET, minted["username"])
    assert minted["ttl"] == 600
    assert minted["uris"] == [f"turn:{relay.address}:3478?transport={over}" for over in ("udp", "tcp")]


async def test_the_form_of_cloudflare(relay):
    minted = await _mint(relay, format="cloudflare")
    [stun, turn] = minted["iceServers"]
    assert stun == {"urls": [f"stun:{relay.address}:3478"]}
    assert turn["credential"] == rest_password(SECRET, turn["username"])
    assert turn["urls"] == [f"turn:{relay.address}:3478?transport={over}" for over in ("udp", "tcp")]


async def test_the_form_of_twilio(relay):
    minted = await _mint(relay, format="twilio", ttl=7200)
    assert minted["ttl"] == "7200"
    assert minted["password"] == rest_password(SECRET, minted["username"])
    assert parsedate_to_datetime(minted["date_created"]).tzinfo is not None
    stun, *turn = minted["ice_servers"]
    assert stun == {"url": f"stun:{relay.address}:3478", "urls": f"stun:{relay.address}:3478"}
    assert {server["credential"] for server in turn} == {minted["password"]}
    assert all(server["url"] == server["urls"] for server in turn)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"ttl": 0}, "ttl"),
        ({"ttl": 86401}, "ttl"),
        ({"ttl": "60"}, "ttl"),
        ({"ttl": True}, "ttl"),
        ({"name": 7}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"name": "line\nbreak"}, "name"),
        ({"format": "xml"}, "format"),
        ({"nam": "alice"}, "nam"),
        ([], "object"),
    ],
)
async def test_what_cannot_be_minted_is_told_by_its_field(relay, asked, names):
    status, answer = await relay.as_operator("POST", "/v1/credentials", asked)
    assert (status, answer["error"]) == (400, "bad_request")
    assert names in answer["message"]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 60_000, "application/json", 400),
        (b'{"token": "x"}', "application/json; charset=nonsense", 401),
        (b'{"token": "x"}', "text/plain", 401),
        (b" " * 70_000, "application/json", 413),
    ],
)
async def test_a_body_that_is_none_is_told_and_no_fault_of_ours(relay, body, content_type, status):
    headers = {"Content-Type": content_type}
    async with relay.http.post(f"{relay.base}/v1/login", data=body, headers=headers) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]
        assert answer.headers["Server"] == "turnrelay"


async def test_no_body_is_an_anonymous_credential(relay):
    assert (await relay.as_operator("POST", "/v1/credentials"))[0] == 201


async def test_a_relay_without_a_secret_mints_nothing(tmp_path):
    async with operated_relay(tmp_path, users=["alice:wonderland"]) as relay:
        status, answer = await relay.as_operator("POST", "/v1/credentials")
        assert (status, answer["error"]) == (409, "no_shared_secret")


# -- sessions ---------------------------------------------------------------------------------------------


async def test_sessions_are_listed_page_by_page_without_saying_whose(relay):
    clients = [await relay.allocation(f"user-{number}") for number in range(5)]
    seen, after = [], ""
    while after is not None:
        _, page = await relay.as_operator("GET", f"/v1/sessions?limit=2{after and '&after=' + after}")
        assert page["total"] == 5
        seen += page["sessions"]
        after = page["next"]
    assert len({session["id"] for session in seen}) == len(seen) == 5
    for word in ("user-", relay.address):
        assert word not in json.dumps(seen)
    assert {session["transport"] for session in seen} == {"udp"}
    for client in clients:
        await client.close()
    assert (await relay.as_operator("GET", "/v1/sessions"))[1]["total"] == 0


async def test_sessions_in_full_where_the_operator_asks_for_that(tmp_path):
    async with operated_relay(tmp_path, session_details="full") as relay:
        client = await relay.allocation("alice")
        _, page = await relay.as_operator("GET", "/v1/sessions")
        [session] = page["sessions"]
        assert session["account"] == "alice"
        assert session["client"] == f"{client.local.host}:{client.local.port}"
        [relayed] = client.client.relayed
        assert session["relayed"] == [f"{relayed.host}:{relayed.port}"]
        await client.close()


async def test_ending_a_session_frees_its_port_and_its_quota(relay, tmp_path):
    client = await relay.allocation()
    [session] = (await relay.as_operator("GET", "/v1/sessions"))[1]["sessions"]
    path = f"/v1/sessions/{session['id']}"
    assert (await relay.as_operator("GET", path))[1]["id"] == session["id"]
    metrics = await (await relay.http.get(f"{relay.base}/metrics")).text()
    assert "turnrelay_relay_ports_in_use 1.0" in metrics
    assert await relay.as_operator("DELETE", path) == (204, None)
    metrics = await (await relay.http.get(f"{relay.base}/metrics")).text()
    assert "turnrelay_relay_ports_in_use 0.0" in metrics
    assert 'turnrelay_allocations_ended_total{reason="operator"} 1.0' in metrics
    for method in ("GET", "DELETE"):
        status, answer = await relay.as_operator(method, path)
        assert (status, answer["error"]) == (404, "no_such_session")
    client.abort()


async def test_a_quota_is_free_again_after_the_operator_ended_the_session(tmp_path):
    limits = {"allocations_per_user": 1}
    async with operated_relay(tmp_path, limits=limits) as relay:
        first = await relay.allocation()
        [session] = (await relay.as_operator("GET", "/v1/sessions"))[1]["sessions"]
        await relay.as_operator("DELETE", f"/v1/sessions/{session['id']}")
        second = await relay.allocation()
        first.abort()
        await second.close()


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "limit=-1", "after=x"])
async def test_a_page_that_cannot_be_is_refused(relay, query):
    assert (await relay.as_operator("GET", f"/v1/sessions?{query}"))[0] == 400


# -- events -----------------------------------------------------------------------------------------------


async def _events(answer):
    """Name and data of the events of a stream, as they come."""
    name = ""
    async for line in answer.content:
        text = line.decode().rstrip("\n")
        if text.startswith("event: "):
            name = text.removeprefix("event: ")
        elif text.startswith("data: "):
            yield name, json.loads(text.removeprefix("data: "))


async def test_events_tell_of_sessions_and_failures(relay):
    client = await relay.allocation()
    headers = {"Authorization": f"Bearer {relay.token}"}
    async with asyncio.timeout(15), relay.http.get(f"{relay.base}/v1/events", headers=headers) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        events = _events(answer)
        name, history = await anext(events)
        assert name == "history"
        assert history["node"]["version"] == __version__
        assert history["node"]["ready"] is True
        name, update = await anext(events)
        assert name == "sample"
        assert update["sample"]["sessions"] == {"udp": 1, "tcp": 0, "tls": 0, "websocket": 0}
        with pytest.raises(TurnRefused):
            await relay.allocation(password="wrong")
        async for _, update in events:
            if update["failures"]:
                break
        [failure] = update["failures"]
        assert (failure["kind"], failure["reason"]) == ("authentication", "wrong_password")
    await client.close()


async def test_figures_of_the_past_are_there_for_who_comes_later(relay):
    headers = {"Authorization": f"Bearer {relay.token}"}
    for expected in (1, 3):
        async with asyncio.timeout(15), relay.http.get(f"{relay.base}/v1/events", headers=headers) as answer:
            events = _events(answer)
            _, history = await anext(events)
            times = [sample["at"] for sample in history["samples"]]
            assert len(times) >= expected
            assert times == sorted(times)
            for _ in range(2):
                _, update = await anext(events)
                assert update["sample"]["at"] >= times[-1] + 1


async def test_a_stream_ends_with_the_session_that_it_was_opened_with(relay):
    await _log_in(relay)
    async with asyncio.timeout(15), relay.http.get(f"{relay.base}/v1/events") as answer:
        assert answer.status == 200
        await relay.ask("POST", "/v1/logout", headers={"Origin": relay.base})
        async for _ in _events(answer):
            pass


async def test_watchers_are_few_and_make_room_when_they_leave(relay):
    headers = {"Authorization": f"Bearer {relay.token}"}
    watching = [await relay.http.get(f"{relay.base}/v1/events", headers=headers) for _ in range(16)]
    assert {answer.status for answer in watching} == {200}
    assert (await relay.as_operator("GET", "/v1/events"))[0] == 503
    watching.pop().close()
    async with asyncio.timeout(15):
        while True:
            answer = await relay.http.get(f"{relay.base}/v1/events", headers=headers)
            answer.close()
            if answer.status == 200:
                break
            await asyncio.sleep(0.2)
    for answer in watching:
        answer.close()


# -- the test page's credential ---------------------------------------------------------------------------


async def test_an_open_test_is_for_everybody_at_a_low_rate(tmp_path):
    async with operated_relay(tmp_path, test_page="open") as relay:
        assert await relay.ask("GET", "/v1/test") == (200, {"allowed": True})
        status, first = await relay.ask("POST", "/v1/test")
        assert status == 201
        assert first["ttl"] <= 180
        statuses = {(await relay.ask("POST", "/v1/test"))[0] for _ in range(15)}
        assert statuses == {201, 429}


async def test_a_test_that_is_off_is_not_there(tmp_path):
    async with operated_relay(tmp_path, test_page="off") as relay:
        for method, path in (("GET", "/test"), ("POST", "/v1/test")):
            assert (await relay.ask(method, path, token=relay.token))[0] == 404


# -- the description --------------------------------------------------------------------------------------


async def test_every_route_is_described_and_nothing_else(relay, tmp_path):
    status, document = await relay.ask("GET", "/openapi.json")
    assert status == 200
    validate(document)
    assert document["info"]["version"] == __version__
    described = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method in ("get", "post", "put", "delete")
    }
    assert described == relay.routes


async def test_what_is_not_there_is_told_in_json(relay):
    assert (await relay.ask("GET", "/nowhere"))[1]["error"] == "not_found"
    assert (await relay.ask("PUT", "/v1/sessions"))[1]["error"] == "method_not_allowed"
