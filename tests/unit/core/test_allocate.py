"""Allocate (RFC 8656 section 7.2): every check with its code in its order, and what a success tells."""

import pytest
from stunwire import (
    ADDITIONAL_ADDRESS_FAMILY,
    ADDRESS_ERROR_CODE,
    DONT_FRAGMENT,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    UNKNOWN_ATTRIBUTES,
    XOR_MAPPED_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AddressErrorValue,
    AddressFamily,
    Attribute,
    Method,
)
from turnrelay.core.events import AllocationCreated, AllocationRefused, RefusalReason, RequestAnswered
from turnrelay.core.limits import Limits
from turnrelay.core.outputs import CloseRelay, Grant, LookUpKey, OpenRelay, SendToPeer
from turnrelay.core.protocols import Limit
from unit.core.turn_client import (
    ELSEWHERE,
    HERE,
    PEER,
    STREAM,
    UDP,
    accepted,
    answer,
    only,
    refused,
    reply,
    sealed_with,
    tlvs,
    udp,
)

IPV4, IPV6 = AddressFamily.IPV4, AddressFamily.IPV6
ONLY_IPV4, ONLY_IPV6 = frozenset({IPV4}), frozenset({IPV6})
SOME_TOKEN = b"a token!"
UNKNOWN = Attribute.opaque(0x7F00, "?"), b"x"


# -- success ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [HERE, STREAM, udp("2001:db8::15", 40000)], ids=["UDP", "TCP", "IPv6"])
def test_success_tells_relayed_address_lifetime_and_mapped_address(world, path):
    client = world.client(path)
    outputs = client.allocate()
    message = accepted(outputs)
    [relay] = world.plane.opened
    assert message.get_all(XOR_RELAYED_ADDRESS) == [relay]
    assert message.get(LIFETIME) == 600
    assert message.get(XOR_MAPPED_ADDRESS) == path.client
    assert RESERVATION_TOKEN not in message
    assert ADDRESS_ERROR_CODE not in message
    data = reply(outputs).data
    assert data[:2] == b"\x01\x03"
    assert sorted(kind for kind, _ in tlvs(data)) == [0x0008, 0x000D, 0x0016, 0x0020]
    assert sealed_with(data, client.key) == {"sha1"}


def test_the_driver_is_asked_for_one_relay_on_behalf_of_the_account(world, alice):
    world.accounts["alice"] = "wonderland inc"
    [question] = only(alice.allocate(), OpenRelay)
    assert question.account == "wonderland inc"
    assert (question.family, question.even_port, question.reserve_next) == (IPV4, False, False)
    assert [(lease.account, lease.client_host) for lease in world.quotas.leases] == [
        ("wonderland inc", HERE.client.host)
    ]


def test_it_is_told_to_those_who_watch(world, alice):
    outputs = alice.allocate((LIFETIME, 1200))
    [created] = only(outputs, AllocationCreated)
    assert (created.path, created.account, created.lifetime) == (HERE, "alice", 1200)
    assert set(created.relays) == world.plane.opened
    assert [event.code for event in only(outputs, RequestAnswered)] == [0]


def test_permissions_and_channels_are_empty_at_first(alice):
    """Section 7.2: the list of permissions and the list of channels are initially empty."""
    assert not only(alice.allocate(), Grant)
    assert not only(alice.send(PEER, b"x"), SendToPeer)


def test_allocations_differ_by_any_part_of_the_5_tuple(world):
    host, port = HERE.client
    paths = [HERE, udp(host, port + 1), udp("198.51.100.99", port), HERE._replace(transport=STREAM.transport)]
    paths.append(HERE._replace(server=HERE.server._replace(port=3479)))
    for path in paths:
        accepted(world.client(path).allocate())
    assert len(world.plane.opened) == len(paths)


