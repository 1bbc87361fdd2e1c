"""The metrics of all processes are those of one relay."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from support.metrics import Scrape, parse
from turnrelay.workers.totals import Report, Totals


class Process:
    """The registry of one process, with one metric of each kind."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("turnrelay_requests", "", ["result"], registry=self.registry)
        self.live = Gauge("turnrelay_allocations", "", registry=self.registry)
        self.capacity = Gauge("turnrelay_relay_ports", "", registry=self.registry)
        self.seconds = Histogram("turnrelay_seconds", "", buckets=(1, 2), registry=self.registry)
        self.capacity.set(100)
        self.report = Report(self.registry)


class Whole:
    def __init__(self) -> None:
        self.own = Process()
        self.totals = Totals(self.own.registry)
        self.workers = {1: Process(), 2: Process()}
        for member in self.workers:
            self.totals.add_worker(member)

    def page(self) -> Scrape:
        for member, worker in self.workers.items():
            self.totals.tell(member, worker.report.changes())
        return parse(generate_latest(self.totals).decode())

    def replace(self, member: int) -> None:
        self.totals.ended(member)
        self.workers[member] = Process()


def test_counters_histograms_and_what_is_held_add_up():
    whole = Whole()
    for number, process in enumerate((whole.own, *whole.workers.values()), 1):
        process.requests.labels("success").inc(number)
        process.live.set(number)
        process.seconds.observe(number - 0.5)
    whole.workers[2].requests.labels("401").inc(5)
    for _ in range(2):  # what was told once is not counted twice
        page = whole.page()
        assert page.total("turnrelay_requests_total", result="success") == 6
        assert page.total("turnrelay_requests_total", result="401") == 5
        assert page.total("turnrelay_allocations") == 6
        assert page.total("turnrelay_seconds_count") == 3
        assert page.total("turnrelay_seconds_sum") == 4.5
        assert [page.total("turnrelay_seconds_bucket", le=le) for le in ("1.0", "2.0", "+Inf")] == [1, 2, 3]
        assert page.total("turnrelay_relay_ports") == 100


def test_what_a_dead_worker_counted_stays_and_what_it_held_goes():
    whole = Whole()
    whole.workers[1].requests.labels("success").inc(7)
    whole.workers[1].live.set(3)
    whole.workers[2].live.set(1)
    whole.page()
    for _ in range(3):
        whole.replace(1)
        page = whole.page()
        assert page.total("turnrelay_requests_total") == 7
        assert page.total("turnrelay_allocations") == 1
    whole.workers[1].requests.labels("success").inc(2)
    assert whole.page().total("turnrelay_requests_total") == 9


def test_a_gauge_that_falls_to_zero_is_told():
    whole = Whole()
    whole.workers[1].live.set(3)
    assert whole.page().total("turnrelay_allocations") == 3
    whole.workers[1].live.set(0)
    assert whole.page().total("turnrelay_allocations") == 0


def test_only_what_changed_is_told():
    process = Process()
    process.report.changes()
    process.requests.labels("success").inc()
    told = [each for each in process.report.changes() if not each[1].endswith("_created")]
    assert told == [["turnrelay_requests", "turnrelay_requests_total", [("result", "success")], 1.0]]
    assert process.report.changes() == []


def test_a_relay_counts_on_from_the_one_before_it_and_holds_only_its_own():
    before, after = Whole(), Whole()
    for whole, number in ((before, 3), (after, 4)):
        for worker in whole.workers.values():
            worker.requests.labels("good").inc(number)
            worker.live.set(number)
    before.totals.restarts[2] = 5
    before.page()
    after.totals.go_on(Report(before.totals).changes())
    page = after.page()
    assert page.total("turnrelay_requests_total", result="good") == 14
    assert page.total("turnrelay_allocations") == 8
    assert page.total("turnrelay_worker_restarts_total", worker="2") == 5
