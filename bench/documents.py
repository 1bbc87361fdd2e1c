"""Documents: the samples of a run, and the page that is made of them."""

import json
from pathlib import Path
from typing import Any

from bench import report, sdk_report

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
_OF_RELAY, _OF_CLIENT = "<!-- generated: relay beside others -->\n", "<!-- generated: client's side -->\n"
_END = "<!-- end of generated -->"
FOLDER = ROOT / "docs" / "performance"
RELAY, SDK = FOLDER / "samples.json", FOLDER / "sdk.json"
BUILD = ROOT / "bench" / "build"


def save(document: dict[str, Any], path: Path) -> None:
    """One sample a line, so that two runs can be compared by diff."""
    lines = ",\n  ".join(json.dumps(sample) for sample in document["samples"])
    head = json.dumps({key: value for key, value in document.items() if key != "samples"}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head[:-2] + ',\n "samples": [\n  ' + lines + "\n ]\n}\n")
    print(f"All samples: {path.relative_to(ROOT)}")


def with_newer(newer: dict[str, Any]) -> dict[str, Any]:
    """The published document, the newer one's samples in the place of those of the same scenarios."""
    document: dict[str, Any] = json.loads(RELAY.read_text())
    samples = newer["samples"]
    names = {sample["scenario"] for sample in samples}
    order = list(dict.fromkeys(one["scenario"] for one in [*document["samples"], *samples]))
    kept = [one for one in document["samples"] if one["scenario"] not in names]
    document["samples"] = sorted([*kept, *samples], key=lambda one: order.index(one["scenario"]))
    how = {key: newer[key] for key in ("started", "rounds", "seconds")}
    document.setdefault("again", {}).update(dict.fromkeys(sorted(names), how))
    document["relays"] |= newer["relays"]
    return document


def page() -> str:
    """docs/performance.md from the samples beside it: either side is measured without the other."""
    client = sdk_report.section(json.loads(SDK.read_text())) if SDK.exists() else []
    return report.page(json.loads(RELAY.read_text()), client)


def readme() -> str:
    """README.md, its tables from the same samples."""
    text = _with_table(README.read_text(), _OF_RELAY, report.brief_table(json.loads(RELAY.read_text())))
    return _with_table(text, _OF_CLIENT, sdk_report.brief_table(json.loads(SDK.read_text())))


def _with_table(text: str, begin: str, table: list[str]) -> str:
    head, _, rest = text.partition(begin)
    lines = "\n".join(table)
    return f"{head}{begin}{lines}\n{rest[rest.index(_END) :]}"