# -- lifetime -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wished", "given"),
    [
        (None, 600),
        (0, 600),
        (1, 600),
        (599, 600),
        (600, 600),
        (601, 601),
        (3599, 3599),
        (3600, 3600),
        (3601, 3600),
        (0xFFFFFFFF, 3600),
    ],
)
def test_lifetime_is_what_was_asked_between_default_and_maximum(world, alice, wished, given):
    pairs = [] if wished is None else [(LIFETIME, wished)]
    outputs = alice.allocate(*pairs, now=1000)
    assert accepted(outputs).get(LIFETIME) == given
    assert not only(world.sleep(1000 + given - 0.001), CloseRelay)
    assert only(world.sleep(1000 + given), CloseRelay)


@pytest.mark.parametrize(
    ("default", "maximum", "wished", "given"),
    [(600, 1200, 3600, 1200), (60, 1200, 90, 90), (60, 1200, 10, 60), (600, 600, 3600, 600)],
)
def test_the_operators_lifetimes(new_world, default, maximum, wished, given):
    world = new_world(limits=Limits(default_lifetime=default, max_lifetime=maximum))
    assert accepted(world.client().allocate((LIFETIME, wished))).get(LIFETIME) == given


# -- the checks ---------------------------------------------------------------------------------------------


def test_2_a_5_tuple_in_use_is_437(world, alice):
    alice.allocate()
    assert refused(alice.allocate()) == 437
    assert refused(world.client(HERE, "bob").allocate()) == 437
    assert len(world.plane.opened) == world.quotas.live() == 1


def test_2_a_5_tuple_is_free_again_once_its_allocation_ended(world, alice):
    alice.allocate()
    alice.refresh(0, now=1)
    accepted(alice.allocate(now=2))
    world.sleep(602)
    accepted(world.client(HERE, "bob").allocate(now=602))


def test_3_missing_transport_is_400(alice):
    assert refused(alice.ask(Method.ALLOCATE, now=0)) == 400


@pytest.mark.parametrize("protocol", [0, 1, 6, 16, 18, 132, 255])
def test_3_another_transport_than_udp_is_442(alice, protocol):
    assert refused(alice.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, protocol), now=0)) == 442


@pytest.mark.parametrize("value", [b"", b"\x11", b"\x11\0\0", b"\x11\0\0\0\0"])
def test_3_malformed_transport_is_400(alice, value):
    malformed = Attribute.opaque(REQUESTED_TRANSPORT.type, "REQUESTED-TRANSPORT"), value
    assert refused(alice.ask(Method.ALLOCATE, malformed, now=0)) == 400


def test_3_reserved_bits_of_the_transport_are_ignored(alice):
    """Section 18.8: RFFU MUST be ignored on reception."""
    odd = Attribute.opaque(REQUESTED_TRANSPORT.type, "REQUESTED-TRANSPORT"), b"\x11\xff\xff\xff"
    accepted(alice.ask(Method.ALLOCATE, odd, now=0))


def test_4_dont_fragment_is_understood(alice):
    accepted(alice.allocate((DONT_FRAGMENT, True)))


@pytest.mark.parametrize(
    "beside",
    [
        (EVEN_PORT, False),
        (EVEN_PORT, True),
        (REQUESTED_ADDRESS_FAMILY, IPV4),
        (REQUESTED_ADDRESS_FAMILY, IPV6),
        (ADDITIONAL_ADDRESS_FAMILY, IPV6),
    ],
)
def test_5_a_reservation_token_stands_alone(alice, beside):
    assert refused(alice.allocate((RESERVATION_TOKEN, SOME_TOKEN), beside)) == 400


def test_5_an_unknown_reservation_token_is_508(alice):
    assert refused(alice.allocate((RESERVATION_TOKEN, SOME_TOKEN))) == 508


@pytest.mark.parametrize("requested", [IPV4, IPV6])
@pytest.mark.parametrize("additional", [IPV4, IPV6])
def test_6_requested_and_additional_family_exclude_each_other(alice, requested, additional):
    wishes = (REQUESTED_ADDRESS_FAMILY, requested), (ADDITIONAL_ADDRESS_FAMILY, additional)
    assert refused(alice.allocate(*wishes)) == 400


