"""The options of the command line, described by the settings they stand for."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from turnrelay.settings import Settings
from turnrelay.settings.keys import KEYS

_DURATION = re.compile(r"([0-9]{1,9})([smhd]?)", re.ASCII)
_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def flag(path: str, metavar: str) -> Any:
    """The option of a setting. Its value stays text: the settings judge it, as they do any source's."""
    key = KEYS[path]
    assert key.flag is not None  # limits have none and are never asked for
    default = Settings.model_fields[path].get_default(call_default_factory=True)
    help_text = f"{key.description[0].upper()}{key.description[1:]}"
    if default:
        help_text += f" ({default})"
    return typer.Option(
        key.flag, metavar=metavar, help=f"{help_text}{'; may be repeated' if key.is_list else ''}."
    )


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="TOML file with settings; else the one TURNRELAY_CONFIG names."
    ),
]
DataDirOption = Annotated[str | None, flag("data_dir", "DIR")]
RealmOption = Annotated[str | None, flag("realm", "REALM")]


def given_flags(arguments: Mapping[str, object]) -> dict[str, object]:
    """Of a command's arguments those that are settings and were given, by key."""
    # A repeatable flag that was not given is an empty list; an empty text was given, and is for the settings.
    return {path: value for path, value in arguments.items() if path in KEYS and value not in (None, [])}


def parse_duration(text: str) -> int:
    """Seconds from `3600`, `90s`, `30m`, `12h` or `1d`; a usage error otherwise."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None or not int(found[1]):
        raise typer.BadParameter(f"{text!r} is no duration; write seconds, or 30m, 12h, 1d")
    return int(found[1]) * _UNIT_SECONDS[found[2]]
