"""The conversation of relay_echo.js: what it is asked for, and what it must answer."""

import json
from pathlib import Path
from typing import Any

from support.relay import Relay, Transport, uri_of

SCRIPT = Path(__file__).with_name("relay_echo.js")
MESSAGES = 1000
BYTES = 1000
# Both peers' relays carry each message: out of one allocation and into the other, there and back.
PAYLOAD_BYTES = 2 * MESSAGES * BYTES


def request(relay: Relay, transport: Transport) -> dict[str, Any]:
    server = {
        "urls": uri_of(relay, transport),
        "username": relay.access.username,
        "credential": relay.access.password,
    }
    return {"iceServer": server, "messages": MESSAGES, "bytes": BYTES, "timeoutMs": 20_000}


def assert_relayed_echo(result: dict[str, Any]) -> None:
    """Every message came back unchanged, from a relay to a relay."""
    assert result["echoed"] == MESSAGES
    caller, callee = result["pairs"]
    assert (caller["local"], callee["local"]) == ("relay", "relay"), json.dumps(result)
    # A check of the other's relay that overtakes its description makes that relay "peer reflexive" here.
    assert {caller["remote"], callee["remote"]} <= {"relay", "prflx"}, json.dumps(result)