@pytest.mark.parametrize(
    ("families", "requested", "outcome"),
    [
        (ONLY_IPV4, None, IPV4),
        (ONLY_IPV4, IPV4, IPV4),
        (ONLY_IPV4, IPV6, 440),
        (ONLY_IPV6, None, 440),
        (ONLY_IPV6, IPV4, 440),
        (ONLY_IPV6, IPV6, IPV6),
        (ONLY_IPV4 | ONLY_IPV6, None, IPV4),
        (ONLY_IPV4 | ONLY_IPV6, IPV6, IPV6),
        (ONLY_IPV4 | ONLY_IPV6, 0, 440),
        (ONLY_IPV4 | ONLY_IPV6, 3, 440),
        (ONLY_IPV4 | ONLY_IPV6, 255, 440),
    ],
)
def test_7_the_family_asked_for_or_440(new_world, families, requested, outcome):
    world = new_world(families=families)
    wish = [] if requested is None else [(REQUESTED_ADDRESS_FAMILY, requested)]
    outputs = world.client().allocate(*wish)
    if outcome == 440:
        assert refused(outputs) == 440
        assert world.remnants() == {"replies": 1}
    else:
        [relay] = accepted(outputs).get_all(XOR_RELAYED_ADDRESS)
        assert (":" in relay.host) is (outcome is IPV6)


def test_8_reserving_a_port_for_a_dual_allocation_is_400(alice):
    assert refused(alice.allocate((EVEN_PORT, True), (ADDITIONAL_ADDRESS_FAMILY, IPV6))) == 400


@pytest.mark.parametrize("family", [None, IPV4, IPV6])
@pytest.mark.parametrize("reserve", [False, True])
def test_8_the_driver_is_asked_for_an_even_port(world, alice, family, reserve):
    wish = [] if family is None else [(REQUESTED_ADDRESS_FAMILY, family)]
    outputs = alice.allocate((EVEN_PORT, reserve), *wish)
    [question] = only(outputs, OpenRelay)
    assert (question.even_port, question.reserve_next) == (True, reserve)
    assert accepted(outputs).get(XOR_RELAYED_ADDRESS).port % 2 == 0
    assert (RESERVATION_TOKEN in answer(outputs)) is reserve


def test_8_an_even_port_that_cannot_be_had_is_508(world, alice):
    world.plane.available.clear()
    assert refused(alice.allocate((EVEN_PORT, True))) == 508
    assert world.remnants() == {"replies": 1}


def test_9_additional_ipv4_is_400(alice):
    assert refused(alice.allocate((ADDITIONAL_ADDRESS_FAMILY, IPV4))) == 400


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        (Limit.ALLOCATIONS_PER_USER, 486),
        (Limit.ALLOCATIONS_PER_PREFIX, 486),
        (Limit.ALLOCATIONS_TOTAL, 508),
    ],
)
def test_10_quotas(world, alice, limit, code):
    """486 is about this client's share (section 19), 508 about what the server holds in all."""
    world.quotas.limit = limit
    outputs = alice.allocate()
    assert refused(outputs) == code
    assert AllocationRefused(HERE, "alice", code, RefusalReason(limit.value)) in outputs
    assert not only(outputs, OpenRelay)
    assert world.remnants() == {"replies": 1}


@pytest.mark.parametrize("pairs", [[], [(EVEN_PORT, True)], [(ADDITIONAL_ADDRESS_FAMILY, IPV6)]])
def test_a_client_behind_a_tunnel_is_403(world, pairs):
    """Section 21.4: packets of tunnelled clients could be sent round in circles."""
    path = udp("2002:c000:22a::1", 40000)
    world.peers.denied_clients.add(path.client.host)
    outputs = world.client(path).allocate(*pairs)
    assert refused(outputs) == 403
    assert not only(outputs, OpenRelay)
    assert world.remnants() == {"replies": 1}


