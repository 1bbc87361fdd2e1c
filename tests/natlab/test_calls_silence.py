"""A peer that falls silent without a goodbye: the application is told soon, and the link ends within 30 s.

The figures are of the dialer. What is asserted leaves room for a busy machine; what was seen is printed.
"""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from natlab.callers import Caller, Event, Person, rendezvous_of, start_relay, uris_of
from natlab.lab import Lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


def event_after(caller: Caller, since: float, what: str, within: float) -> Event:
    """The first path event after `since` that is silent, heard again, or of no path."""
    tests = {
        "silent": lambda event: event["silent"],
        "heard": lambda event: event["path"] is not None and not event["silent"],
        "lost": lambda event: event["path"] is None,
    }

    def found() -> list[Event]:
        return [event for event in caller.of("path") if event["at"] >= since and tests[what](event)]

    caller.process.wait_until(lambda: bool(found()), within)
    return found()[0]


def test_a_peer_that_is_cut_off_is_told_of_given_up_and_found_again(lab: Lab, tmp_path: Path) -> None:
    with ExitStack() as stack:
        relay = stack.enter_context(start_relay(lab, tmp_path))
        left, right = lab.site("port-restricted"), lab.site("linux")
        alice = Person(left.host, tmp_path, uris_of(relay), rendezvous_of(relay))
        bob = Person(right.host, tmp_path, uris_of(relay), rendezvous_of(relay))
        stack.callback(bob.listen(alice.key).stop)
        # Two messages, of which the second one finds the peer again: in between nothing is to be sent.
        dialer = alice.dial(bob.key, send=2, more=["--rate", str(1 / 38), "--patience", "100"])
        stack.callback(dialer.stop)
        dialer.wait_for("message", 30)
        time.sleep(3)  # what is better than the first path has been found
        cut_at = time.time()
        right.cut(33)
        silent = event_after(dialer, cut_at, "silent", 30)
        lost = event_after(dialer, cut_at, "lost", 60)
        events = dialer.finish(100)
    after = {name: event["at"] - cut_at for name, event in (("silent", silent), ("given up", lost))}
    print(", ".join(f"{name} after {at:.1f} s" for name, at in after.items()))
    assert silent["path"] is not None
    assert after["silent"] < 15
    # That a path which stood by is tried does not mean that anything was heard.
    meanwhile = [
        each for each in events if each["event"] == "path" and silent["at"] <= each["at"] <= lost["at"]
    ]
    assert all(each["silent"] for each in meanwhile)
    # The last word of the peer may be six seconds older than that.
    assert 20 < after["given up"] < 36
    assert len([event for event in events if event["event"] == "message"]) == 2
    assert events[-1]["interruptions"] >= 1


def test_a_silence_that_ends_in_time_costs_no_link(lab: Lab, tmp_path: Path) -> None:
    with ExitStack() as stack:
        relay = stack.enter_context(start_relay(lab, tmp_path))
        left, right = lab.site("port-restricted"), lab.site("linux")
        alice = Person(left.host, tmp_path, uris_of(relay), rendezvous_of(relay))
        bob = Person(right.host, tmp_path, uris_of(relay), rendezvous_of(relay))
        stack.callback(bob.listen(alice.key).stop)
        dialer = alice.dial(bob.key, send=120, more=["--rate", "10"])
        stack.callback(dialer.stop)
        dialer.wait_for("message", 30)
        cut_at = time.time()
        right.cut(8)
        silent = event_after(dialer, cut_at, "silent", 30)
        heard = event_after(dialer, silent["at"], "heard", 30)
        events = dialer.finish(60)
    print(f"silent after {silent['at'] - cut_at:.1f} s, heard again after {heard['at'] - cut_at:.1f} s")
    assert events[-1]["interruptions"] == 0
