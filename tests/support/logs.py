"""What this process logs."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from turnrelay.observe import log


@contextmanager
def logged(level: str = "info") -> Iterator[io.StringIO]:
    """The log of a relay in this process as it is written, JSON lines; what was there before comes back."""
    stream, root = io.StringIO(), logging.getLogger()
    before = root.handlers[:], root.level
    try:
        log.configure(level, "json", stream)
        yield stream
    finally:
        structlog.reset_defaults()
        logging.captureWarnings(False)
        root.handlers[:], root.level = before


def records(text: str) -> list[dict[str, Any]]:
    """Each line is an object, or this fails."""
    return [json.loads(line) for line in text.splitlines()]
