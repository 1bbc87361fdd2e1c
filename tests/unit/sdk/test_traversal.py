"""NATTraversal, STUNClient and STUNResponse: names, signatures and what they return."""

import asyncio
import inspect
import struct

import peerpath
import pytest
from peerpath import NATTraversal, Settings, STUNClient, STUNResponse
from peerpath.nat import NatBehaviour
from peerpath.nat.behaviour import Dependence
from peerpath.net.ports import bindable_port
from peerpath.punch import puncher
from stunwire import MAPPED_ADDRESS, XOR_MAPPED_ADDRESS, Message, MessageClass, Method
from unit.sdk.stun.servers_on_loopback import LoopbackServer, Names

ID = bytes(range(12))


def parameters(function):
    return [
        (name, parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    ]


NONE = inspect.Parameter.empty


@pytest.mark.parametrize(
    ("function", "expected", "waits"),
    [
        (NATTraversal.discover_nat_type, [], True),
        (NATTraversal.get_public_address, [("stun_servers", None)], True),
        (
            NATTraversal.setup_hole_punch,
            [("peer_address", NONE), ("peer_port", NONE), ("local_port", NONE)],
            True,
        ),
        (NATTraversal.get_connection_candidates, [("local_port", NONE)], True),
        (NATTraversal.can_connect_directly, [("peer_nat_type", NONE)], False),
        (STUNClient.get_public_address, [("local_port", 0), ("stun_servers", None)], True),
        (STUNClient._create_binding_request, [("transaction_id", NONE)], False),
        (
            STUNClient._parse_stun_response,
            [("data", NONE), ("expected_transaction_id", NONE), ("server_ip", NONE), ("server_port", NONE)],
            False,
        ),
    ],
)
def test_the_signatures_are_those_of_the_reference(function, expected, waits):
    assert parameters(function) == expected
    assert inspect.iscoroutinefunction(function) is waits


def settings(*servers, **more):
    return Settings.load(stun_servers=list(servers), candidate_timeout=0.5, **more)


# -- messages --------------------------------------------------------------------------------------------


def test_a_binding_request_is_a_bare_header():
    request = STUNClient()._create_binding_request(ID)
    assert request == struct.pack("!HHI12s", 0x0001, 0, 0x2112A442, ID)
    with pytest.raises(ValueError, match="12 bytes"):
        STUNClient()._create_binding_request(b"short")


def parsed(message, expected=ID):
    data = message if isinstance(message, bytes) else message.encode()
    return STUNClient()._parse_stun_response(data, expected, "192.0.2.1", 3478)


@pytest.mark.parametrize("attribute", [XOR_MAPPED_ADDRESS, MAPPED_ADDRESS])
@pytest.mark.parametrize("mapped", [("203.0.113.7", 40000), ("2001:db8::7", 40000)])
def test_a_response_is_parsed(attribute, mapped):
    message = Message(MessageClass.SUCCESS_RESPONSE, Method.BINDING, ID).add(attribute, mapped)
    assert parsed(message) == STUNResponse(*mapped, "192.0.2.1", 3478, True, "")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"not STUN at all",
        Message(MessageClass.SUCCESS_RESPONSE, Method.BINDING, bytes(12)),
        Message(MessageClass.SUCCESS_RESPONSE, Method.ALLOCATE, ID),
        Message(MessageClass.REQUEST, Method.BINDING, ID),
    ],
)
def test_what_is_no_response_to_the_request_is_none(message):
    assert parsed(message) is None


def test_an_error_response_is_a_response_without_success():
    request = Message(MessageClass.REQUEST, Method.BINDING, ID)
    assert parsed(Message.error_to(request, 420)) == STUNResponse(
        "", 0, "192.0.2.1", 3478, False, "420 Unknown Attribute"
    )
    assert parsed(Message.success_to(request)).error_message == "the response holds no address"


# -- public address --------------------------------------------------------------------------------------


async def test_the_public_address():
    async with LoopbackServer() as server:
        response = await STUNClient(settings=settings()).get_public_address(stun_servers=[server.address])
    assert response.success
    assert (response.public_ip, response.server_ip, response.server_port) == ("127.0.0.1", *server.address)


async def test_the_public_address_of_a_port():
    port = bindable_port(0, 0)
    async with LoopbackServer() as server:
        client = STUNClient(settings=settings(server.address))
        assert (await client.get_public_address(port)).public_port == port


async def test_what_was_seen_of_a_port_is_believed_for_as_long_as_the_settings_say():
    port = bindable_port(0, 0)
    async with LoopbackServer() as server:
        client = STUNClient(settings=settings(server.address))
        assert await client.get_public_address(port) == await client.get_public_address(port)
        assert len(server.asked_at) == 1
        doubting = STUNClient(settings=settings(server.address, binding_refresh=1e-9))
        await doubting.get_public_address(port)
        await doubting.get_public_address(port)
        assert len(server.asked_at) == 3


async def test_no_answer_is_none_and_the_reason_is_kept():
    async with LoopbackServer(deaf=True) as server:
        traversal = NATTraversal(settings())
        traversal.stun_client.timeout = 0.2
        assert await traversal.get_public_address([server.address]) is None
    assert f"127.0.0.1:{server.address.port}: no answer within 0.2 s" in str(traversal.failure)


