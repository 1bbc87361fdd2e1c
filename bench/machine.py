"""What is measured on."""

import os
import platform
from pathlib import Path


def description() -> dict[str, object]:
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    return {
        "kernel": platform.release(),
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def load_average() -> float:
    """Programs that ran or wanted to, over the last minute."""
    return float(Path("/proc/loadavg").read_text().split()[0])
