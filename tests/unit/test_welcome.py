"""What a relay prints when it is up."""

import pytest
from turnrelay.welcome import Welcome


@pytest.mark.parametrize(("relays_tcp", "transports"), [(False, "UDP"), (True, "UDP and TCP")])
def test_the_transports_whose_ports_a_firewall_has_to_open_are_named(relays_tcp, transports):
    welcome = Welcome(
        version="1",
        uris=["turn:192.0.2.1"],
        username=None,
        password=None,
        expires_at=None,
        relay_addresses=["192.0.2.1"],
        ports=(49152, 65535),
        relays_tcp=relays_tcp,
        http=None,
        tunnels=[],
        operator_token="",
        data_dir="data",
        plane="userspace",
    )
    assert f"  Relay addresses  192.0.2.1, ports 49152-65535, {transports}" in welcome.render().splitlines()
