"""A running relay of several processes is replaced by the next one: nobody who is connected notices."""

import json
import os
import signal
import ssl
from collections.abc import Callable

import psutil
import pytest
from reliability.turn_peer import DatagramClient, Peer, StreamClient
from reliability.upgradable import (
    OPEN,
    ByChannel,
    ByIndication,
    ByRelay,
    Numbered,
    SharedTls,
    Traffic,
    UpgradableRelay,
)
from reliability.workers import error_of, eventually, succeeded
from stunwire import EVEN_PORT, RESERVATION_TOKEN, XOR_RELAYED_ADDRESS
from support.ports import loopback_address
from support.processes import is_alive
from support.relay import Access, Site

pytestmark = pytest.mark.slow

CLOSED = Access()
"""No peer on this machine but relayed addresses."""
EACH = 4
"""Clients of a kind, so that hardly ever all of them come to one worker."""


class UpgradableRelayOfTwo(UpgradableRelay):
    def __init__(self, site: Site, access: Access, **options) -> None:
        flags = ["--workers", "2", *options.pop("flags", ())]
        super().__init__(site, access, flags=flags, **options)

    def workers(self) -> dict[int, int]:
        """The number and the process of each worker, as the log told them last."""
        lines = self.log().split("\n")[:-1]
        told = [json.loads(line) for line in lines if line.startswith("{")]
        return {line["worker"]: line["pid"] for line in told if line["event"] == "worker serves"}

    def upgrade(self) -> None:
        before = self.workers()
        super().upgrade()
        eventually(lambda: not set(before.values()) & set(self.workers().values()), "workers are not told of")


@pytest.fixture
def over_tls(site, closing) -> Callable[[], StreamClient]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def make() -> StreamClient:
        return closing(
            StreamClient(
                (site.address, 5349),
                OPEN.username,
                OPEN.password,
                wrap=lambda sock: SharedTls(context.wrap_socket(sock)),
            )
        )

    return make


def holders(relay: UpgradableRelayOfTwo, clients: list[StreamClient]) -> set[int]:
    """The workers that have their relayed addresses open."""
    wanted, found = {tuple(client.relayed) for client in clients if client.relayed is not None}, set()
    for member, pid in relay.workers().items():
        if wanted & {tuple(each.laddr) for each in psutil.Process(pid).net_connections("udp")}:
            found.add(member)
    return found


def test_three_upgrades_lose_nothing_and_double_nothing(site, over_udp, over_tcp, peer):
    with UpgradableRelayOfTwo(site, OPEN) as relay:
        flows: list[Numbered] = [
            ByIndication("UDP indications", over_udp(), peer()),
            ByIndication("TCP indications", over_tcp(), peer()),
        ]
        while len(flows) < 2 + 2 * EACH or holders(relay, [flow.client for flow in flows]) != {1, 2}:
            flows += [ByChannel("UDP channel", over_udp(), peer())]
            flows += [ByChannel("TCP channel", over_tcp(), peer())]
        clients = [flow.client for flow in flows]
        with Traffic(flows) as traffic:
            for _ in range(3):
                traffic.goes_on()
                relay.upgrade()
            traffic.goes_on()
        traffic.must_be_whole()
        eventually(lambda: holders(relay, clients) == {1, 2}, "a worker has nobody's")
        sent = sum(flow.sent for flow in flows)

        def relayed() -> list[float]:
            page = relay.scrape()
            return [
                page.total("turnrelay_relayed_packets_total", direction=direction)
                for direction in ("to_peer", "from_peer")
            ]

        eventually(lambda: relayed() == [sent, sent], "packets are counted twice or not at all")
        assert relay.scrape().total("turnrelay_allocations_created_total") == len(flows)
        eventually(lambda: relay.scrape().total("turnrelay_allocations") == len(flows), "not all are told")
        for flow in flows:
            assert succeeded(flow.client.refresh(600)), "the nonce of the first process is good"
        eventually(lambda: relay.process.returncode == 0, "the first relay stays for nobody")


