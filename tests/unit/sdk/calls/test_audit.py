"""The audit log: who, how, with what result; to a callback or a file, and without addresses."""

import json
import os
import stat
import sys

import pytest
from peerpath import AuditFile, AuditResult, Identity, Path
from peerpath.calls.audit import AuditLog
from peerpath.connection import PathKind

ALICE = Identity.generate().public_key


def write(log, *, local="", remote="", **more):
    path = Path(PathKind.HOST, "udp", None, local, remote)
    log.write("dialed", ALICE, AuditResult.CONNECTED, path=path, seconds=0.25, **more)


def test_addresses_are_left_out_unless_they_are_asked_for():
    events, full = [], []
    addresses = {"local": "192.0.2.1 5000", "remote": "203.0.113.9 40000"}
    write(AuditLog(events.append, addresses=False, on_error=pytest.fail), **addresses)
    write(AuditLog(full.append, addresses=True, on_error=pytest.fail), **addresses)
    assert (events[0].local, events[0].remote) == ("", "")
    assert events[0].as_json().keys() == {
        "at", "direction", "peer", "result", "method", "seconds", "reason",
    }  # fmt: skip
    assert full[0].as_json()["local"] == "192.0.2.1 5000"
    assert full[0].as_json()["remote"] == "203.0.113.9 40000"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("not at wss://relay.example.org:443/v1/rendezvous now", "not at (address left out) now"),
        ("192.0.2.1:3478 does not answer", "(address left out) does not answer"),
        ("from 192.0.2.1 5000: refused", "from (address left out): refused"),
        ("[2001:db8::1]:3478: no answer", "(address left out): no answer"),
        ("2001:db8::1 is gone", "(address left out) is gone"),
        ("no connection within 15 s: the peer is silent", "no connection within 15 s: the peer is silent"),
    ],
)
def test_reasons_name_no_address_unless_they_are_asked_for(reason, told):
    events, full = [], []
    write(AuditLog(events.append, addresses=False, on_error=pytest.fail), reason=reason)
    write(AuditLog(full.append, addresses=True, on_error=pytest.fail), reason=reason)
    assert (events[0].reason, full[0].reason) == (told, reason)


def test_a_callback_that_fails_is_reported_and_stops_nobody():
    mistakes = []

    def tell(_):
        raise OSError("the disk is full")

    write(AuditLog(tell, addresses=False, on_error=mistakes.append))
    assert [str(mistake) for mistake in mistakes] == ["the disk is full"]


def test_a_file_gets_one_line_of_json_for_each_event(tmp_path):
    file = AuditFile(tmp_path / "audit.log")
    log = AuditLog(file, addresses=False, on_error=pytest.fail)
    write(log, reason='a "reason"\nof two lines')
    os.rename(tmp_path / "audit.log", tmp_path / "audit.log.1")
    write(log)
    write(log)
    [before] = (tmp_path / "audit.log.1").read_text(encoding="utf-8").splitlines()
    after = (tmp_path / "audit.log").read_text(encoding="utf-8").splitlines()
    assert len(after) == 2
    event = json.loads(before)
    assert event["reason"] == 'a "reason"\nof two lines'
    assert event["peer"] == str(ALICE)
    assert (event["direction"], event["result"], event["method"]) == ("dialed", "connected", "host")
    assert event["seconds"] == 0.25


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_the_file_is_for_its_owner_alone(tmp_path):
    write(AuditLog(AuditFile(tmp_path / "audit.log"), addresses=False, on_error=pytest.fail))
    assert stat.S_IMODE((tmp_path / "audit.log").stat().st_mode) == 0o600
