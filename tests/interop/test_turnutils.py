"""coturn's own tools, which most operators reach for first; each run beside the same against coturn."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from interop.conftest import LOOPBACK_ACCESS, start_subject
from support.coturn_server import CoturnServer
from support.netns import Namespace
from support.ports import loopback_address
from support.processes import Process, run
from support.relay import TRANSPORTS, Relay, Site, Tally, Transport
from support.requirements import require_program
from support.uclient import INTERVAL_MS, Report, UClient

# Over TLS the tool counts messages as lost where a stall puts two into one record (support/uclient.py).
pytestmark = [pytest.mark.slow, pytest.mark.alone]

SENDING_MS = 2400
LENGTH = 500


@dataclass(frozen=True)
class Mode:
    """Flags of turnutils_uclient, and the number of clients that it makes for them."""

    flags: tuple[str, ...]
    clients: int
    to_echo_peer: bool = False


MODES = {
    "channels": Mode(("-y", "-c"), clients=2),
    "channels_with_rtcp_ports": Mode(("-y",), clients=4),
    "channels_to_a_peer": Mode(("-c",), clients=1, to_echo_peer=True),
    "send_indications": Mode(("-y", "-c", "-s"), clients=2),
    "send_indications_to_a_peer": Mode(("-c", "-s"), clients=1, to_echo_peer=True),
}


class Comparison:
    """The same run of the tool against the control and the subject, both at once."""

    def __init__(
        self,
        relays: tuple[Relay, Relay],
        transport: Transport,
        flags: tuple[str, ...],
        *,
        clients: int,
        address_index: int = 0,
        namespace: Namespace | None = None,
    ) -> None:
        messages = SENDING_MS // INTERVAL_MS[transport]
        self._messages = messages * clients
        self._runs: list[tuple[Relay, Tally, UClient]] = []
        for relay in relays:
            tally = relay.tally(transport)
            tool = UClient(
                relay,
                transport,
                flags,
                messages=messages,
                length=LENGTH,
                address=relay.site.addresses[address_index],
                namespace=namespace,
            )
            self._runs.append((relay, tally, tool))

    def assert_nothing_lost(self) -> None:
        everything = Report(sent=self._messages, received=self._messages, lost=0, dropped=0)
        for relay, tally, tool in self._runs:
            assert tool.report() == everything, f"through {relay.name}:\n{tool.process.output()}"
            # Every message of every client goes out to a peer, and one comes in for each.
            tally.must_reach(self._messages * LENGTH)

    def stop(self) -> None:
        for _, _, tool in self._runs:
            tool.process.stop()


@pytest.fixture(scope="module")
def echo_peer() -> Iterator[str]:
    """`turnutils_peer`: sends each datagram back, on its default port and on the next one."""
    with loopback_address() as address, Process([require_program("turnutils_peer"), "-L", address]):
        yield address


# The tool waits up to 6 s before its first message, so the runs of one mode are started together.
@pytest.fixture(scope="module", params=MODES)
def by_transport(
    request: pytest.FixtureRequest, control: Relay, subject: Relay, echo_peer: str
) -> Iterator[dict[Transport, Comparison]]:
    mode = MODES[request.param]
    flags = (*mode.flags, "-e", echo_peer) if mode.to_echo_peer else mode.flags
    with ExitStack() as stack:
        started: dict[Transport, Comparison] = {}
        for transport in TRANSPORTS:
            started[transport] = Comparison((control, subject), transport, flags, clients=mode.clients)
            stack.callback(started[transport].stop)
        yield started


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_uclient_loses_nothing(by_transport: dict[Transport, Comparison], transport: Transport) -> None:
    by_transport[transport].assert_nothing_lost()


# Address 0 of a wired relay is IPv4, address 1 IPv6. -x asks for an IPv6 relay, -X for an IPv4 one.
FAMILIES = {
    "IPv6 client, IPv6 relay": (1, "-x"),
    "IPv4 client, IPv6 relay": (0, "-x"),
    "IPv6 client, IPv4 relay": (1, "-X"),
}


@pytest.fixture(scope="module")
def by_family(
    wired_control: Relay, wired_subject: Relay, client_host: Namespace
) -> Iterator[dict[str, Comparison]]:
    with ExitStack() as stack:
        started: dict[str, Comparison] = {}
        for name, (address_index, family_flag) in FAMILIES.items():
            started[name] = Comparison(
                (wired_control, wired_subject),
                "udp",
                ("-y", "-c", family_flag),
                clients=2,
                address_index=address_index,
                namespace=client_host,
            )
            stack.callback(started[name].stop)
        yield started


@pytest.mark.parametrize("families", FAMILIES)
def test_uclient_in_both_address_families(by_family: dict[str, Comparison], families: str) -> None:
    by_family[families].assert_nothing_lost()


def test_uclient_with_a_credential_of_the_shared_secret(scratch: Path) -> None:
    access = replace(LOOPBACK_ACCESS, shared_secret="the-north-remembers-32-characters")
    with ExitStack() as stack:
        addresses = [stack.enter_context(loopback_address()) for _ in range(2)]
        control_site = Site.prepare(scratch / "secret-control", addresses[0])
        subject_site = Site.prepare(scratch / "secret-subject", addresses[1])
        control = stack.enter_context(CoturnServer(control_site, access))
        subject = stack.enter_context(start_subject(subject_site, access))
        comparison = Comparison((control, subject), "udp", ("-y", "-c"), clients=2)
        stack.callback(comparison.stop)
        comparison.assert_nothing_lost()


def test_stunclient_learns_its_address(control: Relay, subject: Relay) -> None:
    tool = require_program("turnutils_stunclient")
    with loopback_address() as client:
        for relay in (control, subject):
            output = run([tool, "-L", client, "-p", str(relay.port), relay.site.address], timeout=10)
            # The tool exits with 0 whatever comes back. It asks no more of a server without OTHER-ADDRESS.
            assert re.search(rf"UDP reflexive addr: {re.escape(client)}:\d+", output), output
