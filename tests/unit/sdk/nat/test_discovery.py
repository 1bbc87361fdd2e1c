"""BehaviourDiscovery on a little internet: every NAT is called by its name, whatever gets lost."""

import pytest
from peerpath.nat.behaviour import Dependence, NatType, PortAssignment
from peerpath.nat.discovery import BehaviourDiscovery, Discovered, SendFrom, Socket
from stunwire import TransportAddress
from unit.sdk.little_internet import AD, APD, EI, Internet, Nat, StunServer

HOST = "192.168.1.7"
PUBLIC = "203.0.113.7"


class Machine:
    """Runs a discovery behind `nat`."""

    def __init__(self, internet, nat, servers):
        internet.host(HOST, nat, PUBLIC if nat.mapping is not None else None)
        self.internet = internet
        addresses = {
            socket: TransportAddress(HOST, port)
            for socket, port in zip(Socket, (41000, 41001, 41002), strict=True)
        }
        self.addresses = addresses
        self.core = BehaviourDiscovery(servers, addresses)
        self.found = None
        for socket, address in addresses.items():
            internet.socket(address, lambda data, source, s=socket: self._received(s, data, source))

    def run(self):
        self._carry_out(self.core.start(self.internet.now))
        self.internet.run(60, lambda: self.found is not None)
        return self.found.behaviour

    def _received(self, socket, data, source):
        self._carry_out(self.core.receive(socket, data, source, self.internet.now))

    def _timer(self):
        deadline = self.core.next_deadline()
        if self.found is None and deadline is not None and deadline <= self.internet.now:
            self._carry_out(self.core.handle_timeout(self.internet.now))

    def _carry_out(self, outputs):
        for output in outputs:
            if isinstance(output, SendFrom):
                self.internet.send(self.addresses[output.socket], output.to, output.data)
            elif isinstance(output, Discovered):
                self.found = output
        deadline = self.core.next_deadline()
        if deadline is not None:
            self.internet.at(deadline, self._timer)


NATS = {
    "open": (Nat(None), NatType.OPEN_INTERNET),
    "firewall": (Nat(None, APD), NatType.FIREWALL),
    "full cone": (Nat(EI, EI, hairpin=True), NatType.FULL_CONE),
    "address restricted": (Nat(EI, AD, "sequential", hairpin=True), NatType.ADDRESS_RESTRICTED),
    "port restricted": (Nat(EI, APD), NatType.PORT_RESTRICTED),
    "port restricted, random": (Nat(EI, APD, "random"), NatType.PORT_RESTRICTED),
    "address dependent": (Nat(AD, AD, "random"), NatType.SYMMETRIC),
    "address dependent, port filter": (Nat(AD, APD, "random"), NatType.SYMMETRIC),
    "symmetric": (Nat(APD, APD, "random"), NatType.SYMMETRIC),
    "symmetric, open filter": (Nat(APD, EI, "random"), NatType.SYMMETRIC),
    "symmetric, sequential": (Nat(APD, APD, "sequential"), NatType.SYMMETRIC),
}


def behind(kind, **internet):
    nat, expected = NATS[kind]
    network = Internet(**internet)
    server = StunServer(network, "198.51.100.1", "198.51.100.2")
    fresh = Nat(nat.mapping, nat.filtering, nat.ports, nat.hairpin)
    machine = Machine(network, fresh, [server.address])
    return machine.run(), expected, network


@pytest.mark.parametrize("kind", NATS)
def test_a_nat_is_called_by_its_name(kind):
    behaviour, expected, network = behind(kind)
    nat = NATS[kind][0]

    assert behaviour.mapping is (nat.mapping or EI)
    assert behaviour.filtering is nat.filtering
    assert behaviour.nat_type is expected
    assert behaviour.hairpinning is (nat.hairpin if nat.mapping is not None else None)
    assert behaviour.public_address.host == (PUBLIC if nat.mapping is not None else HOST)
    assert behaviour.port_assignment is PortAssignment(nat.ports)
    assert network.now < 2.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", NATS)
