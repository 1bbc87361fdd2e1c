"""TCP candidates (RFC 6544): who is paired with whom, and connections of strangers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from itertools import product

import pytest
from peerpath.ice import AgentOptions, Candidate, CandidateFound, CandidateType, Output, Refusal, Role
from peerpath.ice.candidate import TcpType
from peerpath.ice.host_sockets import HostSockets
from peerpath.ice.outputs import CandidateRefused, Transmit
from peerpath.ice.priority import candidate_priority, relay_preference, tcp_relay_preference
from peerpath.ice.sdp import format_candidate, parse_candidate
from peerpath.ice.servers import Inquiry
from peerpath.ice.stack import IceStack
from peerpath.ice.tcp_candidates import TcpCandidates
from peerpath.ice.tcp_fallback import TcpFallback
from stunwire import Message, MessageClass, TransportAddress, frame_rfc4571

HOST = "127.0.0.1"


def candidate(tcp_type: str | None, host: str = "192.0.2.1", transport: str = "tcp") -> Candidate:
    extensions = () if tcp_type is None else (("tcptype", tcp_type),)
    address = TransportAddress(host, 4000)
    return Candidate(CandidateType.HOST, address, 1000, "1", transport=transport, extensions=extensions)


@pytest.mark.parametrize(("ours", "theirs"), list(product(("active", "passive", "so", None), repeat=2)))
def test_the_table_of_rfc_6544_section_6_2(ours: str | None, theirs: str | None) -> None:
    paired = {("active", "passive"), ("passive", "active"), ("so", "so")}
    assert candidate(ours).fits(candidate(theirs)) is ((ours, theirs) in paired)


def test_datagrams_and_connections_are_never_paired() -> None:
    udp = candidate(None, transport="udp")
    assert udp.fits(udp)
    assert not udp.fits(candidate("so"))
    assert not candidate("so").fits(udp)
    assert not candidate("so").fits(candidate("so", host="2001:db8::1"))


def test_the_type_goes_through_sdp() -> None:
    line = "candidate:1 1 tcp 2105458943 192.0.2.1 9 typ host tcptype active"
    assert parse_candidate(line).tcp_type is TcpType.ACTIVE
    assert format_candidate(parse_candidate(line)) == line


def test_any_connection_ranks_below_any_direct_datagrams_and_above_relays() -> None:
    streams = [
        candidate_priority(kind, 65535, is_tcp=True)
        for kind in CandidateType
        if kind is not CandidateType.RELAYED
    ]
    assert max(streams) < candidate_priority(CandidateType.SERVER_REFLEXIVE, 0)
    assert min(streams) > candidate_priority(CandidateType.RELAYED, 65535)


@pytest.mark.parametrize("tcp", [False, True])
def test_the_peers_tcp_candidates_are_for_those_who_asked_for_them(tcp: bool) -> None:
    stack = IceStack(Role.CONTROLLING, options=AgentOptions(tcp=tcp))
    outputs = stack.add_remote_candidate(candidate("passive"), 0.0)
    assert [output.reason for output in outputs if isinstance(output, CandidateRefused)] == (
        [] if tcp else [Refusal.UNSUPPORTED]
    )
    refused = stack.add_remote_candidate(candidate(None), 0.0)
    assert isinstance(refused[0], CandidateRefused)


class Listening:
    """The TCP candidates of one host without a peer."""

    def __init__(self) -> None:
        self.stack = IceStack(Role.CONTROLLING, options=AgentOptions(tcp=True))
        self.outputs: list[Output] = []
        self.arrived: list[bytes] = []
        self.tcp = TcpCandidates(
            self.stack, self.outputs.extend, lambda data, local, remote: self.arrived.append(data)
        )

    def base(self, tcp_type: TcpType) -> TransportAddress:
        found = [output.candidate for output in self.outputs if isinstance(output, CandidateFound)]
        [base] = [each.base for each in found if each.candidate.tcp_type is tcp_type]
        return base


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    made = Listening()
    await made.tcp.begin(HOST, 65535)
    yield made
    await made.tcp.close()


async def test_each_address_has_an_active_a_passive_and_a_simultaneous_candidate(
    listening: Listening,
) -> None:
    assert listening.base(TcpType.ACTIVE) == (HOST, 9)
    ports = {listening.base(tcp_type).port for tcp_type in TcpType}
    assert len(ports) == 3


async def test_an_address_is_begun_with_once_however_many_ask_for_that_at_the_same_time() -> None:
    hosts = [HOST, "127.0.0.2"]
    sockets = HostSockets(
        lambda: hosts,
        (0, 0),
        arrived=lambda *_: None,
        opened=lambda *_: None,
        closed=lambda *_: None,
    )
    await sockets.open(patience=1.0)
    made = Listening()
    fallback = TcpFallback(made.stack, made.tcp, sockets, None)
    await asyncio.gather(*(fallback.begin() for _ in range(3)))
    found = [output.candidate for output in made.outputs if isinstance(output, CandidateFound)]
    passive = [each.base.host for each in found if each.candidate.tcp_type is TcpType.PASSIVE]
    await made.tcp.close()
    sockets.close()
    assert sorted(passive) == hosts


async def test_the_peers_first_check_opens_a_connection_that_others_cannot_have(listening: Listening) -> None:
    check = _check_for(listening.stack)
    host, port = listening.base(TcpType.PASSIVE)
    _, peer = await asyncio.open_connection(host, port)
    peer.write(frame_rfc4571(check) + frame_rfc4571(b"data"))
    async with asyncio.timeout(5):
        while len(listening.arrived) < 2:
            await asyncio.sleep(0.01)
    assert listening.arrived == [check, b"data"]
    peer.close()


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", frame_rfc4571(b"data"), frame_rfc4571(bytes(20))]
)
async def test_a_stranger_is_cut_off_at_once(listening: Listening, first: bytes) -> None:
    host, port = listening.base(TcpType.SIMULTANEOUS)
    reader, stranger = await asyncio.open_connection(host, port)
    # An HTTP request reads as the beginning of a long frame: its rest is what fills it.
    stranger.write(first + bytes(20_000))
    async with asyncio.timeout(5):
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
    assert listening.arrived == []
    stranger.close()


async def test_when_the_address_is_gone_so_are_its_candidates_and_connections(listening: Listening) -> None:
    host, port = listening.base(TcpType.PASSIVE)
    reader, peer = await asyncio.open_connection(host, port)
    peer.write(frame_rfc4571(_check_for(listening.stack)))
    async with asyncio.timeout(5):
        while not listening.arrived:
            await asyncio.sleep(0.01)
    listening.tcp.end(HOST)
    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    assert list(listening.stack.agent.candidates) == []
    with pytest.raises(OSError):
        await asyncio.open_connection(host, port)
    peer.close()


async def test_what_was_said_before_a_connection_ended_unheard_is_said_again(listening: Listening) -> None:
    """The peer's relay resets whom it is not told to let in, and may be told so only then."""
    heard: list[bytes] = []
    enough = asyncio.Event()

    async def let_in_the_third(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readexactly(7))
        if len(heard) == 3:
            writer.write(frame_rfc4571(b"hello"))
            enough.set()
        writer.close()

    async with await asyncio.start_server(let_in_the_third, HOST, 0) as server, asyncio.timeout(10):
        peer = TransportAddress(*server.sockets[0].getsockname())
        listening.tcp.send(listening.base(TcpType.ACTIVE), peer, b"check")
        await enough.wait()
        while not listening.arrived:
            await asyncio.sleep(0.01)
    assert heard == [frame_rfc4571(b"check")] * 3
    assert listening.arrived == [b"hello"]