def test_the_capacity_of_the_server_is_508(world, alice):
    world.plane.available.clear()
    outputs = alice.allocate()
    assert refused(outputs) == 508
    assert AllocationRefused(HERE, "alice", 508, RefusalReason.RELAY_PORTS) in outputs
    assert world.remnants() == {"replies": 1}


def test_a_refused_client_may_ask_again(world, alice):
    world.plane.available.clear()
    assert refused(alice.allocate()) == 508
    world.plane.available |= {IPV4}
    accepted(alice.allocate(now=1))


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        # What comes first in section 7.2 decides; each request would fail the later checks as well.
        ([UNKNOWN, (REQUESTED_TRANSPORT, 6)], 420),
        ([(RESERVATION_TOKEN, SOME_TOKEN)], 400),
        ([(REQUESTED_TRANSPORT, 6), (RESERVATION_TOKEN, SOME_TOKEN), (EVEN_PORT, True)], 442),
        ([(REQUESTED_TRANSPORT, 6), (REQUESTED_ADDRESS_FAMILY, IPV6)], 442),
        ([(REQUESTED_TRANSPORT, UDP), (RESERVATION_TOKEN, SOME_TOKEN), (EVEN_PORT, True)], 400),
        (
            [(REQUESTED_TRANSPORT, UDP), (RESERVATION_TOKEN, SOME_TOKEN), (REQUESTED_ADDRESS_FAMILY, IPV6)],
            400,
        ),
        (
            [
                (REQUESTED_TRANSPORT, UDP),
                (REQUESTED_ADDRESS_FAMILY, IPV6),
                (ADDITIONAL_ADDRESS_FAMILY, IPV6),
            ],
            400,
        ),
        ([(REQUESTED_TRANSPORT, UDP), (REQUESTED_ADDRESS_FAMILY, IPV6), (EVEN_PORT, True)], 440),
    ],
)
def test_the_order_of_the_checks(new_world, pairs, code):
    world = new_world(families=ONLY_IPV4)
    world.quotas.limit = Limit.ALLOCATIONS_TOTAL
    assert refused(world.client().ask(Method.ALLOCATE, *pairs, now=0)) == code


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([], 437),
        ([(REQUESTED_TRANSPORT, 6)], 437),
        ([(REQUESTED_TRANSPORT, UDP), (RESERVATION_TOKEN, SOME_TOKEN)], 437),
        ([(REQUESTED_TRANSPORT, UDP), (ADDITIONAL_ADDRESS_FAMILY, IPV4)], 437),
        ([UNKNOWN], 420),
    ],
)
def test_a_5_tuple_in_use_comes_before_all_that_is_in_the_request(world, alice, pairs, code):
    alice.allocate()
    assert refused(alice.ask(Method.ALLOCATE, *pairs, now=0)) == code


def test_several_unknown_attributes_are_all_named(alice):
    pairs = [(Attribute.opaque(kind, "?"), b"") for kind in (0x7F01, 0x0003, 0x7F00, 0x0003)]
    outputs = alice.allocate(*pairs)
    # CHANGE-REQUEST needs four bytes: a value of another length is malformed before it is unknown.
    assert refused(outputs) == 400
    outputs = alice.allocate(pairs[0], pairs[2], pairs[0])
    assert refused(outputs) == 420
    assert answer(outputs).get(UNKNOWN_ATTRIBUTES) == (0x7F01, 0x7F00)


# -- both families ------------------------------------------------------------------------------------------

DUAL = ADDITIONAL_ADDRESS_FAMILY, IPV6


def test_dual_gives_an_ipv4_and_an_ipv6_relay(world, alice):
    outputs = alice.allocate(DUAL)
    assert [question.family for question in only(outputs, OpenRelay)] == [IPV4, IPV6]
    relays = accepted(outputs).get_all(XOR_RELAYED_ADDRESS)
    assert [":" in relay.host for relay in relays] == [False, True]
    assert set(relays) == world.plane.opened
    assert world.quotas.live() == 1


def test_dual_with_even_ports(world, alice):
    outputs = alice.allocate(DUAL, (EVEN_PORT, False))
    relays = accepted(outputs).get_all(XOR_RELAYED_ADDRESS)
    assert [relay.port % 2 for relay in relays] == [0, 0]


