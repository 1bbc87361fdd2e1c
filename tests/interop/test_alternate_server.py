"""A relay that drains sends those who come to another one (RFC 8489 section 10)."""

import signal
import ssl

import pytest
from peerpath.turn.connection import allocate
from peerpath.turn.credentials import LongTermCredentials
from reliability.turn_peer import DatagramClient
from reliability.workers import eventually
from stunwire import TransportAddress, TurnUri
from support.certificates import Certificates
from support.ports import loopback_address
from support.relay import TRANSPORTS, Access, Site, port_of, uri_of
from support.turnrelay_server import TurnRelayServer
from support.uclient import UClient

OPEN = Access(allowed_peers=("127.0.0.0/8",))
NAME = "relay2.example.org"
MESSAGES = 5


@pytest.fixture(scope="module")
def relays(tmp_path_factory):
    """One that drains, kept from its end by a client, and the other, whose certificate is for its name."""
    folder = tmp_path_factory.mktemp("relays")
    with loopback_address() as here, loopback_address() as there:
        site = Site.prepare(folder / "first", here)
        (folder / "second").mkdir()
        other = Site((there,), folder / "second", None, Certificates.issue(folder / "second", NAME))
        flags = [
            "--alternate-server",
            here,
            "--alternate-server",
            f"{there}/{NAME}",
            "--drain-timeout",
            "600",
        ]
        with TurnRelayServer(other, OPEN) as second, TurnRelayServer(site, OPEN, flags=flags) as first:
            last = DatagramClient((here, first.port), OPEN.username, OPEN.password)
            last.allocate()
            first.process.signal(signal.SIGTERM)
            eventually(lambda: first.get("/readyz")[0] == 503, "it does not drain")
            yield first, second
            last.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_our_client_goes_there(relays, transport):
    first, second = relays
    tls = None
    if transport == "tls":
        tls = ssl.create_default_context(cafile=first.site.certificates.authority)
        tls.load_verify_locations(second.site.certificates.authority)
    async with await allocate(
        TurnUri.parse(uri_of(first, transport)),
        TransportAddress(first.site.address, port_of(first, transport)),
        LongTermCredentials(OPEN.username, OPEN.password),
        tls=tls,
        patience=10,
    ) as turn:
        assert turn.address == (second.site.address, port_of(second, transport))
        assert turn.client.relayed[0].host == second.site.address


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_coturns_client_goes_there(relays, transport):
    first, second = relays
    before = second.scrape().total("turnrelay_allocations_created_total")
    with UClient(first, transport, ("-y", "-c"), messages=MESSAGES, length=100) as client:
        report = client.report()
    assert (report.received, report.lost) == (2 * MESSAGES, 0)
    assert second.scrape().total("turnrelay_allocations_created_total") > before
