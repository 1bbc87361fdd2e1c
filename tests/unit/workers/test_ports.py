"""Relay ports of several processes: no clashes, nothing left unused, and known to the others."""

from stunwire import TransportAddress
from turnrelay.core.addresses import RelayedAddress
from turnrelay.relay.plane import RelayHost
from turnrelay.workers.ports import Neighbourhood, PortMap, SharedPortPool, ports_of_others

HOST, MAPPED = RelayHost("10.0.0.1", "10.0.0.1"), RelayHost("10.0.0.2", "198.51.100.7")


class Process:
    """The port map as a forked process has it: the memory is common, the number is its own."""

    def __init__(self, ports: PortMap, member: int, first: int = 50000, last: int = 50015) -> None:
        self.ports = PortMap([HOST, MAPPED], member)
        self.ports._map = ports._map
        self.pool = SharedPortPool(self.ports, HOST, first, last, 2)

    def open(self, even: bool = False, with_next: bool = False) -> int | None:
        port = next(self.pool.candidates(even, with_next), None)
        for taken in () if port is None else (port, port + 1) if with_next else (port,):
            self.pool.take(taken)
        return port


def _two() -> tuple[Process, Process]:
    ports = PortMap([HOST, MAPPED])
    return Process(ports, 0), Process(ports, 1)


def test_each_takes_its_own_share_first():
    one, other = _two()
    mine, theirs = {one.open() for _ in range(8)}, {other.open() for _ in range(8)}
    assert mine | theirs == set(range(50000, 50016))
    assert {port // 2 % 2 for port in mine if port} == {0}
    assert (one.open(), other.open()) == (None, None)


def test_one_may_use_what_the_other_leaves():
    one, other = _two()
    held = [other.open() for _ in range(3)]
    assert len({one.open() for _ in range(13)} - {None}) == 13
    assert one.open() is None
    assert held[0] is not None
    other.pool.give_back(held[0])
    assert one.open() == held[0]
    assert other.open() is None


def test_pairs_of_ports_are_whole():
    one, other = _two()
    pairs = [process.open(even=True, with_next=True) for _ in range(4) for process in (one, other)]
    assert sorted(port for port in pairs if port is not None) == list(range(50000, 50016, 2))
    assert one.open(even=True, with_next=True) is None


def test_a_relayed_address_of_another_process_is_known_and_ones_own_is_not():
    one, other = _two()
    one.ports.take(MAPPED, 50003)
    relay = RelayedAddress(TransportAddress("198.51.100.7", 50003))
    assert other.ports.reach(relay) == ("10.0.0.2", 50003)
    assert one.ports.reach(relay) is None
    assert other.ports.reach(RelayedAddress(TransportAddress("198.51.100.7", 50004))) is None
    assert other.ports.reach(RelayedAddress(TransportAddress("203.0.113.9", 50003))) is None
    assert other.ports.seen_from("10.0.0.2", 50003) == "198.51.100.7"
    assert other.ports.seen_from("10.0.0.2", 50004) is None
    assert one.ports.seen_from("10.0.0.2", 50003) is None


def test_the_ports_of_a_dead_process_are_free_and_the_others_stay():
    one, other = _two()
    for _ in range(8):
        one.open()
        other.open()
    one.ports.forget(1)
    assert len({one.open() for _ in range(8)} - {None}) == 8
    assert one.open() is None


def test_a_port_of_tcp_is_no_relayed_address_of_udp_nor_the_other_way_round():
    one, other = _two()
    one.ports.take(HOST, 50003)
    one.ports.take(HOST, 50004, tcp=True)
    datagrams = RelayedAddress(TransportAddress(HOST.advertised, 50003))
    streams = RelayedAddress(TransportAddress(HOST.advertised, 50004))
    assert other.ports.reach(datagrams) == ("10.0.0.1", 50003)
    assert other.ports.reach(datagrams, tcp=True) is None
    assert other.ports.reach(streams, tcp=True) == ("10.0.0.1", 50004)
    assert other.ports.reach(streams) is None
    assert other.ports.seen_from("10.0.0.1", 50004, tcp=True) == "10.0.0.1"
    assert other.ports.seen_from("10.0.0.1", 50004) is None
    assert not other.pool.is_free(50003)
    assert not other.pool.is_free(50004)
    other.ports.forget(0)
    assert other.pool.is_free(50003)
    assert other.pool.is_free(50004)


def test_a_port_that_another_process_took_over_stays_its_own():
    one, other = _two()
    port = one.open()
    assert port is not None
    other.pool.take(port)
    one.pool.give_back(port)
    assert not one.pool.is_free(port)
    other.pool.give_back(port)
    assert one.pool.is_free(port)


def test_relayed_addresses_of_another_relay_are_known_by_its_map_until_it_is_gone():
    before, after = PortMap([HOST, MAPPED]), PortMap([HOST], 1)
    before.member = 1
    before.take(MAPPED, 50003)
    after.take(HOST, 50001)
    assert before.descriptor is not None
    neighbours = Neighbourhood(after)
    neighbours.maps.append(ports_of_others(before.hosts, before.descriptor))
    relay, own = (
        RelayedAddress(TransportAddress(host, port))
        for host, port in (("198.51.100.7", 50003), ("10.0.0.1", 50001))
    )
    assert neighbours.reach(relay) == ("10.0.0.2", 50003)
    assert neighbours.seen_from("10.0.0.2", 50003) == "198.51.100.7"
    assert neighbours.reach(relay, tcp=True) is None
    assert neighbours.reach(own) is None
    before.give_back(MAPPED, 50003)
    assert neighbours.reach(relay) is None
    before.take(MAPPED, 50004)
    neighbours.maps[1].clear()
    assert before.holder(MAPPED, 50004) == 0


def test_a_port_that_came_from_another_relay_is_known_outside_of_the_range_too():
    one, other = _two()
    one.pool.adopt(40000)
    relay = RelayedAddress(TransportAddress("10.0.0.1", 40000))
    assert other.ports.reach(relay) == ("10.0.0.1", 40000)
    one.pool.give_back(40000)
    assert other.ports.reach(relay) is None
    assert 40000 not in set(one.pool.candidates(False, False))