@pytest.mark.parametrize(("got", "missing"), [(IPV4, IPV6), (IPV6, IPV4)])
def test_half_of_a_dual_allocation_is_better_than_none(world, alice, got, missing):
    world.plane.available = {got}
    outputs = alice.allocate(DUAL)
    message = accepted(outputs)
    [relay] = message.get_all(XOR_RELAYED_ADDRESS)
    assert (":" in relay.host) is (got is IPV6)
    assert message.get_all(ADDRESS_ERROR_CODE) == [AddressErrorValue(missing, 508, "Insufficient Capacity")]
    assert world.quotas.live() == 1


@pytest.mark.parametrize(("got", "missing"), [(IPV4, IPV6), (IPV6, IPV4)])
def test_a_family_the_server_has_not_is_440_in_a_dual_allocation(new_world, got, missing):
    world = new_world(families=frozenset({got}))
    outputs = world.client().allocate(DUAL)
    assert [question.family for question in only(outputs, OpenRelay)] == [got]
    expected = AddressErrorValue(missing, 440, "Address Family not Supported")
    assert accepted(outputs).get_all(ADDRESS_ERROR_CODE) == [expected]


def test_address_error_code_on_the_wire(world, alice):
    """Section 18.12: family, 13 reserved bits of zero, class, number, reason phrase."""
    world.plane.available = {IPV4}
    found = dict(tlvs(reply(alice.allocate(DUAL)).data))
    assert found[0x8001] == b"\x02\x00\x05\x08Insufficient Capacity"


def test_no_half_at_all_is_508(world, alice):
    world.plane.available = set()
    outputs = alice.allocate(DUAL)
    assert refused(outputs) == 508
    assert ADDRESS_ERROR_CODE not in answer(outputs)
    assert world.remnants() == {"replies": 1}


# -- two phases ---------------------------------------------------------------------------------------------


def test_nothing_is_promised_before_it_exists(world, alice):
    world.hold_relays = True
    alice.greet(now=0)
    outputs = alice.allocate()
    assert [type(output) for output in outputs] == [LookUpKey, OpenRelay]
    assert refused(alice.refresh(600)) == 437
    assert refused(alice.permit(PEER)) == 437
    assert not only(alice.send(PEER, b"x"), SendToPeer)
    world.hold_relays = False
    accepted(world.open(outputs[1], now=2))


def test_the_lifetime_begins_when_the_relay_opens(world, alice):
    world.hold_relays = True
    [question] = only(alice.allocate(now=0), OpenRelay)
    assert accepted(world.open(question, now=5)).get(LIFETIME) == 600
    assert not world.sleep(604)
    assert only(world.sleep(605), CloseRelay)


def test_a_relay_that_fails_is_508_and_leaves_nothing(world, alice):
    world.hold_relays = True
    [question] = only(alice.allocate(), OpenRelay)
    assert world.quotas.live() == 1
    outputs = world.server.relay_failed(question.ticket, 1)
    assert refused(outputs) == 508
    assert sealed_with(reply(outputs).data, alice.key) == {"sha1"}
    assert AllocationRefused(HERE, "alice", 508, RefusalReason.RELAY_PORTS) in outputs
    assert world.remnants() == {"replies": 1}


def test_a_second_allocate_meanwhile_is_437(world, alice):
    world.hold_relays = True
    [question] = only(alice.allocate(), OpenRelay)
    outputs = alice.allocate(now=1)
    assert refused(outputs) == 437
    assert not only(outputs, OpenRelay)
    accepted(world.open(question, now=2))


def test_a_retransmission_meanwhile_is_ignored(world, alice):
    world.hold_relays = True
    alice.greet(now=0)
    request = alice.form(Method.ALLOCATE, (REQUESTED_TRANSPORT, UDP))
    [question] = only(world.deliver(request, HERE, 0), OpenRelay)
    assert world.deliver(request, HERE, 0.5) == []
    assert world.deliver(request, HERE, 1.5) == []
    first = reply(world.open(question, now=2))
    assert world.deliver(request, HERE, 3) == [first]


