"""`python -m bench`: run the plan, print the table, keep the samples."""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.netns import sweep

from bench import documents, machine, plan, relays, report


def main() -> None:
    options = _options()
    if options.report is not None:
        _publish(json.loads(options.report.read_text()), options)
        return
    _check_machine()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    sweep()
    chosen = plan.QUICK if options.quick else plan.FULL
    if options.rounds is not None:
        chosen = replace(chosen, rounds=options.rounds)
    if options.flows is not None:
        chosen = replace(chosen, flows=(options.flows,))
    if options.seconds is not None:
        chosen = replace(chosen, seconds=options.seconds)
    kinds = relays.kinds(_has_kernel_plane(), everything=not options.quick or options.only is not None)
    teams = relays.teams()
    if options.only:
        names = [each.name for each in (*kinds, *teams)]
        kinds = [kind for kind in kinds if any(word in kind.name for word in options.only)]
        teams = [team for team in teams if any(word in team.name for word in options.only)]
        if not kinds and not teams:
            sys.exit(f"No relay's name contains {' or '.join(options.only)}. There are: {', '.join(names)}.")
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="turnrelay-bench-") as folder:
        run = plan.Run(chosen, kinds, teams, Path(folder), again=options.again)
        document = {
            "plan": "quick" if options.quick else "full",
            "started": started,
            "machine": machine.description(),
            "relays": {each.name: each.version() for each in [*kinds, *teams]},
            "rounds": chosen.rounds,
            "seconds": chosen.seconds,
            "samples": run.samples,
        }
        try:
            run.everything()
        except BaseException:
            # What was measured before something failed is not lost.
            documents.save(document, documents.BUILD / "interrupted.json")
            raise
    _publish(document if options.again is None else documents.with_newer(document), options)


def _publish(document: dict[str, Any], options: argparse.Namespace) -> None:
    print(report.terminal_table(document))
    documents.save(document, documents.RELAY if options.docs else documents.BUILD / "samples.json")
    if options.docs:
        report.write_plots(document, documents.FOLDER)
        documents.PAGE.write_text(documents.page())
        documents.README.write_text(documents.readme())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, under two minutes")
    parser.add_argument("--rounds", type=int, help="instead of the plan's")
    parser.add_argument("--flows", type=int, help="number of clients, instead of the plan's")
    parser.add_argument("--seconds", type=float, help="of a measurement, instead of the plan's")
    parser.add_argument("--docs", action="store_true", help="write docs/performance.md and its plots")
    parser.add_argument("--only", action="append", help="relays whose name contains this; may be repeated")
    parser.add_argument(
        "--again",
        metavar="SCENARIO",
        action="append",
        help="measure the scenarios whose names begin so (over UDP, workers, allocations) and put them in the"
        " place of the published ones, for what something disturbed; the page says so; may be repeated",
    )
    parser.add_argument("--report", type=Path, help="measure nothing, report on these samples")
    return parser.parse_args()


def _check_machine() -> None:
    if os.geteuid() != 0:
        sys.exit("The benchmark makes network namespaces and has to run as root.")
    if (os.cpu_count() or 1) < 2:
        sys.exit("The benchmark needs two cores: one for the relay, one for the load.")
    missing = [
        name
        for name in ("ip", "ethtool", "taskset", "chrt", "setpriv", "sysctl")
        if shutil.which(name) is None
    ]
    if missing:
        sys.exit(f"Missing: {', '.join(missing)}. apt-get install iproute2 ethtool util-linux procps")


def _has_kernel_plane() -> bool:
    try:
        import turnrelay.relay.kernel  # noqa: F401
    except ImportError:
        return False
    return True


main()
