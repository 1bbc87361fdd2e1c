"""Writes the dashboards: into grafana/dashboards, or into the folder that is named. Run by `make docs`."""

import json
import sys
from pathlib import Path

from relay import relay
from security import security
from traversal import traversal


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "dashboards"
    for name, made in {"traversal": traversal(), "relay": relay(), "security": security()}.items():
        (folder / f"{name}.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