async def test_the_last_public_address_is_remembered():
    async with LoopbackServer() as server:
        traversal = NATTraversal(settings(server.address))
        response = await traversal.get_public_address()
    assert traversal.public_address == response


# -- the rest --------------------------------------------------------------------------------------------


async def test_the_nat_type_without_a_nat():
    async with LoopbackServer() as server:
        traversal = NATTraversal(settings(server.address))
        assert await traversal.discover_nat_type() == traversal.nat_type == "open_internet"
    assert traversal.behaviour.filtering is Dependence.UNKNOWN
    assert traversal.public_address.public_ip == "127.0.0.1"


async def test_candidates_are_the_hosts_addresses_and_the_public_one():
    port = bindable_port(0, 0)
    async with LoopbackServer(mapped=("203.0.113.7", 40000)) as server:
        candidates = await NATTraversal(settings(server.address)).get_connection_candidates(port)
    assert candidates[-1] == ("203.0.113.7", 40000)
    assert {candidate[1] for candidate in candidates[:-1]} <= {port}
    assert not any(host.startswith("127.") for host, _ in candidates)


async def test_candidates_without_a_port_choose_one_of_the_range():
    async with LoopbackServer() as server:
        candidates = await NATTraversal(
            settings(server.address, local_ports=(45000, 45999))
        ).get_connection_candidates(0)
    assert all(45000 <= port <= 45999 for _, port in candidates)


async def test_relay_only_shows_no_address_and_punches_nothing():
    async with LoopbackServer() as server:
        traversal = NATTraversal(settings(server.address, relay_only=True))
        assert await traversal.get_connection_candidates(40000) == []
        assert await traversal.setup_hole_punch("127.0.0.1", 9, 0) is False
    assert server.asked_at == []
    assert "relay_only" in str(traversal.failure)


async def test_without_automatic_traversal_nothing_is_sent():
    async with LoopbackServer() as server:
        traversal = NATTraversal(settings(server.address, automatic=False))
        assert await traversal.discover_nat_type() == "unknown"
        assert await traversal.get_public_address() is None
        assert await traversal.setup_hole_punch("127.0.0.1", 9, 0) is False
        await traversal.get_connection_candidates(40000)
    assert server.asked_at == []


async def test_two_sides_punch_a_hole():
    ports = [bindable_port(0, 0) for _ in range(2)]
    sides = [NATTraversal(settings()) for _ in range(2)]
    async with asyncio.timeout(5):
        results = await asyncio.gather(
            sides[0].setup_hole_punch("127.0.0.1", ports[1], ports[0]),
            sides[1].setup_hole_punch("127.0.0.1", ports[0], ports[1]),
        )
    assert results == [True, True]


async def test_a_hole_is_punched_to_a_name_with_addresses_of_both_families(monkeypatch):
    monkeypatch.setattr(puncher, "Resolver", lambda: Names({"peer.test": ["::1", "127.0.0.1"]}))
    ports = [bindable_port(0, 0) for _ in range(2)]
    sides = [NATTraversal(settings(punch_timeout=5, retry_attempts=1)) for _ in range(2)]
    results = await asyncio.gather(
        sides[0].setup_hole_punch("peer.test", ports[1], ports[0]),
        sides[1].setup_hole_punch("peer.test", ports[0], ports[1]),
    )
    assert results == [True, True]
    assert await sides[0].setup_hole_punch("nobody.test", 9, 0) is False
    assert "nobody.test" in str(sides[0].failure)


async def test_a_hole_to_nobody_is_false_with_the_reason():
    traversal = NATTraversal(settings(punch_timeout=0.1, retry_attempts=1))
    assert await traversal.setup_hole_punch("127.0.0.1", bindable_port(0, 0), 0) is False
    assert "attempt 1: nothing came in" in str(traversal.failure)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ("open_internet", "symmetric", True),
        ("full_cone", "Symmetric NAT", True),
        ("port_restricted", "Port Restricted Cone", True),
        ("port_restricted", "symmetric", False),
        ("symmetric", "address_restricted", True),
        ("symmetric", "symmetric", False),
        ("open_internet", "blocked", False),
        ("unknown", "open_internet", True),
        ("open_internet", "no such thing", False),
    ],
)
def test_direct_connections(ours, theirs, expected):
    traversal = NATTraversal(settings())
    traversal.nat_type = ours
    assert traversal.can_connect_directly(theirs) is expected


def test_what_was_discovered_counts_more_than_its_class():
    traversal = NATTraversal(settings())
    traversal.nat_type = "port_restricted"
    assert not traversal.can_connect_directly("symmetric")
    traversal.behaviour = NatBehaviour(Dependence.ENDPOINT_INDEPENDENT, Dependence.ADDRESS_DEPENDENT, True)
    assert traversal.can_connect_directly("symmetric")


def test_everything_is_exported():
    assert {"NATTraversal", "STUNClient", "STUNResponse", "Settings"} <= set(peerpath.__all__)
    assert all(hasattr(peerpath, name) for name in peerpath.__all__)
