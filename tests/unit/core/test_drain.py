"""A server that drains: nothing new begins, and everything that lives goes on."""

import pytest
from stunwire import ALTERNATE_DOMAIN, ALTERNATE_SERVER, EVEN_PORT, LIFETIME, RESERVATION_TOKEN
from turnrelay.core.addresses import Transport
from turnrelay.core.alternates import Alternates, AlternateServer
from turnrelay.core.events import AllocationRefused, RefusalReason
from turnrelay.core.outputs import OpenRelay
from unit.core.conftest import SHA256, World
from unit.core.turn_client import HERE, PEER, STREAM, accepted, answer, only, refused, udp

V4 = AlternateServer("192.0.2.20"), AlternateServer("192.0.2.21", "two.example.org")
V6 = AlternateServer("2001:db8::20")
TLS = STREAM._replace(transport=Transport.TLS)
V6_CLIENT = udp("2001:db8:c::15", 40000)


def test_no_allocation_is_made_and_the_reason_is_told(world, alice):
    world.server.drain()
    outputs = alice.allocate()
    assert refused(outputs) == 508
    assert only(outputs, AllocationRefused)[0].reason is RefusalReason.DRAINING
    assert not only(outputs, OpenRelay)
    assert not world.quotas.live()


def test_what_lives_is_refreshed_and_may_reach_new_peers(world, alice):
    alice.allocate()
    world.server.drain()
    assert accepted(alice.refresh(600, now=500)).get(LIFETIME) == 600
    assert accepted(alice.permit(PEER, now=501))
    assert accepted(alice.bind(0x4000, PEER, now=502))


def test_a_port_that_was_promised_is_given(world, alice):
    token = accepted(alice.allocate((EVEN_PORT, True))).get(RESERVATION_TOKEN)
    world.server.drain()
    assert accepted(world.client(udp("198.51.100.15", 40001)).allocate((RESERVATION_TOKEN, token), now=10))


def test_it_is_idle_when_neither_allocation_nor_reservation_is_left(world, alice):
    assert world.server.is_idle
    accepted(alice.allocate((EVEN_PORT, True)))
    alice.refresh(0, now=1)
    assert not world.server.is_idle
    world.sleep(until=40)
    assert world.server.is_idle


# -- to other servers (RFC 8489 section 10) -----------------------------------------------------------------


def sent_elsewhere(servers, path=HERE, **how) -> tuple[int, list[str], str | None]:
    """Code, servers and domain of what a client hears that comes while the server drains."""
    world = World(alternates=Alternates(servers))
    world.server.drain()
    client = world.client(path, **how)
    outputs = client.allocate()
    [event] = only(outputs, AllocationRefused)
    assert event.reason is RefusalReason.DRAINING
    message = answer(outputs)
    named = message.get_all(ALTERNATE_SERVER)
    assert all(address.port == path.server.port for address in named)
    return refused(outputs), [address.host for address in named], message.get(ALTERNATE_DOMAIN)


def test_newcomers_are_sent_to_a_server_of_their_family_and_told_of_the_other():
    assert sent_elsewhere([V6, V4[0]]) == (300, [V4[0].host, V6.host], None)
    assert sent_elsewhere([V4[0], V6], V6_CLIENT) == (300, [V6.host, V4[0].host], None)
    assert sent_elsewhere([V4[0]]) == (300, [V4[0].host], None)


def test_without_a_server_of_their_family_they_hear_508():
    assert sent_elsewhere([V6]) == (508, [], None)


def test_the_servers_take_turns():
    world = World(alternates=Alternates(V4))
    world.server.drain()
    clients = [world.client(udp("198.51.100.15", 40000 + number)) for number in range(4)]
    named = [answer(client.allocate()).get(ALTERNATE_SERVER).host for client in clients]
    assert named == [V4[0].host, V4[1].host] * 2


@pytest.mark.parametrize(
    ("path", "algorithm", "domain"),
    [
        pytest.param(TLS, SHA256, "two.example.org", id="TLS and SHA-256"),
        pytest.param(TLS, None, None, id="a client of RFC 5389, which has no such attribute"),
        pytest.param(STREAM, SHA256, None, id="no certificate to check"),
    ],
)
def test_clients_over_tls_are_told_another_certificates_name(path, algorithm, domain):
    assert sent_elsewhere([V4[1]], path, algorithm=algorithm) == (300, [V4[1].host], domain)


def test_the_certificate_is_of_the_same_name_where_none_is_given():
    assert sent_elsewhere([V4[0]], TLS, algorithm=SHA256) == (300, [V4[0].host], None)


def test_a_tunnel_which_has_a_url_is_sent_nowhere():
    assert sent_elsewhere(V4, STREAM._replace(transport=Transport.WEBSOCKET)) == (508, [], None)


def test_before_it_drains_nobody_is_sent_away():
    assert accepted(World(alternates=Alternates(V4)).client().allocate())
