"""Writes the tables of the documents from the program itself: settings, reason codes.

Run by `make docs`; a test holds the tables to the settings.
"""

import sys
from functools import partial
from pathlib import Path

from turnrelay.observe.reasons import EVENTS
from turnrelay.settings import LimitSettings, Settings
from turnrelay.settings.keys import KEYS, Key

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- generated: {} -->", "<!-- end of generated -->"


def default_of(key: Key) -> str:
    """The default as a person writes it."""
    limits = key.path.startswith("limits.")
    fields = LimitSettings.model_fields if limits else Settings.model_fields
    if key.path == "data_dir":
        return "`$STATE_DIRECTORY` or `~/.local/share/turnrelay`"
    default = fields[key.path.removeprefix("limits.")].get_default(call_default_factory=True)
    return "" if default in ([], None) else f"`{default}`"


def flags_table() -> str:
    """The settings that have a flag."""
    rows = ["| flag | environment | default | what |", "|---|---|---|---|"]
    for key in KEYS.values():
        if key.flag is not None:
            repeatable = ", repeatable" if key.is_list else ""
            rows.append(
                f"| `{key.flag}` | `{key.variable}` | {default_of(key)} | {key.description}{repeatable} |"
            )
    return "\n".join(rows)


def limits_table() -> str:
    """The limits."""
    rows = ["| key in `[limits]` | default | what |", "|---|---|---|"]
    for key in KEYS.values():
        if key.flag is None:
            name = key.path.removeprefix("limits.")
            rows.append(f"| `{name}` | {default_of(key)} | {key.description} |")
    return "\n".join(rows)


def reasons_table(event: str) -> str:
    """The reason codes of one kind of log line."""
    rows = ["| `reason` | what it means |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{code.value}` | {words} |" for code, words in EVENTS[event].items())])


TABLES = {
    ("README.md", "flags"): flags_table,
    ("docs/configuration.md", "flags"): flags_table,
    ("docs/configuration.md", "limits"): limits_table,
    **{("docs/logs.md", event): partial(reasons_table, event) for event in EVENTS},
}


def with_tables(name: str) -> str:
    """The text of a document with its tables as they should be."""
    text = (ROOT / name).read_text()
    for (document, table), make in TABLES.items():
        if document == name:
            head, begin, rest = text.partition(BEGIN.format(table))
            if not begin or END not in rest:
                sys.exit(f"{name}: the marks {BEGIN.format(table)} ... {END} are missing")
            text = f"{head}{begin}\n{make()}\n{rest[rest.index(END) :]}"
    return text


def documents() -> list[str]:
    return sorted({document for document, _ in TABLES})


if __name__ == "__main__":
    for name in documents():
        (ROOT / name).write_text(with_tables(name))
