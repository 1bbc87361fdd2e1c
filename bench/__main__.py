"""`python -m bench`: run the plan, print the table, keep the samples."""

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from support.netns import sweep

from bench import plan, relays, report
from bench.generator import PROGRAM

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "performance"


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
    if options.only:
        kinds = [kind for kind in kinds if any(word in kind.name for word in options.only)]
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="turnrelay-bench-") as folder:
        samples = plan.Run(chosen, kinds, Path(folder)).everything()
    document = {
        "plan": "quick" if options.quick else "full",
        "started": started,
        "took_seconds": round(time.time() - started, 1),
        "machine": _machine(),
        "relays": {kind.name: kind.version() for kind in kinds},
        "rounds": chosen.rounds,
        "seconds": chosen.seconds,
        "samples": samples,
    }
    _publish(document, options)


def _publish(document: dict[str, object], options: argparse.Namespace) -> None:
    print(report.terminal_table(document))
    if options.docs:
        DOCS.mkdir(parents=True, exist_ok=True)
        report.write_docs(document, ROOT / "docs" / "performance.md", DOCS)
    samples = DOCS / "samples.json" if options.docs else PROGRAM.parent / "samples.json"
    # One sample a line, so that two runs can be compared by diff.
    lines = ",\n  ".join(json.dumps(sample) for sample in document["samples"])  # type: ignore[union-attr]
    head = json.dumps({key: value for key, value in document.items() if key != "samples"}, indent=1)
    samples.write_text(head[:-2] + ',\n "samples": [\n  ' + lines + "\n ]\n}\n")
    print(f"All samples: {samples.relative_to(ROOT)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, under two minutes")
    parser.add_argument("--rounds", type=int, help="instead of the plan's")
    parser.add_argument("--flows", type=int, help="number of clients, instead of the plan's")
    parser.add_argument("--seconds", type=float, help="of a measurement, instead of the plan's")
    parser.add_argument("--docs", action="store_true", help="write docs/performance.md and its plots")
    parser.add_argument("--only", action="append", help="relays whose name contains this; may be repeated")
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


def _machine() -> dict[str, object]:
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    return {
        "kernel": platform.release(),
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


main()
