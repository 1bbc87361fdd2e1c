"""The command `peerpath`. What it prints with is an extra: a library has no need of it."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from peerpath.commands.app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("typer", "rich", "click"):
            raise
        print(
            f"The command needs {error.name}, which is not installed: install peerpath with its extra cli",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    app()
