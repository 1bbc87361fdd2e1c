"""What the log knows about one allocation, in order and in plain words."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from turnrelay.observe.reasons import EVENTS


def trace(lines: Iterable[str], wanted: str) -> Iterator[str]:
    """A sentence for each line of the JSON log that names the allocation, client or account `wanted`."""
    for record in records(lines):
        if wanted in (record.get("allocation"), record.get("client"), record.get("account")):
            yield f"{record.get('timestamp', '')}  {_in_words(record)}"


def records(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The JSON objects of a log; what stands before one (a date, a unit) and other lines are skipped."""
    for line in lines:
        start = line.find("{")
        if start < 0:
            continue
        try:
            record = json.loads(line[start:])
        except ValueError:
            continue
        if isinstance(record, dict) and "event" in record:
            yield record


def _in_words(record: dict[str, Any]) -> str:
    event = record["event"]
    reason = _reason(record)
    match event:
        case "allocation created":
            transport = str(record.get("transport", "")).upper()
            sentence = f"Created by a client over {transport}, for {record.get('lifetime')} seconds at first"
        case "allocation ended":
            sentence = f"Ended after {record.get('age')} seconds: {reason}"
        case "allocation refused":
            sentence = f"An allocation was refused with {record.get('code')}: {reason}"
        case "peer denied":
            sentence = f"A peer was denied: {reason}"
        case "authentication failed":
            sentence = f"A request was not accepted: {reason}"
        case _:
            sentence = str(event)
    return f"{sentence}.{_details(record)}"


def _reason(record: dict[str, Any]) -> str:
    code = record.get("reason")
    for known, words in EVENTS.get(record["event"], {}).items():
        if known.value == code:
            return words
    return str(code)


def _details(record: dict[str, Any]) -> str:
    """Who and where, which the log holds at the level debug alone."""
    named = [f"{name} {record[name]}" for name in ("account", "client", "relays") if name in record]
    return f" ({', '.join(named)})" if named else ""
