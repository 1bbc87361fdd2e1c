"""The operator of a relay of several processes sees one relay."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reliability.workers import RelayOfTwo, error_of, eventually, site
from support.ports import loopback_address
from support.relay import Access

TOKEN = "the-token-of-the-operator"


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayOfTwo]:
    with (
        loopback_address() as address,
        RelayOfTwo(site(tmp_path, address), Access(), flags=["--operator-token", TOKEN]) as running,
    ):
        yield running


def ask(relay: RelayOfTwo, method: str, path: str) -> Any:
    connection = http.client.HTTPConnection(relay.site.address, 9641, timeout=15)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {TOKEN}"})
        text = connection.getresponse().read()
        return json.loads(text) if text else None
    finally:
        connection.close()


def first_events(relay: RelayOfTwo, count: int) -> list[dict[str, Any]]:
    """The data of the first events of a stream."""
    connection = http.client.HTTPConnection(relay.site.address, 9641, timeout=15)
    try:
        connection.request("GET", "/v1/events", headers={"Authorization": f"Bearer {TOKEN}"})
        answer, found = connection.getresponse(), []
        while len(found) < count:
            line = answer.readline().decode()
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
        return found
    finally:
        connection.close()


def test_sessions_of_every_worker_are_listed_and_ended(relay):
    clients = relay.clients_of_both(each=2)
    everyone = [client for of_one in clients.values() for client in of_one]
    page = ask(relay, "GET", "/v1/sessions?limit=3")
    assert (page["total"], len(page["sessions"])) == (4, 3)
    rest = ask(relay, "GET", f"/v1/sessions?limit=3&after={page['next']}")
    ids = [session["id"] for session in page["sessions"] + rest["sessions"]]
    assert len(set(ids)) == 4
    assert rest["next"] is None
    *_, update = first_events(relay, 2)
    assert update["sample"]["sessions"]["udp"] == 4
    assert update["node"]["ports_in_use"] == 4
    for name in ids:
        assert ask(relay, "GET", f"/v1/sessions/{name}")["id"] == name
        assert ask(relay, "DELETE", f"/v1/sessions/{name}") is None
        assert ask(relay, "GET", f"/v1/sessions/{name}")["error"] == "no_such_session"
    assert ask(relay, "GET", "/v1/sessions")["total"] == 0
    assert [error_of(client.refresh(600)) for client in everyone] == [437] * 4
    for client in everyone:
        client.close()


def test_a_worker_that_dies_takes_its_own_sessions_alone(relay):
    clients = relay.clients_of_both()
    relay.kill(1)
    eventually(lambda: ask(relay, "GET", "/v1/sessions")["total"] == 1, "the sessions of the dead live on")
    *_, update = first_events(relay, 3)
    assert update["sample"]["sessions"]["udp"] == 1
    assert all(update["sample"][name] >= 0 for name in ("bytes_to_peer", "packets_from_peer"))
    for of_one in clients.values():
        for client in of_one:
            client.close()
