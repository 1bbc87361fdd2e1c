"""The command line, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from peerpath.commands.candidates import candidates
from peerpath.commands.chat import chat
from peerpath.commands.check_server import check
from peerpath.commands.dial import dial
from peerpath.commands.discover import discover
from peerpath.commands.identity import identity
from peerpath.commands.listen import listen
from peerpath.commands.punch import punch

app = typer.Typer(
    name="peerpath",
    help="NAT traversal for chat clients.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("discover")(discover)
app.command("candidates")(candidates)
app.command("check-server")(check)
app.command("punch")(punch)
app.add_typer(identity, name="identity")
app.command("chat")(chat)
app.command("listen")(listen)
app.command("dial")(dial)


def _print_version(wanted: bool) -> None:
    if wanted:
        from peerpath import __version__

        typer.echo(f"peerpath {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """NAT traversal for chat clients."""
