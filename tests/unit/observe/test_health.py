"""What a relay knows of its own health, on a running one."""

import asyncio
import math
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from stunwire import AddressFamily
from support.certificates import Certificates
from support.metrics import Scrape, parse
from support.ports import loopback_address
from turnrelay.app import Relay
from turnrelay.observe.self_test import CHECKS, SelfTest
from turnrelay.settings import LimitSettings, Settings
from turnrelay.settings.tls import read_certificate
from turnrelay.settings.values import HttpAddress

HOST = "127.0.0.1"


class Running:
    """A relay on the loopback and its page."""

    def __init__(self, relay: Relay, host: str) -> None:
        self.relay = relay
        self.host = host

    async def scrape(self) -> Scrape:
        url = f"http://{self.host}:9641/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return parse(await answer.text())

    async def scrape_when(self, name: str, **labels: str) -> Scrape:
        """The page once the metric is above zero."""
        async with asyncio.timeout(20):
            while not (page := await self.scrape()).total(name, **labels) > 0:
                await asyncio.sleep(0.02)
        return page


@asynccontextmanager
async def running(folder: Path, self_test_seconds: int = 60, **settings: object) -> AsyncIterator[Running]:
    with loopback_address() as host:
        relay = Relay(
            Settings(
                listen=[host],
                relay_ip=[host],
                http=HttpAddress(host, 9641),
                data_dir=folder,
                limits=LimitSettings(self_test_seconds=self_test_seconds),
                **settings,
            )
        )
        try:
            await relay.start()
            yield Running(relay, host)
        finally:
            await relay.stop()


async def test_a_well_relay_passes_its_own_test(tmp_path):
    async with running(tmp_path) as it:
        page = await it.scrape_when("turnrelay_self_tests_total", check="allocate", result="success")
    for check in CHECKS:
        assert page.total("turnrelay_self_test_success", check=check) == 1
        assert page.total("turnrelay_self_test_duration_seconds", check=check) > 0
    assert page.total("turnrelay_self_tests_total", result="failure") == 0


async def test_the_self_test_leaves_no_allocation_and_is_no_session(tmp_path):
    async with running(tmp_path) as it:
        page = await it.scrape_when("turnrelay_self_tests_total", check="allocate", result="success")
        assert page.total("turnrelay_relay_ports_in_use") == 0
    assert page.total("turnrelay_requests_total", method="allocate", result="success") == 1
    assert page.total("turnrelay_allocations_created_total") == 0
    assert page.total("turnrelay_allocations_ended_total") == 0


async def test_static_users_do_not_keep_the_self_test_out(tmp_path):
    async with running(tmp_path, users=["alice:wonderland"]) as it:
        await it.scrape_when("turnrelay_self_tests_total", check="allocate", result="success")


async def test_the_self_test_can_be_switched_off(tmp_path):
    async with running(tmp_path, self_test_seconds=0) as it:
        page = await it.scrape_when("turnrelay_event_loop_lag_seconds_count")
    assert page.total("turnrelay_self_tests_total") == 0
    assert math.isnan(page.total("turnrelay_self_test_success"))


async def test_a_user_that_is_not_known_fails_the_allocation_alone(tmp_path):
    results: dict[str, float | None] = {}
    async with running(tmp_path, self_test_seconds=0) as it:
        test = SelfTest(("nobody", "x"), AddressFamily.IPV4, (it.host, 3478), 60, results.__setitem__)
        await test.run()
    assert results["binding"] is not None
    assert results["allocate"] is None


async def test_a_listener_that_is_gone_fails_both_checks():
    results: dict[str, float | None] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    await SelfTest(("nobody", "x"), AddressFamily.IPV4, (HOST, port), 60, results.__setitem__).run()
    assert results == dict.fromkeys(CHECKS)


async def test_a_listener_that_is_silent_fails_both_checks():
    results: dict[str, float | None] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind((HOST, 0))
        target = deaf.getsockname()
        await SelfTest(("nobody", "x"), AddressFamily.IPV4, target, 60, results.__setitem__).run()
    assert results == dict.fromkeys(CHECKS)


async def test_requests_and_allocations_are_measured(tmp_path):
    async with running(tmp_path) as it:
        page = await it.scrape_when("turnrelay_self_tests_total", check="allocate", result="success")
    seconds = "turnrelay_request_duration_seconds"
    assert page.total(f"{seconds}_count", method="binding") == 1
    assert page.total(f"{seconds}_count", method="allocate") == 2
    assert page.total(f"{seconds}_sum", method="allocate") > 0
    assert page.total("turnrelay_allocation_setup_seconds_count") == 1


async def test_a_loop_that_is_held_up_shows(tmp_path):
    async with running(tmp_path) as it:
        await it.scrape_when("turnrelay_event_loop_lag_seconds_count")
        time.sleep(1.2)  # longer than between two timers, so one is late by half a second at least
        page = await it.scrape_when("turnrelay_event_loop_lag_seconds_sum")
    late = page.total("turnrelay_event_loop_lag_seconds_count") - page.total(
        "turnrelay_event_loop_lag_seconds_bucket", le="0.5"
    )
    assert late >= 1


async def test_packets_that_a_busy_relay_does_not_read_are_counted(tmp_path):
    async with running(tmp_path) as it:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
            flood.connect((it.host, 3478))
            for _ in range(12_000):  # more than the largest buffer holds, while the loop reads nothing
                flood.send(bytes(1000))
        page = await it.scrape_when("turnrelay_kernel_dropped_packets_total", socket="listener")
    assert page.total("turnrelay_kernel_dropped_packets_total", socket="relay") == 0


async def test_the_certificate_in_use_tells_when_it_ends(tmp_path):
    made = Certificates.issue(tmp_path, HOST)
    async with running(tmp_path / "data", tls_cert=made.chain, tls_key=made.key) as it:
        page = await it.scrape()
        assert page.total("turnrelay_ready") == 1
    name = "turnrelay_certificate_expiry_timestamp_seconds"
    assert page.total(name) == read_certificate(made.chain).not_after.timestamp()


async def test_without_tls_there_is_no_certificate_to_expire(tmp_path):
    async with running(tmp_path) as it:
        page = await it.scrape()
    assert not [name for name, _ in page.samples if "certificate" in name]


async def test_a_relay_that_drains_while_it_tests_itself_waits_for_no_allocation_of_its_own(tmp_path):
    for turn in range(15):
        async with running(tmp_path / str(turn)) as site:
            for _ in range(turn):  # wherever the self-test is then
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await site.relay.drain()
