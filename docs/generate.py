"""Writes the tables of the documents from the program itself: settings, reason codes, metrics.

Run by `make docs`; a test holds the tables to the settings.
"""

import asyncio
import sys
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from turnrelay.app import Relay
from turnrelay.observe.reasons import EVENTS
from turnrelay.settings import LimitSettings, Settings
from turnrelay.settings.keys import KEYS, Key
from turnrelay.settings.values import HttpAddress
from turnrelay.transports.listeners import ListenError
from turnrelay.workers.totals import Totals

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


COMMON = (
    *("external_ip", "listen", "relay_ip", "realm", "shared_secrets", "tls_cert", "tls_key"),
    *("shared", "allow_peer", "plane", "workers"),
)
"""What most operators choose, in the order in which they meet it."""


def flags_table() -> str:
    """The settings that have a flag."""
    rows = ["| flag | environment | takes | default | what |", "|---|---|---|---|---|"]
    for key in KEYS.values():
        if key.flag is not None:
            names = f"`{key.flag}` | `{key.variable}`"
            rows.append(f"| {names} | {taken_by(key)} | {default_of(key)} | {key.description} |")
    return "\n".join(rows)


def common_flags_table() -> str:
    """The few that README.md names."""
    rows = ["| flag | takes | what |", "|---|---|---|"]
    keys = [KEYS[path] for path in COMMON]
    return "\n".join([*rows, *(f"| `{key.flag}` | {taken_by(key)} | {key.description} |" for key in keys)])


def limits_table() -> str:
    """The limits."""
    rows = ["| key in `[limits]` | takes | default | what |", "|---|---|---|---|"]
    for key in KEYS.values():
        if key.flag is None:
            name = key.path.removeprefix("limits.")
            rows.append(f"| `{name}` | {taken_by(key)} | {default_of(key)} | {key.description} |")
    return "\n".join(rows)


def taken_by(key: Key) -> str:
    """What the setting accepts, in words, with an example where the words are not all of it. Of a secret
    there is none, or somebody would take it."""
    is_clear = key.secret or key.example.isdecimal() or key.example in key.expected.replace(",", "").split()
    example = "" if is_clear else f", as `{key.example}`"
    return f"{key.expected}{example}{', repeatable' if key.is_list else ''}"


def reasons_table(event: str) -> str:
    """The reason codes of one kind of log line."""
    rows = ["| `reason` | what it means |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{code.value}` | {words} |" for code, words in EVENTS[event].items())])


def metrics_page() -> str:
    """What a relay on the loopback shows Prometheus."""
    for _ in range(_ATTEMPTS - 1):
        # A port that was free for UDP may be taken for TCP.
        with suppress(ListenError):
            return asyncio.run(_metrics_page())
    return asyncio.run(_metrics_page())


async def _metrics_page() -> str:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            listen=["127.0.0.1"],
            relay_ip=["127.0.0.1"],
            port=0,
            http=HttpAddress("127.0.0.1", 0),
            data_dir=Path(folder),
        )
        relay = Relay(settings)
        try:
            await relay.start()
            url = f"http://{relay.welcome().http}/metrics"
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                return await answer.text()
        finally:
            await relay.stop()


def workers_page() -> str:
    """What a relay of several processes shows besides."""
    totals = Totals(CollectorRegistry())
    totals.add_worker(1)
    return generate_latest(totals).decode()


_ATTEMPTS = 5

NOT_LISTED = {"version", "python", "le", "worker"}
"""Labels whose values are not a fixed set."""


ANY_OF = {"plane": ("userspace", "xdp"), "mover": ("c", "python")}
"""Labels of which a relay shows the value that is true of it."""


def metrics_table() -> str:
    """Every metric: name, type, labels with their values, and what it is."""
    rows = ["| metric | type | labels | what |", "|---|---|---|---|"]
    for family in text_string_to_metric_families(metrics_page() + workers_page()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        values: dict[str, dict[str, None]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                values.setdefault(label, {})[value] = None
        for label in values.keys() & ANY_OF.keys():
            values[label] = dict.fromkeys(ANY_OF[label])
        # An error code has its series from the first such answer on.
        if name == "turnrelay_requests_total":
            values["result"] = dict.fromkeys(["success", "400", "401", "..."])
        labels = "; ".join(
            f"`{label}`" if label in NOT_LISTED else f"`{label}`: {', '.join(listed)}"
            for label, listed in values.items()
            if label != "le"
        )
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(rows)


TABLES = {
    ("README.md", "common flags"): common_flags_table,
    ("docs/configuration.md", "flags"): flags_table,
    ("docs/configuration.md", "limits"): limits_table,
    ("docs/metrics.md", "metrics"): metrics_table,
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
