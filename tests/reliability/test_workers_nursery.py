"""The process that starts workers is killed: nobody's flow is, and workers are started again all the same."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from reliability.turn_peer import Peer
from reliability.upgradable import ByChannel, Traffic
from reliability.workers import RelayOfTwo, eventually, site, succeeded
from support.ports import loopback_address
from support.processes import is_alive
from support.relay import Access

pytestmark = pytest.mark.slow

OPEN = Access(allowed_peers=("127.0.0.0/8",))


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayOfTwo]:
    with loopback_address() as address, RelayOfTwo(site(tmp_path, address), OPEN) as running:
        yield running


def family(relay: RelayOfTwo) -> set[int]:
    """The processes that start workers: the nursery, and its spare once that is there."""
    parent = psutil.Process(relay.workers()[2]).ppid()
    children = {child.pid for child in psutil.Process(parent).children()}
    return {parent, *children - set(relay.workers().values())}


def nursery_of(relay: RelayOfTwo, member: int) -> int:
    return psutil.Process(relay.workers()[member]).ppid()


def flows_of(relay: RelayOfTwo, stack: ExitStack, members: tuple[int, ...]) -> list[ByChannel]:
    clients, flows = relay.clients_of_both(), []
    for member, [client] in clients.items():
        stack.callback(client.close)
        if member in members:
            peer = Peer(relay.site.address)
            stack.callback(peer.close)
            flows.append(ByChannel(f"worker {member}", client, peer))
    return flows


def test_a_killed_nursery_costs_no_packet_and_workers_come_back_without_it(relay: RelayOfTwo) -> None:
    with ExitStack() as stack:
        flows = flows_of(relay, stack, (1, 2))
        [before] = {nursery_of(relay, member) for member in (1, 2)}
        with Traffic(flows) as traffic:
            traffic.goes_on(0.2)
            os.kill(before, signal.SIGKILL)
            traffic.goes_on()
        traffic.must_be_whole()
        eventually(lambda: not is_alive(before), "nobody has taken note of its end")
        assert relay.get("/readyz")[0] == 200

        # One that the dead nursery had started, and then others, each time by another nursery.
        used = {before}
        with Traffic(flows[:1]) as traffic:
            for _ in range(3):
                print(f"the worker was back after {relay.kill(2) * 1000:.0f} ms")
                nursery = nursery_of(relay, 2)
                assert nursery not in used
                used.add(nursery)
                os.kill(nursery, signal.SIGKILL)
        traffic.must_be_whole()
        assert relay.scrape().total("turnrelay_worker_restarts_total") == 3
        eventually(lambda: relay.process.output().count("its spare goes on") == 4, "not all are told")
        assert succeeded(flows[0].client.refresh(600))


def test_a_nursery_that_dies_with_its_workers_leaves_them_to_its_spare(relay: RelayOfTwo) -> None:
    before = relay.workers()
    for pid in (nursery_of(relay, 1), *before.values()):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not set(relay.workers().values()) & set(before.values()), "they do not come back")
    assert succeeded(relay.client().allocate())
    relay.kill(1)


def test_a_spare_that_is_killed_is_replaced(relay: RelayOfTwo) -> None:
    eventually(lambda: len(family(relay)) == 2, "there is no spare")
    nursery = nursery_of(relay, 1)
    [spare] = family(relay) - {nursery}
    os.kill(spare, signal.SIGKILL)
    eventually(lambda: len(family(relay) - {spare}) == 2, "there is no other spare")
    os.kill(nursery, signal.SIGKILL)
    relay.kill(2)
    assert relay.get("/readyz")[0] == 200


def test_a_relay_that_can_start_no_workers_goes_on_until_it_misses_one(relay: RelayOfTwo) -> None:
    with ExitStack() as stack:
        flows = flows_of(relay, stack, (1, 2))
        eventually(lambda: len(family(relay)) == 2, "there is no spare")
        both, workers = family(relay), list(relay.workers().values())
        assert relay.process.pid not in both
        with Traffic(flows) as traffic:
            for pid in both:
                os.kill(pid, signal.SIGSTOP)  # so that neither replaces the other
            for pid in both:
                os.kill(pid, signal.SIGKILL)
            relay.process.wait_until(lambda: "the workers that live go on" in relay.process.output())
            traffic.goes_on()
        traffic.must_be_whole()
        os.kill(workers[0], signal.SIGKILL)
        eventually(lambda: relay.process.returncode is not None, "it goes on without")
        assert relay.process.returncode == 1
        eventually(lambda: not any(is_alive(pid) for pid in workers), "workers are left over")
