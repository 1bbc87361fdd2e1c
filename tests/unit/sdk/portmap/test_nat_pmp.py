"""NatPmpClient: RFC 6886, on a clock that the test moves."""

import struct

import pytest
from peerpath.portmap import Granted, Mapping, MappingMethod, Refused
from peerpath.portmap.mapping import Found
from peerpath.portmap.nat_pmp import NatPmpClient
from stunwire import TransportAddress
from unit.sdk.portmap.gateway_in_memory import PUBLIC, Run, nat_pmp_address, nat_pmp_mapping

INTERNAL = TransportAddress("192.168.1.5", 4000)


@pytest.fixture
def run() -> Run:
    return Run(NatPmpClient(INTERNAL)).start()


@pytest.fixture
def granted(run: Run) -> Run:
    run.receive(nat_pmp_address())
    run.do(run.client.map(run.now))  # type: ignore[attr-defined]
    run.receive(nat_pmp_mapping(run.sent[-1], port=4711, lifetime=1000))
    return run


def test_it_asks_for_the_address_first_and_then_for_the_port(granted: Run) -> None:
    assert granted.sent == [b"\0\0", bytes.fromhex("000100000fa00fa000001c20")]
    external = TransportAddress(PUBLIC, 4711)
    assert granted.events == [Found(), Granted(Mapping(MappingMethod.NAT_PMP, INTERNAL, external, 1000))]


def test_nothing_is_mapped_before_it_is_its_turn(run: Run) -> None:
    run.receive(nat_pmp_address())
    run.run(60)
    assert run.sent == [b"\0\0"]
    run.do(run.client.close(run.now))
    assert run.sent == [b"\0\0"]


def test_it_is_renewed_with_the_port_that_it_got(granted: Run) -> None:
    granted.run(500)
    assert granted.sent[2] == bytes.fromhex("000100000fa0") + struct.pack("!HI", 4711, 7200)


def test_after_a_reboot_the_address_is_asked_for_again_too(granted: Run) -> None:
    granted.run(100)
    granted.do(granted.client.announced(nat_pmp_address(epoch=1, host="9.9.9.9"), granted.now))
    assert granted.sent[2] == b"\0\0"
    granted.receive(nat_pmp_address(epoch=1, host="9.9.9.9"))
    granted.receive(nat_pmp_mapping(granted.sent[3], epoch=1))
    [*_, again] = granted.events
    assert isinstance(again, Granted)
    assert again.mapping.external == ("9.9.9.9", 4711)


def test_a_reboot_that_shows_in_a_renewal_is_noticed_as_well(granted: Run) -> None:
    granted.run(500)
    granted.receive(nat_pmp_mapping(granted.sent[2], epoch=2))
    assert granted.sent[3] == b"\0\0"


def test_closing_deletes_the_mapping(granted: Run) -> None:
    granted.do(granted.client.close(granted.now))
    assert granted.sent[-1] == bytes.fromhex("000100000fa0000000000000")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (nat_pmp_address(host="10.1.2.3"), "10.1.2.3 is not public"),
        (nat_pmp_address(result=3), "no address of its own yet"),
        (nat_pmp_address(result=77), "result 77"),
        (nat_pmp_address(opcode=129), "opcode 129"),
        (b"\0\x80\0", "3 bytes"),
        (bytes(1200), "too long"),
        (b"", "0 bytes"),
    ],
)
def test_what_is_of_no_use_is_refused_with_its_reason(run: Run, answer: bytes, reason: str) -> None:
    run.receive(answer)
    if Found() in run.events:
        run.do(run.client.map(run.now))  # type: ignore[attr-defined]
        run.receive(nat_pmp_mapping(run.sent[-1]))
    run.run(60)
    refused = run.events[-1]
    assert isinstance(refused, Refused)
    assert reason in refused.reason
