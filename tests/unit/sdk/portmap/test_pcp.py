"""PcpClient: RFC 6887, on a clock that the test moves."""

import struct

import pytest
from peerpath.portmap import Granted, Lost, Mapping, MappingMethod, Refused
from peerpath.portmap.pcp import PcpClient
from stunwire import TransportAddress
from unit.sdk.portmap.gateway_in_memory import PUBLIC, Run, pcp_answer

INTERNAL = TransportAddress("192.168.1.5", 4000)
NONCE = bytes(range(12))


@pytest.fixture
def run() -> Run:
    return Run(PcpClient(INTERNAL, nonce=NONCE)).start()


def test_a_request_is_what_the_rfc_draws(run: Run) -> None:
    [request] = run.sent
    assert request == (
        b"\x02\x01\0\0" + (7200).to_bytes(4, "big")  # section 7.1: version, MAP, lifetime
        + b"\0" * 10 + b"\xff\xff\xc0\xa8\x01\x05"  # our address, IPv4-mapped
        + NONCE + b"\x11\0\0\0" + b"\x0f\xa0\x0f\xa0"  # section 11.1: UDP, internal and suggested port
        + b"\0" * 10 + b"\xff\xff\0\0\0\0"
    )  # fmt: skip


def test_an_ipv6_host_asks_with_its_own_address_and_gets_a_pinhole() -> None:
    run = Run(PcpClient(TransportAddress("2a00:1::5", 4000))).start()
    assert run.sent[0][8:24] == bytes.fromhex("2a000001000000000000000000000005")
    assert run.sent[0][44:60] == bytes(16)
    run.receive(pcp_answer(run.sent[0], host="2a00:1::5"))
    [granted] = run.events
    assert isinstance(granted, Granted)
    assert granted.mapping.external == ("2a00:1::5", 4000)


def test_a_mapping_is_granted(run: Run) -> None:
    run.receive(pcp_answer(run.sent[0], port=4711))
    external = TransportAddress(PUBLIC, 4711)
    assert run.events == [Granted(Mapping(MappingMethod.PCP, INTERNAL, external, 7200))]


def test_a_silent_gateway_is_asked_four_times_and_then_given_up(run: Run) -> None:
    run.run(60)
    assert len(run.sent) == 4
    assert run.events == [Refused("no answer")]
    assert run.client.next_deadline() is None


def test_it_is_renewed_when_half_of_its_life_is_over_with_the_same_nonce_and_port(run: Run) -> None:
    run.receive(pcp_answer(run.sent[0], port=4711, lifetime=1000))
    run.run(499)
    assert len(run.sent) == 1
    run.run(1)
    assert len(run.sent) == 2
    assert run.sent[1][24:36] == NONCE
    assert struct.unpack("!H", run.sent[1][42:44]) == (4711,)
    run.receive(pcp_answer(run.sent[1], port=4711, lifetime=1000, epoch=1500))
    assert len(run.events) == 1
    run.run(499)
    assert len(run.sent) == 2


def test_a_gateway_that_falls_silent_is_asked_to_the_end_and_then_the_mapping_is_lost(run: Run) -> None:
    run.receive(pcp_answer(run.sent[0], lifetime=1000))
    run.run(1001)
    assert run.events[1:] == [Lost("the gateway did not renew it")]
    assert 8 <= len(run.sent) <= 40


@pytest.mark.parametrize("has_new_address", [False, True])
def test_after_a_reboot_it_announces_the_mapping_is_made_again(run: Run, has_new_address: bool) -> None:
    run.receive(pcp_answer(run.sent[0], port=4711, epoch=90_000))
    run.run(100)
    announcement = struct.pack("!BBxBII12x", 2, 0x80, 0, 0, 3)
    run.do(run.client.announced(announcement, run.now))
    assert len(run.sent) == 2
    host = "9.9.9.9" if has_new_address else PUBLIC
    run.receive(pcp_answer(run.sent[1], host=host, port=4711, epoch=3))
    assert len(run.events) == (2 if has_new_address else 1)
    # The same announcement again is no news.
    run.do(run.client.announced(announcement, run.now))
    assert len(run.sent) == 2