def test_clients_of_both_relays_and_of_all_workers_are_each_others_peers(site, over_udp, over_tls):
    with UpgradableRelayOfTwo(site, CLOSED) as relay:
        old_pids = [relay.pid, *relay.workers().values()]
        flows: list[Numbered] = [ByRelay("UDP to TLS", over_udp(), over_tls()) for _ in range(EACH)]
        flows += [ByRelay("UDP to UDP", over_udp(), over_udp()) for _ in range(EACH)]
        with Traffic(flows) as traffic:
            traffic.goes_on()
            relay.upgrade()
            traffic.goes_on()
        traffic.must_be_whole()
        assert all(is_alive(pid) for pid in old_pids), "TLS connections stay where they are"
        newcomer, other = over_tls(), over_udp()
        assert succeeded(newcomer.refresh(600)), "those who come now are served by the new process"
        assert succeeded(other.bind(0x4001, flows[0].peer.address)), "one that stayed is a fair peer"
        gone = flows[0].peer.address
        for flow in flows:
            flow.client.close()
            flow.peer.close()
        eventually(lambda: relay.process.returncode == 0, "the old relay stays for nobody")
        eventually(lambda: not any(is_alive(pid) for pid in old_pids), "an old worker stays for nobody")
        eventually(lambda: error_of(other.permit(gone)) == 403, "who is gone is still a peer")
        assert "worker_lost" not in relay.log()


def test_what_was_promised_and_counted_is_known_to_the_next_processes(site, over_udp, closing):
    with UpgradableRelayOfTwo(site, OPEN, allocations_per_user=EACH + 3) as relay:
        clients = [over_udp() for _ in range(EACH)]

        def unserved() -> DatagramClient:
            return closing(DatagramClient((site.address, relay.port), OPEN.username, OPEN.password))

        even = unserved()
        answer = even.allocate((EVEN_PORT, True))
        token, address = answer.get(RESERVATION_TOKEN), answer.get(XOR_RELAYED_ADDRESS)
        eventually(
            lambda: relay.scrape().total("turnrelay_allocations_created_total") == EACH + 1, "not all count"
        )
        relay.upgrade()
        page = relay.scrape()
        assert page.total("turnrelay_allocations_created_total") == EACH + 1
        redeemers = [unserved() for _ in range(EACH)]
        assert error_of(redeemers[0].allocate()) == 0
        assert error_of(redeemers[1].allocate()) == 486
        assert error_of(even.allocate()) == 437, "it has one"
        # Whichever worker it comes to: it asks the one that goes on for the giver.
        answer = redeemers[1].allocate((RESERVATION_TOKEN, token))
        assert answer.get(XOR_RELAYED_ADDRESS) == address._replace(port=address.port + 1)
        for client in clients:
            assert succeeded(client.refresh(0))
        eventually(lambda: relay.scrape().total("turnrelay_allocations") == 3, "not all are counted")
        assert relay.scrape().total("turnrelay_relay_ports_in_use") == 3

        # What a worker was left is lost with it, and is told and free again.
        for pid in relay.workers().values():
            os.kill(pid, signal.SIGKILL)
        eventually(
            lambda: (
                relay.scrape().total("turnrelay_allocations_ended_total", reason="worker_lost") == 3
                and relay.scrape().total("turnrelay_worker_up") == 2
            ),
            "ends of allocations that were handed over are not told",
        )
        assert [error_of(unserved().allocate()) for _ in range(EACH + 4)] == [0] * (EACH + 3) + [486]


_NEVER_TOLD = "import turnrelay.core.server as at\nat.Server.reservation_taken = lambda *a: []\n"


def test_a_reserved_port_that_went_to_another_worker_just_now_is_in_no_upgrades_way(site, closing):
    """The worker that gave it has not heard yet that it came."""
    with UpgradableRelayOfTwo(site, OPEN, prologue=_NEVER_TOLD) as relay:

        def redeemed() -> tuple[DatagramClient, DatagramClient]:
            giver, taker = [
                closing(DatagramClient((site.address, relay.port), OPEN.username, OPEN.password))
                for _ in range(2)
            ]
            token = giver.allocate((EVEN_PORT, True)).get(RESERVATION_TOKEN)
            assert succeeded(taker.allocate((RESERVATION_TOKEN, token)))
            return giver, taker

        pairs = [redeemed() for _ in range(2 * EACH)]
        assert any(len(holders(relay, [*pair])) == 2 for pair in pairs)
        relay.upgrade()
        for _, taker in pairs:
            assert succeeded(taker.refresh(600))