# -- relayed addresses for TCP ----------------------------------------------------------------------------

RELAYED, OTHER = TransportAddress("203.0.113.5", 50001), TransportAddress("203.0.113.9", 50002)
MAPPED = TransportAddress("192.0.2.77", 41000)


def with_a_tcp_relay(role: Role, relayed: TransportAddress) -> tuple[IceStack, list[Candidate]]:
    """A stack, and its candidates."""
    stack = IceStack(role, options=AgentOptions(tcp=True, relay_only=True))
    report = stack.gatherer.expect_relay("turns:relay", "tls", 0.0, inquiry=Inquiry.TCP_ALLOCATION)
    outputs = stack.add_tcp_relay(report, [relayed], MAPPED, relayed.host, 0, 0.0)
    return stack, [output.candidate.candidate for output in outputs if isinstance(output, CandidateFound)]


def test_a_relayed_address_is_a_place_to_connect_from_and_one_to_be_connected_to() -> None:
    _, found = with_a_tcp_relay(Role.CONTROLLING, RELAYED)
    assert [(each.tcp_type, each.address) for each in found] == [
        (TcpType.ACTIVE, (RELAYED.host, 9)),
        (TcpType.PASSIVE, RELAYED),
    ]
    assert {(each.type, each.transport) for each in found} == {(CandidateType.RELAYED, "tcp")}
    assert found[0].priority > found[1].priority


