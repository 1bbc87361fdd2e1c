"""The SDK's STUN client and its command line against coturn and our own server, over UDP, TCP and TLS."""

import asyncio
import json
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from peerpath import NATTraversal, Settings, STUNClient
from peerpath.errors import TraversalError
from peerpath.stun import StunClient, StunServer
from support.relay import TRANSPORTS, port_of, uri_of
from support.requirements import unavailable


@pytest.fixture(params=["control", "subject"])
def relay(request):
    return request.getfixturevalue(request.param)


def _server(relay, transport):
    return StunServer(relay.site.address, port_of(relay, transport), transport)


def _trust(relay):
    return ssl.create_default_context(cafile=str(relay.site.certificates.authority))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_public_address(relay, transport):
    found = await StunClient([_server(relay, transport)], tls=_trust(relay)).public_address()

    assert found.mapped == found.local
    assert 0 < found.round_trip < 10


async def test_a_certificate_from_nowhere_is_not_accepted(relay):
    with pytest.raises(TraversalError, match="its certificate is not accepted"):
        await StunClient([_server(relay, "tls")]).public_address()


async def test_dead_and_living_servers_raced(control, subject):
    servers = [("127.0.0.1", 9), *(_server(relay, "udp") for relay in (control, subject))]
    async with asyncio.timeout(20):
        await StunClient(servers, timeout=30).public_address()


async def test_the_reference_names(relay):
    settings = Settings.load(stun_servers=[_server(relay, "udp")])
    traversal = NATTraversal(settings)

    assert await traversal.discover_nat_type() == "open_internet"
    response = await STUNClient(settings=settings).get_public_address()
    assert (response.success, response.server_ip) == (True, relay.site.address)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_check_server_sends_data_through_the_relay(relay, transport):
    command = Path(sys.executable).with_name("peerpath")
    if not command.exists():
        unavailable(f"peerpath is not installed beside {sys.executable}")
    argv = [command, "check-server", uri_of(relay, transport), "--json"]
    argv += ["--user", relay.access.username, "--password", relay.access.password]
    argv += ["--ca", relay.site.certificates.authority]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    report = json.loads(done.stdout)

    assert done.returncode == 0
    assert [step["name"] for step in report["steps"]] == ["Name", "Binding", "Allocate", "Relayed round trip"]
    assert all(step["ok"] for step in report["steps"])