_KILL = "import os, signal\n"
_DIES = "lambda *a, **k: os.kill(os.getpid(), 9)\n"
_DIES_WAITING = """
import time
import turnrelay.handover.crew as crew, turnrelay.handover.worker as at
def receive(wire, *, seconds, receive=at.Wire.receive):
    if seconds == at._WORD_SECONDS:
        os.kill(os.getpid(), 9)
    return receive(wire, seconds=seconds)
def wait(them, seconds, wait=crew.ComingCrew.wait_for_restored):
    wait(them, seconds)
    time.sleep(0.2)
at.Wire.receive, crew.ComingCrew.wait_for_restored = receive, wait
"""
_STAGES = {
    "offer": f"import turnrelay.handover.successor as at\nat.read_offer = {_DIES}",
    "workers start": f"import turnrelay.handover.successor as at\nat.Successor.prepare_workers = {_DIES}",
    "workers ready": f"import turnrelay.handover.successor as at\nat.Successor.wait_for_holdings = {_DIES}",
    "a worker starts": f"import turnrelay.as_worker as at\nat.Heir = {_DIES}",
    "a worker is given": f"import turnrelay.handover.inheritance as at\nat.read_holdings = {_DIES}",
    "a worker restores": f"import turnrelay.handover.inheritance as at\nat.restore = {_DIES}",
    "a worker waits for the word": _DIES_WAITING,
    "all have restored": f"import turnrelay.handover.crew as at\nat.ComingCrew.wait_for_restored = {_DIES}",
    "serving": f"import turnrelay.handover.successor as at\nat.Successor.tell_serving = {_DIES}",
    "an error": "import turnrelay.handover.inheritance as at\n"
    "def fail(*a): raise ValueError('no such thing')\nat.restore = fail\n",
}


def test_new_processes_that_die_at_any_stage_leave_the_old_ones_serving(site, over_udp, over_tcp, peer):
    with UpgradableRelayOfTwo(site, OPEN) as relay:
        before = relay.workers()
        flows: list[Numbered] = [ByChannel("UDP", over_udp(), peer()) for _ in range(EACH)]
        flows += [ByIndication("TCP", over_tcp(), peer()) for _ in range(EACH)]
        with Traffic(flows) as traffic:
            for stage, prologue in _STAGES.items():
                relay.install(_KILL + prologue)
                line = relay.failed_upgrade()
                print(stage, "|", json.loads(line)["reason"])
            assert relay.workers() == before
            relay.install()
            relay.upgrade()
            traffic.goes_on(0.2)
        traffic.must_be_whole()
        assert "no such thing" in relay.log()


def test_another_number_of_workers_is_refused_in_words(site, over_udp, peer):
    with UpgradableRelayOfTwo(site, OPEN) as relay:
        flow = ByChannel("UDP", over_udp(), peer())
        with Traffic([flow]) as traffic:
            for number, words in ((3, "3 workers"), (1, "one process")):
                relay.install(f"import sys\nsys.argv[sys.argv.index('--workers') + 1] = '{number}'\n")
                line = relay.failed_upgrade()
                assert f"has 2 workers and the settings ask for {words}" in line
                assert "set workers to 2" in line
        traffic.must_be_whole()


_LISTENS_LESS = """
import sys
at = len(sys.argv) - 1 - sys.argv[::-1].index("--listen")
del sys.argv[at:at + 2]
"""


def test_clients_on_an_address_that_is_no_longer_listened_on_are_served_on(tmp_path, closing):
    with loopback_address() as kept, loopback_address() as gone:
        both = Site.prepare(tmp_path / "relay", kept, gone)
        with UpgradableRelayOfTwo(both, OPEN) as relay:
            flows: list[Numbered] = []
            for _ in range(EACH):
                client = closing(DatagramClient((gone, relay.port), OPEN.username, OPEN.password))
                assert succeeded(client.allocate())
                flows.append(ByChannel("UDP", client, closing(Peer(gone))))
            relay.install(_LISTENS_LESS)
            with Traffic(flows) as traffic:
                for _ in range(2):
                    relay.upgrade()
                    traffic.goes_on(0.2)
            traffic.must_be_whole()
            for flow in flows:
                assert succeeded(flow.client.refresh(0))


def test_workers_of_the_next_relay_are_started_again_and_it_is_ready_all_the_time(site, over_udp, peer):
    with UpgradableRelayOfTwo(site, OPEN) as relay:
        flows = [ByChannel("UDP", over_udp(), peer()) for _ in range(EACH)]
        relay.upgrade()
        assert relay.get("/readyz")[0] == 200
        before = relay.workers()
        os.kill(psutil.Process(before[1]).ppid(), signal.SIGKILL)
        with Traffic(flows) as traffic:
            traffic.goes_on(0.2)
        traffic.must_be_whole()
        os.kill(before[2], signal.SIGKILL)
        eventually(lambda: relay.workers()[2] != before[2], "the worker does not come back")
        relay.upgrade()
        assert relay.get("/readyz")[0] == 200
        assert relay.scrape().total("turnrelay_worker_restarts_total", worker="2") == 1
