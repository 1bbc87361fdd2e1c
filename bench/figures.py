"""From samples to the rows of a table: medians over the rounds, with the least and the most."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Sample = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    key: str
    title: str
    form: str
    compared: bool = True
    """Whether its ratio to the other's says anything; that of two losses does not."""


@dataclass(frozen=True)
class Row:
    scenario: str
    figure: Figure
    who: str
    median: float
    low: float
    high: float
    ratio: float | None
    """The median, over the rounds, of this one's figure by the reference's in the same round."""


def rows(
    samples: Sequence[Sample],
    figures: Mapping[str, Sequence[Figure]],
    who: Sequence[str],
    reference: str,
    key: str,
) -> list[Row]:
    """`figures` are those of the scenarios that start so; `key` is where a sample says whose it is."""
    found = []
    for scenario in dict.fromkeys(sample["scenario"] for sample in samples):
        of_scenario = [sample for sample in samples if sample["scenario"] == scenario]
        for figure in next(chosen for start, chosen in figures.items() if scenario.startswith(start)):
            base = _by_round(of_scenario, figure, key, reference)
            for name in who:
                mine = _by_round(of_scenario, figure, key, name)
                if not mine:
                    continue
                ratios = [value / base[round_] for round_, value in mine.items() if base.get(round_)]
                compared = name != reference and ratios and figure.compared
                values = list(mine.values())
                found.append(
                    Row(
                        scenario,
                        figure,
                        name,
                        statistics.median(values),
                        min(values),
                        max(values),
                        statistics.median(ratios) if compared else None,
                    )
                )
    return found


def _by_round(samples: Sequence[Sample], figure: Figure, key: str, name: str) -> dict[int, float]:
    return {s["round"]: s[figure.key] for s in samples if s[key] == name and figure.key in s}


def cells(row: Row) -> list[str]:
    form = row.figure.form.format
    spread = "" if row.low == row.high else f"{form(row.low)} - {form(row.high)}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} x"
    return [row.scenario, row.figure.title, row.who, form(row.median), spread, ratio]


def terminal_table(heads: Sequence[str], found: Sequence[Row]) -> str:
    """Without what a line repeats of the one before."""
    table = [list(heads), *map(cells, found)]
    widths = [max(len(line[column]) for line in table) for column in range(len(heads))]
    lines = []
    previous = ["", ""]
    for line in table:
        shown = list(line)
        if line[0] == previous[0]:
            shown[0] = ""
            if line[1] == previous[1]:
                shown[1] = ""
        previous = line[:2]
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(shown, widths, strict=True)).rstrip())
    lines.insert(1, "-" * (sum(widths) + 2 * len(widths)))
    return "\n".join(lines)


def markdown_table(heads: Sequence[str], found: Sequence[Row]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|---|---|---|--:|--:|--:|"]
    return lines + ["| " + " | ".join(cells(row)) + " |" for row in found]


def load_of_machine(samples: Sequence[Sample]) -> str:
    loads = [sample["machine_load"] for sample in samples]
    load = f"{statistics.median(loads):.1f} (median; {min(loads):.1f} to {max(loads):.1f})"
    return f"Load of the machine {load}."