def test_many_clients_may_wait_at_once(world):
    world.hold_relays = True
    clients = [world.client(udp("198.51.100.15", port)) for port in range(40000, 40005)]
    questions = [only(client.allocate(), OpenRelay)[0] for client in clients]
    for client, question in reversed(list(zip(clients, questions, strict=True))):
        assert reply(world.open(question, now=1)).path == client.path
    assert len(world.state.allocations) == 5


@pytest.mark.parametrize("opens", [True, False])
def test_a_client_that_goes_meanwhile_gets_nothing(world, streaming, opens):
    world.hold_relays = True
    [question] = only(streaming.allocate(), OpenRelay)
    assert world.disconnect(STREAM, 1) == []
    if not opens:
        world.plane.available.clear()
    outputs = world.open(question, now=2)
    assert [type(output) for output in outputs] == ([CloseRelay] if opens else [])
    assert world.remnants() == {}


def test_the_reserved_port_of_a_client_that_goes_meanwhile_is_closed_too(world, streaming):
    world.hold_relays = True
    [question] = only(streaming.allocate((EVEN_PORT, True)), OpenRelay)
    world.disconnect(STREAM, 1)
    assert len(only(world.open(question, now=2), CloseRelay)) == 2
    assert world.remnants() == {}


@pytest.mark.parametrize("leaves", [0, 1])
@pytest.mark.parametrize("available", [{IPV4, IPV6}, {IPV4}, {IPV6}, set()])
def test_a_client_of_a_dual_allocation_that_goes_meanwhile(world, streaming, available, leaves):
    world.hold_relays = True
    world.plane.available = available
    questions = only(streaming.allocate(DUAL), OpenRelay)
    outputs = []
    for number, question in enumerate(questions):
        if number == leaves:
            assert world.disconnect(STREAM, 1) == []
        outputs += world.open(question, now=2)
    assert [type(output) for output in outputs] == [CloseRelay] * len(available)
    assert world.remnants() == {}


@pytest.mark.parametrize("available", [{IPV4, IPV6}, {IPV4}, {IPV6}])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_dual_allocation_is_answered_when_both_halves_are_known(world, alice, available, backwards):
    world.hold_relays = True
    world.plane.available = available
    first, second = only(alice.allocate(DUAL), OpenRelay)
    if backwards:
        first, second = second, first
    assert world.open(first, now=1) == []
    message = accepted(world.open(second, now=2))
    relays = message.get_all(XOR_RELAYED_ADDRESS)
    assert set(relays) == world.plane.opened
    assert len(relays) + len(message.get_all(ADDRESS_ERROR_CODE)) == 2


def test_a_connection_that_comes_back_by_the_same_5_tuple_may_allocate(world, streaming):
    streaming.allocate()
    world.disconnect(STREAM, 1)
    accepted(streaming.allocate(now=2))
    assert len(world.plane.opened) == 1


def test_an_allocate_that_waits_when_the_server_shuts_down_comes_to_nothing(world, alice):
    world.hold_relays = True
    [question] = only(alice.allocate(), OpenRelay)
    world.shut_down(1)
    outputs = world.open(question, now=2)
    assert not only(outputs, AllocationCreated)
    assert not world.plane.opened
    assert world.quotas.live() == 0


def test_a_request_that_waits_for_its_key_when_the_server_shuts_down_comes_to_nothing(world, alice):
    alice.greet(now=0)
    world.hold_keys = True
    [question] = alice.allocate()
    world.shut_down(1)
    world.look_up(question, 2)
    assert not world.plane.opened
    assert world.quotas.live() == 0


def test_elsewhere_nobody_notices(world, alice):
    bob = world.client(ELSEWHERE, "bob")
    alice.allocate()
    accepted(bob.allocate())
    alice.refresh(0)
    accepted(bob.refresh(600))
