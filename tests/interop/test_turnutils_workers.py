"""coturn's client through a relay of several processes: what belongs together comes to different ones."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from interop.conftest import LOOPBACK_ACCESS
from support.ports import loopback_address
from support.relay import TRANSPORTS, Site, Transport
from support.turnrelay_server import TurnRelayServer
from support.uclient import INTERVAL_MS, Report, UClient

pytestmark = [pytest.mark.slow, pytest.mark.alone]

SENDING_MS, LENGTH, CLIENTS = 1500, 300, 8
STREAMS: tuple[Transport, ...] = ("tcp", "tls")
KINDS: tuple[tuple[tuple[str, ...], tuple[Transport, ...]], ...] = (
    (("-y", "-c"), TRANSPORTS),  # clients that are each other's peers
    (("-y",), TRANSPORTS),  # and every second one redeems the port that another one reserved
    (("-T",), STREAMS),  # data connections of TCP relays
)


@pytest.mark.parametrize("workers", [2, 4])
def test_uclient_loses_nothing_between_workers(tmp_path: Path, workers: int) -> None:
    with (
        loopback_address() as address,
        TurnRelayServer(
            Site.prepare(tmp_path / "relay", address),
            LOOPBACK_ACCESS,
            flags=["--workers", str(workers), "--tcp-relay", "on"],
        ) as relay,
        ExitStack() as stack,
    ):
        tallies = {transport: relay.tally(transport) for transport in TRANSPORTS}
        runs, total = [], Counter[Transport]()
        for flags, transports in KINDS:
            for transport in transports:
                messages = SENDING_MS // INTERVAL_MS[transport]
                options = (*flags, "-m", str(CLIENTS))
                tool = UClient(relay, transport, options, messages=messages, length=LENGTH)
                runs.append((stack.enter_context(tool), messages * CLIENTS))
                total[transport] += messages * CLIENTS * LENGTH
        for tool, sent in runs:
            assert tool.report() == Report(sent=sent, received=sent, lost=0, dropped=0)
        for transport, tally in tallies.items():
            tally.must_reach(total[transport])
