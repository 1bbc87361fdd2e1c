"""`peerpath check-server`: does a STUN or TURN server do its work, and how fast?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.table import Table

from peerpath.commands import console
from peerpath.commands.discover import AsJson
from peerpath.server_check import CheckedStep, check_server

User = Annotated[str | None, typer.Option("--user", help="User name for a TURN server.")]
Password = Annotated[str | None, typer.Option("--password", help="Its password.")]
Authority = Annotated[
    str | None, typer.Option("--ca", metavar="FILE", help="Trust the certificates of this authority (PEM).")
]


@dataclass(frozen=True)
class _Report:
    uri: str
    ok: bool
    steps: list[CheckedStep]


def check(
    uri: Annotated[str, typer.Argument(metavar="URI", help="stun:, stuns:, turn:, turns:, ws: or wss:")],
    user: User = None,
    password: Password = None,
    ca: Authority = None,
    as_json: AsJson = False,
) -> None:
    """Ask a server for our address, allocate on it, and send data through it and back."""
    if (user is None) != (password is None):
        raise console.fail("give --user and --password together", console.MISUSED)
    steps: list[CheckedStep] = []
    with console.working(f"Checking {uri}") as task:

        def note(step: CheckedStep) -> None:
            steps.append(step)
            task.tell(step.name, len(steps) / 5)

        console.run(check_server(uri, user, password, authority=ca, on_step=note))
    report = _Report(uri, bool(steps) and all(step.ok for step in steps), steps)
    if as_json:
        console.print_json(asdict(report))
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(console.FAILED)


def _print(report: _Report) -> None:
    table = Table.grid(padding=(0, 2))
    for step in report.steps:
        mark = "[green]ok[/]" if step.ok else "[red]failed[/]"
        table.add_row(mark, step.name, "" if step.ms is None else f"{step.ms:.1f} ms", step.detail)
    console.output.print(table)
