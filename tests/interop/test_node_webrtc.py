"""The two WebRTC stacks that applications embed: libwebrtc (through wrtc) and libdatachannel."""

import fcntl
import json
from pathlib import Path

import pytest
from interop import webrtc
from support.netns import Namespace
from support.processes import ProcessFailed, run
from support.relay import Relay, Transport
from support.requirements import require_program, unavailable

NODE = Path(__file__).with_name("node")
# What npm writes once all of a lock file is installed: one file of its own, so it says which lock it was.
INSTALLED = NODE / "node_modules" / ".turnrelay-installed"


@pytest.fixture(scope="session")
def node() -> str:
    """The path of node, with the packages of tests/interop/node installed as its lock file says."""
    program, npm = require_program("node"), require_program("npm")
    wanted = (NODE / "package-lock.json").read_text()
    # Two test runs in one tree would install into each other's folder.
    with (NODE / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not INSTALLED.exists() or INSTALLED.read_text() != wanted:
            try:
                run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=NODE, timeout=100)
            except ProcessFailed as failure:
                unavailable(f"npm could not install the packages of tests/interop/node: {failure}")
            INSTALLED.write_text(wanted)
    return program


# libdatachannel has TURN over UDP only. Over TLS, Chromium's test stands for libwebrtc.
@pytest.mark.parametrize(
    ("library", "transport"), [("libdatachannel", "udp"), ("libwebrtc", "udp"), ("libwebrtc", "tcp")]
)
def test_relayed_data_channel_echoes(
    library: str, transport: Transport, node: str, wired_subject: Relay, client_host: Namespace
) -> None:
    tally = wired_subject.tally(transport)
    request = json.dumps(webrtc.request(wired_subject, transport))
    output = run([node, "echo.cjs", library, request], cwd=NODE, namespace=client_host, timeout=40)
    webrtc.assert_relayed_echo(json.loads(output.splitlines()[-1]))
    tally.must_reach(webrtc.PAYLOAD_BYTES)
