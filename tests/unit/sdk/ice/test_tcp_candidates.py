"""TCP candidates (RFC 6544): who is paired with whom, and connections of strangers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import product

import pytest
from peerpath.ice import AgentOptions, Candidate, CandidateFound, CandidateType, Output, Refusal, Role
from peerpath.ice.candidate import TcpType
from peerpath.ice.outputs import CandidateRefused
from peerpath.ice.priority import candidate_priority
from peerpath.ice.sdp import format_candidate, parse_candidate
from peerpath.ice.stack import IceStack
from peerpath.ice.tcp_candidates import TcpCandidates
from stunwire import TransportAddress, frame_rfc4571

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


def _check_for(stack: IceStack) -> bytes:
    """As the peer forms it that knows our description."""
    peer = IceStack(Role.CONTROLLED)
    peer.set_remote(stack.description, 0.0)
    check = peer.agent.probe()
    assert check is not None
    return check
