"""`peerpath identity`, `listen` and `dial` as scripts use them: events, exit codes, one clear error each."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from peerpath import CallOptions, CallRefused, Contacts, Identity, Settings, Traversal
from peerpath.commands.app import app
from peerpath.signaling import Rendezvous
from support.processes import Process
from support.relay import Relay
from typer.testing import CliRunner, Result

PEERPATH = Path(sys.executable).with_name("peerpath")
SOMEBODY = str(Identity.generate().public_key)


def peerpath(*arguments: str | Path, timeout: float = 40) -> subprocess.CompletedProcess[str]:
    # Whatever a person's environment says of servers is not what is tested.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PEERPATH_")}
    argv = [PEERPATH, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False, env=environment)


def called(*arguments: str | Path) -> Result:
    """In this process, which takes a tenth of the time: for what ends before anything begins."""
    return CliRunner().invoke(app, [*map(str, arguments)])


def url_of(relay: Relay) -> str:
    return f"ws://{relay.site.address}:9641/v1/rendezvous"


def stun_of(relay: Relay) -> str:
    return f"stun:{relay.site.address}:{relay.port}"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    Identity.generate().save(tmp_path / "identity.key")
    return tmp_path / "identity.key"


def test_identity_new_makes_a_file_for_its_owner_and_prints_the_key(tmp_path):
    made = peerpath("identity", "new", tmp_path / "a.key")
    key = made.stdout.strip()
    assert (made.returncode, made.stderr) == (0, "")
    assert str(Identity.load(tmp_path / "a.key").public_key) == key
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert peerpath("identity", "show", tmp_path / "a.key").stdout.strip() == key
    fingerprint = peerpath("identity", "show", "--fingerprint", tmp_path / "a.key").stdout.strip()
    assert [len(group) for group in fingerprint.split()] == [5] * 6
    again = peerpath("identity", "new", tmp_path / "a.key")
    assert again.returncode == 1
    assert "exists and is not overwritten" in again.stderr
    assert str(Identity.load(tmp_path / "a.key").public_key) == key


@pytest.mark.parametrize("command", [["dial", SOMEBODY], ["listen", "--allow", "any"], ["chat"]])
@pytest.mark.parametrize(
    ("file", "complaint"),
    [("missing", "peerpath identity new"), ("open", "chmod 600"), ("nonsense", "is no private key")],
)
def test_an_identity_that_cannot_be_used_ends_it_with_the_mend(command, file, complaint, tmp_path):
    path = tmp_path / file
    if file == "open":
        Identity.generate().save(path)
        path.chmod(0o644)
    elif file == "nonsense":
        path.write_text("hello")
        path.chmod(0o600)
    done = called(*command, "--identity", path, "--rendezvous", "ws://127.0.0.1:9")
    assert done.exit_code == 2
    assert complaint in done.stderr
    assert str(path) in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["dial", "ppnonsense"], "is no public key"),
        (["dial", SOMEBODY[:-1] + ("a" if SOMEBODY[-1] != "a" else "b")], "its checksum is wrong"),
        (["listen", "--allow", "everybody"], "is no public key"),
        (["chat", "--allow", "x"], "is no public key"),
        (["dial", SOMEBODY, "--rendezvous", "ftp://x"], "is no address of a rendezvous"),
        (["dial", SOMEBODY, "--server", "turn:127.0.0.1"], "wants a user name and a password"),
        (["dial", SOMEBODY, "--server", "stun:a b"], "write a host name"),
        (["dial", SOMEBODY, "--ca-file", "/nowhere.pem"], "/nowhere.pem: No such file"),
        (["listen", "--allow", "any", "--config", "/nowhere.toml"], "No such file"),
    ],
)
def test_misuse_is_told_in_one_line(arguments, complaint, key_file):
    more = [] if "--rendezvous" in arguments else ["--rendezvous", "ws://127.0.0.1:9"]
    done = called(*arguments, *more, "--identity", key_file)
    assert done.exit_code == 2, done
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [["dial"], ["dial", SOMEBODY], ["listen"], ["dial", SOMEBODY, "--size", "1"]]
)
def test_what_is_missing_or_out_of_range_is_named(arguments):
    done = peerpath(*arguments)
    assert done.returncode == 2
    assert "Usage: peerpath" in done.stderr


def test_a_rendezvous_that_is_not_there_fails_it_with_its_name(key_file):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{free.getsockname()[1]}"
        done = peerpath("dial", SOMEBODY, "--identity", key_file, "--rendezvous", url, "--json")
        [event] = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == 1
        assert event["event"] == "failed"
        assert url in event["reason"]
        done = peerpath("listen", "--allow", "any", "--identity", key_file, "--rendezvous", url)
        assert done.returncode == 1
        assert url in done.stderr


def test_a_server_without_a_rendezvous_fails_it(key_file, subject):
    url = f"ws://{subject.site.address}:9641/metrics"
    done = peerpath("dial", SOMEBODY, "--identity", key_file, "--rendezvous", url)
    assert done.returncode == 1
    assert "/metrics" in done.stderr


def test_a_peer_who_is_not_there_fails_it_at_once(key_file, subject):
    done = peerpath(
        *("dial", SOMEBODY, "--identity", key_file, "--rendezvous", url_of(subject)),
        *("--server", stun_of(subject), "--timeout", "30", "--json"),
        timeout=25,
    )
    [event] = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert (event["event"], event["reason"].split()[0]) == ("failed", SOMEBODY)
    [attempt] = event["report"]["attempts"]
    assert attempt["result"] == event["reason"]


def test_listen_and_dial_tell_events_and_the_audit_log_names_no_address(tmp_path, subject):
    files = [tmp_path / "alice.key", tmp_path / "bob.key"]
    keys = [peerpath("identity", "new", file).stdout.strip() for file in files]
    common = ["--rendezvous", url_of(subject), "--server", stun_of(subject), "--json"]
    audit = tmp_path / "audit.log"
    listening = [PEERPATH, "listen", "--identity", files[1], "--allow", keys[0], "--echo", *common]
    with Process([*listening, "--audit", audit]) as listener:
        listener.wait_until(lambda: '"listening"' in listener.output())
        done = peerpath("dial", keys[1], "--identity", files[0], *common, "--send", "20", "--size", "1000")
        assert done.returncode == 0, done
        stranger = tmp_path / "stranger.key"
        peerpath("identity", "new", stranger)
        refused = peerpath("dial", keys[1], "--identity", stranger, *common)
        assert refused.returncode == 1
        assert json.loads(refused.stdout)["reason"] == "the peer takes no calls of this key"
        listener.stop()
        assert listener.returncode == 0
        heard = [json.loads(line) for line in listener.output().splitlines() if line.startswith("{")]
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["event"] == "connected"
    assert events[0]["path"].keys() == {"kind", "transport", "rtt_ms"}
    assert events[0]["path"]["kind"] == "host"
    assert events[0]["elapsed_ms"] > 0
    messages = [event for event in events if event["event"] == "message"]
    assert [(event["index"], event["size"]) for event in messages] == [(index, 1000) for index in range(20)]
    assert (events[-1]["event"], events[-1]["messages"]) == ("closed", 20)
    assert [event["event"] for event in heard if event["event"] != "path"] == [
        "listening", "connected", *["message"] * 20, "closed",
    ]  # fmt: skip
    assert heard[0]["key"] == keys[1]
    logged = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [event["result"] for event in logged] == ["connected", "closed", "refused"]
    assert {event["direction"] for event in logged} == {"answered"}
    assert logged[0]["peer"] == keys[0]
    assert "192.0.2" not in audit.read_text()
    assert not any("local" in event for event in logged)


def test_a_message_that_is_too_large_fails_with_the_report(tmp_path, subject):
    files = [tmp_path / "alice.key", tmp_path / "bob.key"]
    keys = [peerpath("identity", "new", file).stdout.strip() for file in files]
    common = ["--rendezvous", url_of(subject), "--server", stun_of(subject), "--json"]
    with Process([PEERPATH, "listen", "--identity", files[1], "--allow", keys[0], *common]) as listener:
        listener.wait_until(lambda: '"listening"' in listener.output())
        done = peerpath("dial", keys[1], "--identity", files[0], *common, "--send", "1", "--size", "1048577")
    assert done.returncode == 1
    failed = json.loads(done.stdout.splitlines()[-1])
    assert (failed["event"], failed["reason"][:21]) == ("failed", "a message has at most")
    assert failed["report"]["attempts"]


def test_a_rendezvous_that_cannot_be_reached_is_told_in_words_for_people(key_file):
    done = peerpath("dial", SOMEBODY, "--identity", key_file, "--rendezvous", "ws://127.0.0.1:1", "--json")
    [failed] = map(json.loads, done.stdout.splitlines())
    assert "cannot be reached: " in failed["reason"]
    assert "object at" not in failed["reason"]


async def test_calls_by_a_rendezvous_leave_no_channel_open(subject):
    """A thousand attempts would otherwise make both sides deaf."""
    alice, bob = Identity.generate(), Identity.generate()
    settings, options = Settings(automatic=False), CallOptions(attempts_burst=100)
    contacts = Contacts()
    async with (
        Traversal(alice, settings=settings) as caller,
        Traversal(bob, settings=settings, authorize=contacts, options=options) as callee,
        Rendezvous(url_of(subject), alice) as hers,
        Rendezvous(url_of(subject), bob) as his,
        callee.listen(his) as calls,
    ):
        for _ in range(10):
            with pytest.raises(CallRefused):
                await caller.connect(bob.public_key, hers)
        assert (len(hers._routes), len(his._routes)) == (0, 0)
        assert len(calls._reception._reading) <= 2


async def test_at_a_rendezvous_listeners_come_and_go_and_connections_stay(subject):
    alice, bob = Identity.generate(), Identity.generate()
    settings = Settings(automatic=False)
    async with (
        Traversal(alice, settings=settings) as caller,
        Traversal(bob, settings=settings, authorize=Contacts([alice.public_key])) as callee,
        Rendezvous(url_of(subject), alice) as hers,
        Rendezvous(url_of(subject), bob) as his,
    ):
        pairs = []
        for _ in range(2):
            async with callee.listen(his) as calls:
                connection = await caller.connect(bob.public_key, hers)
                pairs.append((connection, await asyncio.wait_for(calls.accept(), 20)))
        for connection, other in pairs:
            await connection.send(b"still here")
            assert await asyncio.wait_for(other.recv(), 20) == b"still here"