def test_a_lossy_path_changes_nothing(kind, seed):
    behaviour, expected, _ = behind(kind, loss=0.1, seed=seed)

    assert behaviour.nat_type is expected


def plain(nat, servers):
    network = Internet()
    made = [StunServer(network, host, port=port) for host, port in servers]
    return Machine(network, nat, [server.address for server in made]).run()


ONE, TWO = ("198.51.100.1", 3478), ("198.51.100.2", 3478)
ONE_AGAIN = ("198.51.100.1", 3479)


@pytest.mark.parametrize(
    ("nat", "servers", "mapping", "nat_type"),
    [
        (Nat(EI, EI), [ONE, TWO], EI, NatType.PORT_RESTRICTED),
        (Nat(EI, EI), [ONE], Dependence.UNKNOWN, NatType.UNKNOWN),
        (Nat(APD, EI, "random"), [ONE, TWO], APD, NatType.SYMMETRIC),
        (Nat(APD, EI, "random"), [ONE, ONE_AGAIN, TWO], APD, NatType.SYMMETRIC),
        (Nat(AD, EI, "random"), [ONE, ONE_AGAIN, TWO], AD, NatType.SYMMETRIC),
        (Nat(None), [ONE], EI, NatType.OPEN_INTERNET),
    ],
)
def test_plain_servers_tell_the_mapping_and_say_that_filtering_is_unknown(nat, servers, mapping, nat_type):
    behaviour = plain(nat, servers)

    assert behaviour.mapping is mapping
    assert behaviour.filtering is Dependence.UNKNOWN
    assert behaviour.nat_type is nat_type
    assert "Filtering is unknown" in behaviour.notes[0]


def test_a_dead_server_costs_no_answer():
    network = Internet()
    server = StunServer(network, "198.51.100.1", "198.51.100.2")
    dead = TransportAddress("198.51.100.66", 3478)
    behaviour = Machine(network, Nat(EI, EI), [dead, server.address]).run()

    assert behaviour.nat_type is NatType.FULL_CONE
    assert network.now < 2.0


def test_silence_is_not_called_a_nat():
    network = Internet()
    machine = Machine(network, Nat(EI, EI), [TransportAddress("198.51.100.66", 3478)])
    behaviour = machine.run()

    assert behaviour.udp_blocked
    assert behaviour.nat_type is NatType.UNKNOWN
    assert machine.found.failures == {TransportAddress("198.51.100.66", 3478): "no answer"}
    assert network.now < 5.0


def test_silence_need_not_be_waited_for_once_the_server_is_known_to_live():
    network = Internet()
    machine = Machine(network, Nat(EI, EI), [TransportAddress("198.51.100.66", 3478)])
    machine.core.start(0)
    [_, discovered] = machine.core.give_up(2.5)

    assert discovered.behaviour.udp_blocked
    assert machine.core.next_deadline() is None
    assert machine.core.give_up(3) == []


def test_a_server_that_ignores_change_request_proves_nothing():
    network = Internet()
    server = StunServer(network, "198.51.100.1", "198.51.100.2", honours_change=False)
    behaviour = Machine(network, Nat(EI, APD), [server.address]).run()

    assert behaviour.filtering is Dependence.UNKNOWN
    assert behaviour.mapping is EI
    assert behaviour.nat_type is NatType.PORT_RESTRICTED


def test_a_second_address_that_leads_nowhere_leaves_the_mapping_to_the_other_servers():
    network = Internet()
    server = StunServer(network, "198.51.100.1", "198.51.100.2")
    other = StunServer(network, "198.51.100.3")
    del network._behind["198.51.100.2"]
    behaviour = Machine(network, Nat(APD, APD, "random"), [other.address, server.address]).run()

    assert behaviour.mapping is APD
    assert "which does not answer" in behaviour.notes[0]
