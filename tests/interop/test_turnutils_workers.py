"""coturn's client through a relay of two processes: its clients are each other's peers across workers."""

from contextlib import ExitStack
from pathlib import Path

from interop.conftest import LOOPBACK_ACCESS
from support.ports import loopback_address
from support.relay import TRANSPORTS, Site
from support.turnrelay_server import TurnRelayServer
from support.uclient import INTERVAL_MS, Report, UClient

SENDING_MS, LENGTH, CLIENTS = 1500, 300, 8


def test_uclient_loses_nothing_between_workers(tmp_path: Path) -> None:
    with (
        loopback_address() as address,
        TurnRelayServer(
            Site.prepare(tmp_path / "relay", address), LOOPBACK_ACCESS, flags=["--workers", "2"]
        ) as relay,
        ExitStack() as stack,
    ):
        runs = []
        for transport in TRANSPORTS:
            messages, tally = SENDING_MS // INTERVAL_MS[transport], relay.tally(transport)
            flags = ("-y", "-c", "-m", str(CLIENTS))
            tool = UClient(relay, transport, flags, messages=messages, length=LENGTH)
            runs.append((stack.enter_context(tool), tally, messages * CLIENTS))
        for tool, tally, sent in runs:
            assert tool.report() == Report(sent=sent, received=sent, lost=0, dropped=0)
            tally.must_reach(sent * LENGTH)
