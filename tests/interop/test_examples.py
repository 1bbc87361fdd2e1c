"""Every file of examples/ as a person runs it, on a host with a real relay; what it prints is looked at."""

import re
import sys
from pathlib import Path

import pytest
from support.netns import Namespace
from support.processes import run
from support.relay import Relay

EXAMPLES = Path(__file__).parents[2] / "examples"
SHARED = {"arguments.py"}

# What each file must print, in this order.
EXPECTED = {
    "who_am_i.py": [r"public address: 10\.77\.0\.2 \d+", r"NAT: open_internet", r"port_restricted: True"],
    "talk.py": [
        r"alice: connected, Path\(kind=<PathKind\.HOST",
        r"alice: you said: hello",
        r"alice: you said: how are you\?",
    ],
    "rendezvous.py": [r"called by pp[a-z2-7]{56}", r"HELLO"],
    "own_signaling.py": [r"bob got: hello by our own server"],
    "send_a_file.py": [r"3000000 bytes, all of them right"],
    "copy_and_paste.py": [r"alice copies this:", r"bob copies this:", r"bob got: hello by copy and paste"],
    "who_may_call.py": [
        r"audit: answered connected by host",
        r"acquaintance: relay",
        r"audit: answered refused by none the peer takes no calls of this key",
        r"stranger: the peer takes no calls of this key",
    ],
    "watch_the_path.py": [r"path: host by udp", r"100 messages, 0 interruptions"],
    "why_not.py": [
        r"no connection within 2 s",
        r"dialed: no connection within 2 s after \d+\.\d+ s",
        r"offered, with \d+ candidates",
        r"stun:10\.77\.0\.1:3478",
        r"local host 10\.77\.0\.2:\d+",
        r"local relay 10\.77\.0\.1:\d+",
    ],
}


def arguments(relay: Relay) -> list[str]:
    address, access = relay.site.address, relay.access
    return [
        *("--server", f"stun:{address}:{relay.port}", "--server", f"turn:{address}:{relay.port}"),
        *("--user", access.username, "--password", access.password),
        *("--rendezvous", f"ws://{address}:9641/v1/rendezvous"),
    ]


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_does_what_it_says(name: str, wired_subject: Relay, client_host: Namespace) -> None:
    output = run(
        [sys.executable, EXAMPLES / name, *arguments(wired_subject)], namespace=client_host, timeout=60
    )
    at = 0
    for wanted in EXPECTED[name]:
        found = re.compile(wanted).search(output, at)
        assert found, f"{wanted!r} is not (or not in its place) in:\n{output}"
        at = found.end()
    assert "Traceback" not in output
    assert "never retrieved" not in output


def test_every_example_is_tried_and_in_the_list() -> None:
    files = {path.name for path in EXAMPLES.glob("*.py")} - SHARED
    assert files == set(EXPECTED)
    listed = re.findall(r"^\| `(\w+\.py)` \|", (EXAMPLES / "README.md").read_text(), re.M)
    assert sorted(listed) == sorted(files)
    page = (EXAMPLES.parent / "docs" / "first-chat.md").read_text()
    listed = re.findall(r"^\| `(\w+\.py)` \|", page, re.M)
    assert sorted(listed) == sorted(path.name for path in (EXAMPLES / "first_chat").glob("*.py"))
