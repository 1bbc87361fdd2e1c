"""From the relay's samples to a table, plots and docs/performance.md."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import figures
from bench.figures import Figure, Row
from bench.plan import (
    ALLOCATIONS,
    ECHO,
    FIXED,
    FLOOD,
    FORWARDING,
    GENERATOR,
    IN_FLIGHT,
    RULELESS,
    SMALL,
    STREAM_RATE,
    WORKERS,
)
from bench.relays import ONE_WORKER

_CPU = Figure("cpu_us_per_packet", "CPU us/packet", "{:.2f}")
_RATE = Figure("packets_per_second", "packets/s", "{:,.0f}")
_LOSS = Figure("loss", "loss", "{:.2%}", compared=False)
_OFFERED = Figure("offered_per_second", "offered/s", "{:,.0f}")
_OF_SCENARIO = {
    GENERATOR: (_RATE, _OFFERED),
    "one way": (_CPU, _LOSS),
    "echo": (_CPU, _LOSS),
    "highest rate": (_RATE, _CPU),
    "flood": (_RATE, _CPU, _LOSS, _OFFERED),
    "both ways": (_LOSS, _CPU),
    "ping-pong": (Figure("p50_us", "p50 us", "{:.1f}"), Figure("p99_us", "p99 us", "{:.1f}")),
    "Send": (_CPU, _LOSS),
    "allocations": (
        Figure("cpu_us_per_allocation", "CPU us/client", "{:.0f}"),
        Figure("allocations_per_second_of_cpu", "per s of one core", "{:,.0f}"),
    ),
    "memory": (Figure("kib_per_allocation", "KiB/allocation", "{:.2f}"),),
    "TCP": (_CPU, _LOSS),
    "TLS": (_CPU, _LOSS),
}


_OF_WORKERS = {
    WORKERS: (
        _RATE,
        Figure("cores", "cores left to it", "{:.2f}"),
        Figure("packets_per_second_and_core", "packets/s for each of these", "{:,.0f}"),
        Figure("relay_cores", "cores used by it", "{:.2f}"),
        Figure("load_cores", "cores used by the load", "{:.2f}", compared=False),
        _CPU,
        Figure("lost", f"packets lost of {IN_FLIGHT}", "{:.0f}", compared=False),
    )
}

_HEADS = ["scenario", "figure", "relay", "median", "least - most", "to coturn"]
_HEADS_OF_WORKERS = [*_HEADS[:-1], "to one worker"]


def rows(document: dict[str, Any]) -> list[Row]:
    reference = next((name for name in document["relays"] if name.startswith("coturn")), "")
    who = [*document["relays"], FORWARDING, RULELESS.name]
    compared = [sample for sample in document["samples"] if not _is_of_workers(sample)]
    return figures.rows(compared, _OF_SCENARIO, who, reference, "relay")


def worker_rows(document: dict[str, Any]) -> list[Row]:
    """Of several workers, compared with one."""
    samples = [sample for sample in document["samples"] if _is_of_workers(sample)]
    return figures.rows(samples, _OF_WORKERS, list(document["relays"]), ONE_WORKER, "relay")


def _is_of_workers(sample: dict[str, Any]) -> bool:
    return bool(sample["scenario"].startswith(WORKERS))


_RELAY, _IN_THE_KERNEL = "turnrelay userspace", "turnrelay xdp"
_BRIEFLY = (
    (f"CPU per relayed packet at {FIXED:,} a second", f"one way, {SMALL} B, 1000 flows", _CPU),
    ("packets a second, highest rate under 1 % loss", f"highest rate, {SMALL} B, 1000 flows", _RATE),
    ("CPU per relayed packet at that rate", f"highest rate, {SMALL} B, 1000 flows", _CPU),
    (f"packets a second through a flood of {FLOOD:,}", f"flood, {SMALL} B, 100 flows", _RATE),
    ("ping-pong round trip, p50", f"ping-pong, {SMALL} B", _OF_SCENARIO["ping-pong"][0]),
    ("ping-pong round trip, p99", f"ping-pong, {SMALL} B", _OF_SCENARIO["ping-pong"][1]),
    ("memory per idle allocation", "memory, 1000 idle allocations", _OF_SCENARIO["memory"][0]),
    ("CPU per packet in Send indications", f"Send indications, {SMALL} B, 1000 flows", _CPU),
    ("allocations a second", ALLOCATIONS, _OF_SCENARIO["allocations"][1]),
)
_CROWD = f"both ways, 50 packets/s each, {SMALL} B, 10000 flows"


def brief_table(document: dict[str, Any]) -> list[str]:
    """The lines of the table in README.md."""
    found = {(row.scenario, row.figure, row.who): row for row in rows(document)}
    lines = ["| to coturn | userspace (default) | kernel plane (`--plane auto`) |", "|---|--:|--:|"]
    for words, scenario, figure in _BRIEFLY:
        ratios = [found[scenario, figure, who].ratio or 0.0 for who in (_RELAY, _IN_THE_KERNEL)]
        lines.append(f"| {words} | {' | '.join(f'{ratio:.2f} x' for ratio in ratios)} |")
    lost = {who: f"{found[_CROWD, _LOSS, who].median:.1%}" for who in ("coturn", _RELAY, _IN_THE_KERNEL)}
    words = f"lost of 50 packets/s of each of 10,000 allocations, there and back; coturn: {lost['coturn']}"
    return [*lines, f"| {words} | {lost[_RELAY]} | {lost[_IN_THE_KERNEL]} |"]


def terminal_table(document: dict[str, Any]) -> str:
    tables = ((_HEADS, rows(document)), (_HEADS_OF_WORKERS, worker_rows(document)))
    parts = [figures.terminal_table(heads, found) for heads, found in tables if found]
    return "\n\n".join([*parts, conditions(document)])


def conditions(document: dict[str, Any]) -> str:
    offered = [sample for sample in document["samples"] if sample["scenario"] == GENERATOR]
    paced = [s["headroom"] for s in document["samples"] if s["scenario"].startswith("one way")]
    text = figures.load_of_machine(document["samples"])
    if offered and paced:
        most = statistics.median(sample["offered_per_second"] for sample in offered)
        seen = statistics.median(sample["packets_per_second"] for sample in offered)
        text += (
            f" The generator offered {most:,.0f} packets/s and counted the {seen:,.0f} that the kernel"
            f" forwarded of them; at {FIXED:,} packets/s it left {statistics.median(paced):.0%} of its core"
            f" unused ({min(paced):.0%} at least)."
        )
    return text


# -- docs ---------------------------------------------------------------------------------------------------

_METHOD = f"""\
### Method

