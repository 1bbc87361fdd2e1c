"""The log: one line for each refused or ended allocation, with its reason; `turnrelay trace` reads it."""

import io
from collections.abc import Sequence

import pytest
from stunwire import LIFETIME
from support.logs import logged, records
from turnrelay.core.events import AuthenticationFailure, EndReason, Event, RefusalReason
from turnrelay.core.protocols import DenyRule, Limit
from turnrelay.observe import log, reasons
from turnrelay.observe.trace import trace
from typer.testing import CliRunner
from unit.core.conftest import World
from unit.core.turn_client import HERE, PEER


@pytest.fixture
def stream():
    with logged() as stream:
        yield stream


def write(stream: io.StringIO, events: Sequence[object], level: str = "info") -> list[dict]:
    log.configure(level, "json", stream)
    events_log = log.EventLog(level)
    for event in events:
        if isinstance(event, Event):
            events_log.observe(event)
    return records(stream.getvalue())


def session(world: World) -> list[object]:
    """Created, a peer denied, a stranger's password tried on it, and expired."""
    client = world.client()
    outputs = list(client.allocate((LIFETIME, 600)))
    world.peers.denied_hosts.add(PEER.host)
    outputs += client.permit(PEER, now=1)
    client.password = "a guess"
    outputs += client.refresh(600, now=2)
    return outputs + list(world.sleep(700))


def test_an_allocation_has_one_line_for_its_end_with_id_and_reason(stream):
    world = World()
    outputs = session(world)
    lines = write(stream, outputs)
    [created] = [line for line in lines if line["event"] == "allocation created"]
    [ended] = [line for line in lines if line["event"] == "allocation ended"]
    assert ended["allocation"] == created["allocation"]
    assert ended["reason"] == "expired"


def test_a_refusal_has_one_line_with_its_reason(stream):
    world = World()
    world.quotas.limit = Limit.ALLOCATIONS_PER_USER
    [line] = [line for line in write(stream, world.client().allocate()) if "refused" in line["event"]]
    assert (line["reason"], line["code"]) == ("allocations_per_user", 486)


def test_lines_hold_no_addresses_or_names_unless_asked(stream):
    write(stream, session(World()))
    text = stream.getvalue()
    assert HERE.client.host not in text
    assert PEER.host not in text
    assert "alice" not in text


def test_a_trace_tells_the_story_in_order(stream):
    [first, *_] = write(stream, session(World()))
    told = list(trace(stream.getvalue().splitlines(), first["allocation"]))
    story = [sentence.split("  ", 1)[1] for sentence in told]
    assert story[0] == "Created by a client over UDP, for 600 seconds at first."
    assert story[1] == "A peer was denied: its address is not public; --allow-peer admits ranges."
    assert story[2] == "A request was not accepted: the password was wrong."
    assert story[3].startswith("Ended after 600 seconds: the client did not refresh it in time")
    assert len(story) == 4


def test_the_command_reads_a_file_or_standard_input(stream, tmp_path):
    from turnrelay.cli import app

    [first, *_] = write(stream, session(World()))
    text = "".join(f"Jan 01 relay turnrelay[7]: {line}\n" for line in stream.getvalue().splitlines())
    text = "{ no JSON }\nplain text\n[1]\n" + text
    path = tmp_path / "relay.log"
    path.write_text(text)
    from_file = CliRunner().invoke(app, ["trace", first["allocation"], "--log", str(path)])
    from_stdin = CliRunner().invoke(app, ["trace", first["allocation"]], input=text)
    assert from_file.exit_code == from_stdin.exit_code == 0
    assert from_file.output == from_stdin.output
    assert from_file.output.count("\n") == 4


def test_the_command_says_when_nothing_is_known(tmp_path):
    from turnrelay.cli import app

    missing = CliRunner().invoke(app, ["trace", "0123", "--log", str(tmp_path / "none")])
    assert missing.exit_code == 1
    unknown = CliRunner().invoke(app, ["trace", "0123"], input='{"event":"relay started"}\n')
    assert unknown.exit_code == 1


def test_a_trace_of_a_debug_log_finds_an_account(stream):
    world = World()
    world.quotas.limit = Limit.ALLOCATIONS_TOTAL
    write(stream, world.client().allocate(), level="debug")
    [sentence] = trace(stream.getvalue().splitlines(), "alice")
    assert "refused with 508" in sentence
    assert "account alice" in sentence


def test_every_reason_has_words():
    assert set(reasons.ENDED) == set(EndReason)
    assert set(reasons.REFUSED) == set(RefusalReason)
    assert set(reasons.DENIED) == set(DenyRule)
    assert set(reasons.NOT_ACCEPTED) == set(AuthenticationFailure)