def test_a_relay_that_meets_peers_over_tcp_ranks_below_each_that_does_so_over_udp() -> None:
    over_tcp = [
        candidate_priority(CandidateType.RELAYED, tcp_relay_preference(tcp_type, "tcp", 0), is_tcp=True)
        for tcp_type in TcpType
    ]
    eighth_interface = 65535 - 7 * 256
    last = candidate_priority(CandidateType.RELAYED, relay_preference(eighth_interface, "wss", 99, "tor"))
    assert max(over_tcp) < last


def test_two_relayed_addresses_are_one_pair_on_each_side() -> None:
    """Whichever side connects: the relays have one connection between the two."""
    one, its = with_a_tcp_relay(Role.CONTROLLING, RELAYED)
    other, others = with_a_tcp_relay(Role.CONTROLLED, OTHER)
    checks = one.set_remote(replace(other.description, candidates=tuple(others)), 0.0)
    other.set_remote(replace(one.description, candidates=tuple(its)), 0.0)
    assert [pair.key for pair in one.agent.pairs] == [(RELAYED, OTHER)]
    assert [pair.key for pair in other.agent.pairs] == [(OTHER, RELAYED)]
    queue = [(one, output) for output in checks]
    while queue:
        sender, output = queue.pop(0)
        if isinstance(output, Transmit):
            receiver = other if sender is one else one
            queue += [
                (receiver, more) for more in receiver.receive(output.data, output.remote, output.local, 1.0)
            ]
    for stack, relayed in ((one, RELAYED), (other, OTHER)):
        assert stack.agent.path is not None
        assert (stack.agent.path.local.type, stack.agent.path.local.address) == (
            CandidateType.RELAYED,
            relayed,
        )


def test_a_relay_connects_from_where_it_can_be_connected_to() -> None:
    """So that its passive candidate is known by the address from which its connection comes."""
    stack = IceStack(Role.CONTROLLED, options=AgentOptions(tcp=True))
    base = TransportAddress("192.0.2.1", 4000)
    stack.add_tcp_candidate(base, TcpType.PASSIVE, 65535, 0.0)
    peer, its = with_a_tcp_relay(Role.CONTROLLING, RELAYED)
    stack.set_remote(replace(peer.description, candidates=tuple(its)), 0.0)
    checks = peer.set_remote(stack.description, 0.0)
    [check] = [output for output in checks if isinstance(output, Transmit)]
    assert (check.local, check.remote) == (RELAYED, base)
    outputs = stack.receive(check.data, base, RELAYED, 1.0) + stack.handle_timeout(2.0)
    sent = [Message.decode(output.data) for output in outputs if isinstance(output, Transmit)]
    assert MessageClass.REQUEST in {message.message_class for message in sent}, "it checks nothing itself"
    [pair] = stack.agent.pairs
    assert (pair.remote.type, pair.remote.tcp_type) == (CandidateType.RELAYED, TcpType.ACTIVE)


def _check_for(stack: IceStack) -> bytes:
    """As the peer forms it that knows our description."""
    peer = IceStack(Role.CONTROLLED)
    peer.set_remote(stack.description, 0.0)
    check = peer.agent.probe()
    assert check is not None
    return check