`make bench` measures, `make bench-quick` does less of it in under two minutes; both need root and coturn
(`apt-get install coturn`). `BENCH_COTURN=/path/to/turnserver` adds another build of it; `make bench` adds
pion/turn (`apt-get install golang-go golang-github-pion-turn.v2-dev`) and turnrelay without its C extension.

- For each relay three network namespaces, client, server and peer, joined by veth pairs. The relay is
  pinned to one core; load and counting have the other one. All relays run at once, and an idle one takes no
  time. coturn runs with `-m 1` and its log off, turnrelay with its limits raised.
- Each client has an allocation of its own, made by an authenticated Allocate on its own socket, and a
  channel to the peer. The generator then sends in the clients' names, one packet of each client in turn, and
  an XDP program at each end counts what arrives, by flow; the one at the peer also echoes. Sending is an XDP
  program too, which the kernel runs on frames of its own: the server gets them as pages, as from a card's
  driver, and makes of them itself what it needs. UDP checksums are left out, as if a card had verified them.
  Packets come in bursts, those of 150 us together but at most 32, as a card's interrupt moderation brings
  them. What the veth's ring refuses counts as lost.
- A relay's CPU is that of its process (all threads, `/proc/PID/task/*/schedstat`) and of the threads that
  poll the server's two interfaces: with threaded NAPI nothing is worked off in a softirq of somebody else.
  An echo counts as two packets. The receiving ends poll every 50 us while there is something to poll, as a
  card's interrupt moderation does, so that sending wakes nobody up. Idle
  cores poll instead of halting (`/dev/cpu_dma_latency`): a virtual machine pays some 20 us for each interrupt
  from one core to another, which is this machine's price and no relay's. On a machine that is busy with other
  things cores are not idle, and every relay's CPU has that in it. Ping-pong is measured without the threads.
- Fixed rates: {FIXED:,} packets/s one way, {ECHO:,} there and back, each flow having sent a packet there and
  back before; {ECHO:,} Send indications, {STREAM_RATE:,} over TCP and TLS, one way and (`make bench`) towards
  the client; each frame of a client is a write of its own. Clients offer TLS 1.2 at most, since coturn 4.6.1
  as Debian builds it speaks no other, and 1.3 costs every relay some 5% more; all agree on
  ECDHE-ECDSA-AES256-GCM. A flood is {FLOOD:,}. The highest rate is raised until it fails and then found by
  bisection, a rate being tried again where it fails by little; one that the generator did not reach fails.
- Rounds are interleaved, another relay beginning each. Figures are medians over the rounds, with the least
  and the most; "to coturn" is the median of the ratios within the rounds.
