"""What the commands share: where they print, and how they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from peerpath.errors import PeerpathError, SettingsError
from peerpath.settings import Settings

T = TypeVar("T")

_WIDE = 160
_JOINER = "\N{ZERO WIDTH JOINER}"  # holds emoji together

output = Console(highlight=False, soft_wrap=True)
if not output.is_terminal:
    output.width = _WIDE  # no terminal, no edge to break lines at
messages = Console(stderr=True, highlight=False, soft_wrap=True)
"""Everything that is not the result: a pipe gets the result alone."""

FAILED = 1
MISUSED = 2


class Task:
    """One line of progress; silent where nobody watches."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=1.0)

    def tell(self, text: str, done: float) -> None:
        self._progress.update(self._task, description=text, completed=done)


@contextmanager
def working(text: str) -> Iterator[Task]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24))
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as progress:
        task = Task(progress)
        task.tell(text, 0.0)
        yield task


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; what the network or the user did wrong ends the program with a message."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except SettingsError as error:
        raise fail(str(error), MISUSED) from error
    except (PeerpathError, OSError) as error:
        raise fail(str(error)) from error
    except ValueError as error:
        raise fail(str(error), MISUSED) from error


def fail(message: str, code: int = FAILED) -> typer.Exit:
    messages.print(message, style="red", markup=False)
    return typer.Exit(code)


def plain(text: str) -> str:
    """Text of a peer, on one line and without what would make a terminal do something."""
    shown = (
        character if character.isprintable() or character == _JOINER else "\N{REPLACEMENT CHARACTER}"
        for character in text.replace("\t", " ")
    )
    return "".join(shown)


def print_json(value: object) -> None:
    output.print(json.dumps(value, indent=2), markup=False)


def settings(config: str | None, **given: Any) -> Settings:
    """From file, environment and what the command line adds; a bad one ends the program."""
    try:
        return Settings.load(config, **{name: value for name, value in given.items() if value})
    except SettingsError as error:
        raise fail(str(error), MISUSED) from error