@pytest.mark.parametrize("answer", [None, 7])
def test_a_gateway_that_cannot_give_it_yet_after_its_reboot_is_asked_until_it_can(
    run: Run, answer: int | None
) -> None:
    run.receive(pcp_answer(run.sent[0], port=4711, epoch=90_000))
    run.run(100)
    run.do(run.client.announced(struct.pack("!BBxBII12x", 2, 0x80, 0, 0, 3), run.now))
    if answer is not None:
        run.receive(pcp_answer(run.sent[1], port=4711, epoch=3, result=answer))
    asked = len(run.sent)
    run.run(30)
    asked_in_vain = len(run.sent)
    assert asked < asked_in_vain < asked + 20
    while len(run.sent) == asked_in_vain:
        run.run(1)
    run.receive(pcp_answer(run.sent[-1], host="9.9.9.9", port=4711, epoch=33))
    assert len(run.events) == 2
    asked = len(run.sent)
    run.run(1000)
    assert len(run.sent) == asked


def test_an_announcement_without_a_reboot_changes_nothing(run: Run) -> None:
    run.receive(pcp_answer(run.sent[0], epoch=1000))
    run.run(100)
    run.do(run.client.announced(struct.pack("!BBxBII12x", 2, 0x80, 0, 0, 1100), run.now))
    assert len(run.sent) == 1


def test_closing_deletes_the_mapping(run: Run) -> None:
    run.receive(pcp_answer(run.sent[0]))
    run.do(run.client.close(run.now))
    assert struct.unpack("!I", run.sent[-1][4:8]) == (0,)
    assert run.sent[-1][24:36] == NONCE
    assert run.client.next_deadline() is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 0, "opcode": 0x81}, None),
        ({"opcode": 0x82}, "opcode 0x82"),
        ({"opcode": 0x01}, "opcode 0x01"),
        ({"nonce": b"x" * 12}, "another nonce"),
        ({"internal": 9}, "another port"),
    ],
)
def test_an_answer_to_somebody_else_is_as_if_it_had_not_come(
    run: Run, changes: dict[str, int | bytes], reason: str | None
) -> None:
    run.receive(pcp_answer(run.sent[0], **changes))
    run.run(60)
    [refused] = run.events
    assert isinstance(refused, Refused)
    assert (reason or "another version") in refused.reason


@pytest.mark.parametrize(
    "garbage", [b"", b"\x02", bytes(24), bytes(60), bytes(1200), b"\x02\x81" + bytes(30)]
)
def test_garbage_does_not_keep_the_true_answer_out(run: Run, garbage: bytes) -> None:
    run.receive(garbage)
    run.receive(pcp_answer(run.sent[0]))
    assert isinstance(run.events[0], Granted)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"port": 0}, "port 0"),
        ({"host": "192.168.7.7"}, "192.168.7.7 is not public"),
        ({"host": "100.64.0.9"}, "100.64.0.9 is not public"),
        ({"host": "127.0.0.1"}, "nobody's address"),
        ({"host": "0.0.0.0"}, "nobody's address"),
        ({"lifetime": 0}, "no time at all"),
        ({"result": 2}, "NOT_AUTHORIZED"),
        ({"result": 8}, "no room"),
        ({"result": 99}, "result 99"),
    ],
)
def test_a_mapping_that_is_of_no_use_is_refused_with_its_reason(
    run: Run, changes: dict[str, int | str], reason: str
) -> None:
    run.receive(pcp_answer(run.sent[0], **changes))  # type: ignore[arg-type]
    [refused] = run.events
    assert isinstance(refused, Refused)
    assert reason in refused.reason
    assert run.client.next_deadline() is None


def test_what_is_of_no_use_is_given_back(run: Run) -> None:
    run.receive(pcp_answer(run.sent[0], host="10.0.0.1"))
    assert struct.unpack("!I", run.sent[-1][4:8]) == (0,)