- "kernel forwarding" is the same load routed by the server's kernel without any relay: what two interfaces
  cost, waking the polling threads included, for every relay alike.
- Allocations: challenge, Allocate, CreatePermission and ChannelBind; "per s of one core" follows from the
  CPU, the clients themselves are not that fast. "{RULELESS.name}" is bench/ruleless.py, which gives the same
  answers and decides nothing: less than it no relay can spend that reads and writes its messages in Python.
  Memory is the growth of the resident set.
"""


_WORKERS_METHOD = f"""\
`--workers 2` on two cores beside one worker on one core, in userspace with the C extension. {IN_FLIGHT}
packets go round, from client to peer and back: XDP programs at both ends send back what comes, so nobody
has to offer them, and as many are relayed a second as the relay has time for. The polling of both ends is
all that the load takes. On a machine of two cores it takes that from the two workers' own, and "cores left
to it" is without that part; one worker has a core to itself, and the ends are polled on the other one.
"2 relays apart" are two processes without `--workers`, on ports of their own, each with half of the flows.
They share nothing but the machine: what they lack of twice one worker is the machine's, not the workers'."""


def write_plots(document: dict[str, Any], folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for plot in _plots(document):
        pyplot.close(_bars(pyplot, plot.rows, plot.title, folder / f"{plot.name}.png"))


def page(document: dict[str, Any], client: Sequence[str]) -> str:
    """docs/performance.md; `client` is the section of the client's side."""
    machine, relays = document["machine"], document["relays"]
    when = time.strftime("%Y-%m-%d", time.gmtime(document["started"]))
    lines = [
        "# Performance",
        "",
        "Written by `make bench`; do not edit.",
        "",
        "## The relay",
        "",
        f"Measured on {when}: {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"Python {machine['python']}; {document['rounds']} rounds of {document['seconds']} s a figure. "
        + "; ".join(f"{name}: {version}" for name, version in relays.items())
        + f". {conditions(document)} All samples are in [samples.json](performance/samples.json).",
        "",
    ]
    for scenario, how in document.get("again", {}).items():
        at = time.strftime("%Y-%m-%d %H:%M", time.gmtime(how["started"]))
        lines += [f"- {scenario}: measured again on {at}, {how['rounds']} rounds of {how['seconds']} s."]
    lines += [""] if document.get("again") else []
    for plot in _plots(document):
        lines += [f"![{plot.name}](performance/{plot.name}.png)", ""]
    lines += figures.markdown_table(_HEADS, rows(document))
    of_workers = worker_rows(document)
    if of_workers:
        lines += ["", "### More than one worker", "", _WORKERS_METHOD, ""]
        lines += figures.markdown_table(_HEADS_OF_WORKERS, of_workers)
    lines += ["", _METHOD, *client]
    return "\n".join(lines).rstrip() + "\n"


@dataclass(frozen=True)
class Plot:
    name: str
    title: str
    rows: Sequence[Row]


_PLOTS = (
    ("cpu", _CPU, ("one way", "echo", "Send", "TCP", "TLS"), "Server CPU, us per relayed packet"),
    ("throughput", _RATE, ("highest rate", "flood"), "Packets a second"),
    ("latency", _OF_SCENARIO["ping-pong"][0], ("ping-pong",), "Round trip, p50, us"),
)


def _plots(document: dict[str, Any]) -> list[Plot]:
    made = []
    for name, figure, starts, title in _PLOTS:
        chosen = [row for row in rows(document) if row.figure == figure and row.scenario.startswith(starts)]
        if chosen:
            made.append(Plot(name, title, chosen))
    return made


def _bars(pyplot: Any, chosen: Sequence[Row], title: str, path: Path) -> Any:
    named = list(dict.fromkeys(row.scenario for row in chosen))
    relays = list(dict.fromkeys(row.who for row in chosen))
    drawing, axes = pyplot.subplots(figsize=(9, 1.2 + 0.22 * len(named) * len(relays)))
    height = 0.8 / len(relays)
    for number, relay in enumerate(relays):
        mine = {row.scenario: row for row in chosen if row.who == relay}
        places = [place + number * height for place, scenario in enumerate(named) if scenario in mine]
        found = [mine[scenario] for scenario in named if scenario in mine]
        errors = [[row.median - row.low for row in found], [row.high - row.median for row in found]]
        axes.barh(
            places, [row.median for row in found], height, xerr=errors, label=relay, error_kw={"lw": 0.8}
        )
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(named))], named)
    axes.invert_yaxis()
    axes.set_xlabel(title)
    axes.legend(fontsize="small")
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    return drawing
