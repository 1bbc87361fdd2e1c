"""`peerpath identity`: keys in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peerpath.commands import console
from peerpath.identity import Identity, IdentityError

identity = typer.Typer(help="Make and show the key that is this device's name.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The file that keeps the private key.")]


@identity.command("new")
def new(file: File) -> None:
    """Make a key, write it to FILE (mode 0600) and print the public key, which is what peers dial."""
    made = Identity.generate()
    try:
        made.save(file)
    except IdentityError as error:
        raise console.fail(str(error)) from error
    console.output.print(str(made.public_key), markup=False)


@identity.command("show")
def show(
    file: File,
    fingerprint: Annotated[
        bool, typer.Option("--fingerprint", help="For people to compare, instead of the key.")
    ] = False,
) -> None:
    """Print the public key of FILE."""
    key = load(file).public_key
    console.output.print(key.fingerprint if fingerprint else str(key), markup=False)


def load(file: Path) -> Identity:
    """The identity in `file`; a bad one ends the program."""
    try:
        return Identity.load(file)
    except IdentityError as error:
        raise console.fail(str(error), console.MISUSED) from error
