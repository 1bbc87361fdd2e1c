"""The relays that the programs of others are pointed at.

`TURNRELAY_INTEROP_SUBJECT=coturn` puts coturn in the place of our server, to tell a fault of a test or of a
client from one of ours.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.coturn_server import CoturnServer
from support.netns import Namespace, Network, add_address
from support.ports import loopback_address
from support.relay import Access, Relay, Site
from support.requirements import require_root_and_netns
from support.turnrelay_server import TurnRelayServer

# The peers of the tests on loopback are echo servers there, which a relay refuses unless told otherwise.
LOOPBACK_ACCESS = Access(allowed_peers=("127.0.0.0/8",))


def start_subject(site: Site, access: Access) -> AbstractContextManager[Relay]:
    if os.environ.get("TURNRELAY_INTEROP_SUBJECT") == CoturnServer.name:
        return CoturnServer(site, access)
    return TurnRelayServer(site, access)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interop")


@pytest.fixture(scope="session")
def subject(scratch: Path) -> Iterator[Relay]:
    """Our server on loopback, for clients that go there."""
    with (
        loopback_address() as address,
        start_subject(Site.prepare(scratch / "subject", address), LOOPBACK_ACCESS) as relay,
    ):
        yield relay


@pytest.fixture(scope="session")
def control(scratch: Path) -> Iterator[Relay]:
    """coturn on loopback."""
    with (
        loopback_address() as address,
        CoturnServer(Site.prepare(scratch / "control", address), LOOPBACK_ACCESS) as relay,
    ):
        yield relay


@pytest.fixture(scope="session")
def hosts() -> Iterator[tuple[Namespace, Namespace]]:
    """A host for relays and one for clients, and a cable: for IPv6, and for clients that skip loopback."""
    require_root_and_netns()
    with Network() as network:
        server, client = network.host("relay"), network.host("client")
        servers_end, clients_end = network.connect(server, "10.77.0.1/24", client, "10.77.0.2/24")
        for address in ("fd77::1/64", "10.77.0.3/24", "fd77::3/64"):
            add_address(server, servers_end, address)
        add_address(client, clients_end, "fd77::2/64")
        yield server, client


@pytest.fixture(scope="session")
def client_host(hosts: tuple[Namespace, Namespace]) -> Namespace:
    return hosts[1]


@pytest.fixture(scope="session")
def wired_subject(hosts: tuple[Namespace, Namespace], scratch: Path) -> Iterator[Relay]:
    """Our server on the relays' host, IPv4 and IPv6.

    No peer range is opened: its clients reach each other through the relayed addresses that it gave them.
    """
    site = Site.prepare(scratch / "wired-subject", "10.77.0.1", "fd77::1", namespace=hosts[0])
    with start_subject(site, Access()) as relay:
        yield relay


@pytest.fixture(scope="session")
def wired_control(hosts: tuple[Namespace, Namespace], scratch: Path) -> Iterator[Relay]:
    """coturn on the relays' host, beside ours."""
    site = Site.prepare(scratch / "wired-control", "10.77.0.3", "fd77::3", namespace=hosts[0])
    with CoturnServer(site, Access()) as relay:
        yield relay
