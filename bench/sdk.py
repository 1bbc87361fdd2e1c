"""`python -m bench.sdk`: measure the client's side, print the table, keep the samples."""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from support.netns import sweep

from bench import documents, machine, sdk_codec, sdk_messages, sdk_report, sdk_setup

PARTS = ("codec", "simulator", "lab", "messages")


class Run:
    """One run: what is asked for, round by round."""

    def __init__(self, rounds: int, seconds: float) -> None:
        self._rounds = rounds
        self._seconds = seconds
        self.samples: list[dict[str, Any]] = []

    def codec(self) -> None:
        for round_ in range(self._rounds):
            for scenario, of, figures in sdk_codec.measure(round_, self._seconds / 4):
                self._add(scenario, of, round_, figures)

    def simulator(self) -> None:
        for round_ in range(self._rounds):
            for scenario, of, figures in sdk_setup.simulated(round_):
                self._add(scenario, of, round_, figures)

    def lab(self) -> None:
        for scenario, of, round_, figures in sdk_setup.in_lab(self._rounds):
            self._add(scenario, of, round_, figures)

    def messages(self) -> None:
        asyncio.run(self._messages())

    async def _messages(self) -> None:
        async for scenario, of, round_, figures in sdk_messages.measure(self._rounds, self._seconds):
            self._add(scenario, of, round_, figures)

    def _add(self, scenario: str, of: str, round_: int, figures: dict[str, float]) -> None:
        taken = {"at": round(time.time(), 1), "machine_load": machine.load_average()}
        self.samples.append({"scenario": scenario, "of": of, "round": round_, **taken, **figures})
        brief = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
        print(f"  {scenario:52} {of:10} {brief}", file=sys.stderr, flush=True)


def main() -> None:
    options = _options()
    document = json.loads(options.report.read_text()) if options.report else _measured(options)
    print(sdk_report.terminal_table(document))
    documents.save(document, documents.SDK if options.docs else documents.BUILD / "sdk.json")
    if options.docs:
        documents.PAGE.write_text(documents.page())
        documents.README.write_text(documents.readme())


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    parts = options.only or PARTS
    if os.geteuid() != 0 and {"lab", "messages"} & set(parts):
        sys.exit("The lab and the messages need network namespaces, and root to make them.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    if os.geteuid() == 0:
        sweep()
    started = time.time()
    run = Run(options.rounds, options.seconds)
    for part in parts:
        getattr(run, part)()
    return {
        "started": started,
        "took_seconds": round(time.time() - started, 1),
        "machine": machine.description(),
        "versions": {name: version(name) for name in ("peerpath", "stunwire", "aioice", "aiortc", "aioquic")},
        "rounds": options.rounds,
        "seconds": options.seconds,
        "samples": run.samples,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.sdk", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of messages; a codec has a quarter of it")
    parser.add_argument("--only", action="append", choices=PARTS, help="may be repeated")
    parser.add_argument("--docs", action="store_true", help="keep the samples, write the documents")
    parser.add_argument("--report", type=Path, help="measure nothing, report on these samples")
    return parser.parse_args()


if __name__ == "__main__":
    main()
