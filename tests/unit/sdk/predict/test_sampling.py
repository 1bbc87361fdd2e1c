"""Sampler: what a few servers see of a few sockets, through NATs on a virtual clock."""

import pytest
from peerpath.nat.behaviour import Dependence
from peerpath.predict import Pattern, Sampled, Sampler, SendSample, pattern_of
from stunwire import TransportAddress
from unit.sdk.little_internet import AD, APD, EI, OPEN, Internet, Nat, StunServer

HOST, PUBLIC = "192.168.1.2", "5.5.5.5"


class Run:
    """One sampling from a host behind `nat`; socket number n has port 4000 + n."""

    def __init__(self, nat: Nat, *servers: tuple[str, ...], deaf: int = 0, loss: float = 0.0) -> None:
        self.internet = Internet(loss=loss)
        self.internet.host(HOST, nat, PUBLIC if nat.mapping is not None else None)
        asked = [StunServer(self.internet, *hosts).address for hosts in servers]
        asked += [TransportAddress(f"9.9.9.{number}", 3478) for number in range(deaf)]
        self.sockets: set[int] = set()
        self.destinations: list[TransportAddress] = []
        self.sampled: Sampled | None = None
        self.sampler = Sampler(asked)
        self._do(self.sampler.start(0.0))
        while self.sampled is None and (deadline := self.sampler.next_deadline()) is not None:
            self.internet.run(deadline, lambda: self.sampled is not None)
            self.internet.now = max(self.internet.now, deadline)
            if self.sampled is None:
                self._do(self.sampler.handle_timeout(self.internet.now))

    def _do(self, outputs: list[SendSample | Sampled]) -> None:
        for output in outputs:
            if isinstance(output, Sampled):
                self.sampled = output
                continue
            address = TransportAddress(HOST, 4000 + output.socket)
            if output.socket not in self.sockets:
                self.sockets.add(output.socket)
                self.internet.socket(
                    address, lambda data, source, n=output.socket: self._came(n, data, source)
                )
            self.destinations.append(output.to)
            self.internet.send(address, output.to, output.data)

    def _came(self, socket: int, data: bytes, source: TransportAddress) -> None:
        self._do(self.sampler.receive(socket, data, source, self.internet.now))


TWO = (("1.1.1.1",), ("2.2.2.2",))
BOTH_ADDRESSES = (("1.1.1.1", "1.1.2.1"),)


@pytest.mark.parametrize("servers", [TWO, BOTH_ADDRESSES])
@pytest.mark.parametrize("nat", [Nat(EI), Nat(EI, APD, "random"), OPEN])
def test_an_easy_nat_takes_one_socket(nat: Nat, servers: tuple[tuple[str, ...], ...]) -> None:
    run = Run(nat, *servers)
    assert run.sampled is not None
    assert run.sampled.mapping is Dependence.ENDPOINT_INDEPENDENT
    assert run.sockets == {0}
    assert len(run.sampled.ports) == 1
    assert run.sampled.round_trip == pytest.approx(0.04)


@pytest.mark.parametrize("servers", [TWO, BOTH_ADDRESSES, (("1.1.1.1",),)])
def test_a_counting_nat_is_seen_to_count(servers: tuple[tuple[str, ...], ...]) -> None:
    run = Run(Nat(APD, APD, "sequential"), *servers)
    assert run.sampled is not None
    assert run.sampled.ports == tuple(range(20001, 20001 + len(run.sampled.ports)))
    assert 6 <= len(run.sampled.ports) <= 8
    assert pattern_of(run.sampled.ports).kind is Pattern.INCREMENT


def test_one_server_with_two_addresses_is_asked_at_all_four_places_from_one_socket() -> None:
    run = Run(Nat(APD, APD, "random"), *BOTH_ADDRESSES)
    assert {tuple(to) for to in run.destinations} == {
        (host, port) for host in ("1.1.1.1", "1.1.2.1") for port in (3478, 3479)
    }
    assert run.sampled is not None
    assert run.sampled.mapping is Dependence.ADDRESS_AND_PORT_DEPENDENT


def test_a_nat_that_maps_by_address_alone_is_told_from_one_that_looks_at_ports() -> None:
    run = Run(Nat(AD, AD, "sequential"), *BOTH_ADDRESSES)
    assert run.sampled is not None
    assert run.sampled.mapping is Dependence.ADDRESS_DEPENDENT
    # What one mapping says twice counts once, so that the steps are those between mappings.
    assert pattern_of(run.sampled.ports).kind is Pattern.INCREMENT


def test_one_plain_server_cannot_tell_the_mapping() -> None:
    run = Run(Nat(EI), ("1.1.1.1",))
    assert run.sampled is not None
    assert run.sampled.mapping is Dependence.UNKNOWN


def test_servers_that_say_nothing_do_not_keep_it_from_ending() -> None:
    run = Run(Nat(APD, APD, "random"), *TWO, deaf=1)
    assert run.sampled is not None
    assert len(run.sampled.ports) >= 4
    assert run.internet.now < 4


def test_without_any_answer_there_is_nothing() -> None:
    run = Run(Nat(EI, blocks_udp=True), *TWO)
    assert run.sampled is not None
    assert run.sampled.samples == ()
    assert run.sampled.mapping is Dependence.UNKNOWN


def test_lost_packets_are_repeated() -> None:
    run = Run(Nat(APD, APD, "random"), *TWO, loss=0.2)
    assert run.sampled is not None
    assert len(run.sampled.ports) >= 4
