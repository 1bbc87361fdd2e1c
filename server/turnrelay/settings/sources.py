"""Where settings come from: a TOML file, the environment, flags; the later is the stronger.

A list in a stronger source replaces the one in a weaker source, it does not add to it. The limits are
merged one by one.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from turnrelay.settings import Settings, default_data_dir
from turnrelay.settings.checks import check_together, warn_about
from turnrelay.settings.errors import Problem, SettingsError
from turnrelay.settings.keys import (
    BY_VARIABLE,
    CONFIG_VARIABLE,
    ENVIRONMENT_PREFIX,
    KEYS,
    Key,
    did_you_mean,
)

DEFAULT = "default"

# Kubernetes gives every pod variables about the services beside it. Those of a service called "turnrelay"
# look like ours: TURNRELAY_SERVICE_HOST, TURNRELAY_PORT=tcp://10.0.0.1:3478, TURNRELAY_PORT_3478_UDP_ADDR.
_SERVICE_LINK_NAME = re.compile(r"TURNRELAY_(SERVICE_(HOST|PORT)(_.*)?|PORT_\d+_(TCP|UDP|SCTP)(_.*)?)")
_SERVICE_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")


@dataclass(slots=True)
class Layer:
    """The values of one source by key, and what is to be said about them."""

    values: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    """How each value was set, in the operator's words."""
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The effective settings and where each came from."""

    settings: Settings
    origins: Mapping[str, str]
    """By key, limits included (`limits.allocations_total`)."""
    warnings: Sequence[str]


def load_settings(
    *,
    config_file: Path | None = None,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    check_files: bool = True,
) -> LoadedSettings:
    """Reads and checks all sources. SettingsError names everything that is wrong.

    `flags` has the keys of the settings, not of the command line, and holds what was given only. Without
    `config_file` the file is the one that TURNRELAY_CONFIG names, if any. `check_files=False` leaves the
    certificate and its key unread, for a command that serves nothing and may not be permitted to.
    """
    environ = os.environ if environ is None else environ
    if config_file is None and environ.get(CONFIG_VARIABLE):
        config_file = Path(environ[CONFIG_VARIABLE]).expanduser()
    layers = [  # the strongest first
        read_flags(flags or {}),
        read_environment(environ),
        read_file(config_file) if config_file is not None else Layer(),
        _computed_defaults(environ),
    ]
    problems = [problem for layer in layers for problem in layer.problems]
    settings, faults = _validate(layers)
    wrong = {problem.key for problem in (*problems, *faults)}
    origins = {path: _origin(path, layers) for path in KEYS}
    problems += faults
    problems += [
        problem for problem in check_together(settings, origins, check_files) if problem.key not in wrong
    ]
    if problems:
        raise SettingsError(problems)
    warnings = [warning for layer in layers for warning in layer.warnings]
    warnings += warn_about(settings, origins, check_files)
    return LoadedSettings(settings, origins, warnings)


# -- the sources ----------------------------------------------------------------------------------------


def read_flags(flags: Mapping[str, object]) -> Layer:
    layer = Layer()
    for path, value in flags.items():
        layer.values[path] = value
        layer.labels[path] = KEYS[path].flag or path
    return layer


def read_environment(environ: Mapping[str, str]) -> Layer:
    """Lists are comma separated, or a JSON array for items with commas. An empty variable counts as unset."""
    layer = Layer()
    for variable, text in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE or not text:
            continue
        key = BY_VARIABLE.get(variable)
        if key is None:
            _unknown_variable(layer, variable)
        elif _SERVICE_LINK_VALUE.match(text):
            layer.warnings.append(
                f"{variable} is ignored: {text} is Kubernetes telling of a service named turnrelay "
                "(enableServiceLinks: false in the pod keeps it away)"
            )
        else:
            layer.labels[key.path] = variable
            layer.values[key.path] = _read_list(layer, key, text) if key.is_list else text
    return layer


def read_file(path: Path) -> Layer:
    """A TOML file; relative paths in it are relative to its directory."""
    layer = Layer()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        layer.problems.append(Problem("config", "--config", f"cannot be read: {error.strerror}", str(path)))
        return layer
    except ValueError as error:  # not UTF-8, or not TOML: the text names the line
        layer.problems.append(Problem("config", str(path), f"is no TOML file: {error}"))
        return layer
    limits = table.pop("limits", {})
    if isinstance(limits, dict):
        table |= {f"limits.{name}": value for name, value in limits.items()}
    else:
        layer.problems.append(
            Problem("limits", f"{path}: limits", "expected a table: [limits] on a line of its own")
        )
    for name, value in table.items():
        label = f"{path}: {name}"
        key = KEYS.get(name)
        if key is None:
            layer.problems.append(Problem(name, label, f"there is no such setting{_suggestion(name)}"))
            continue
        if key.is_path and isinstance(value, str) and not value.startswith("~"):
            value = str(path.parent / value)
        layer.labels[name], layer.values[name] = label, value
    if path.stat().st_mode & 0o077 and any(KEYS[name].secret for name in layer.values):
        layer.warnings.append(f"{path} holds secrets and is open to other users; mend it: chmod 600 {path}")
    return layer


def _unknown_variable(layer: Layer, variable: str) -> None:
    """One that is nearly a key is a mistake that must not pass: it may be a limit or a denial.

    Any other is probably somebody else's, and only worth a word.
    """
    if _SERVICE_LINK_NAME.fullmatch(variable):
        return
    path = variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
    meant = did_you_mean(path)
    if meant is None:
        layer.warnings.append(f"{variable} is no setting and is ignored")
        return
    message = f"there is no such setting; did you mean {KEYS[meant].variable}?"
    layer.problems.append(Problem(path, variable, message))


def _read_list(layer: Layer, key: Key, text: str) -> list[str]:
    if not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        items = json.loads(text)
    except ValueError:
        items = None
    if not isinstance(items, list):
        shown = None if key.secret else text
        message = f'begins with [ but is no JSON array, for example ["{key.example}"]'
        layer.problems.append(Problem(key.path, key.variable, message, shown))
        return []
    return items


def _suggestion(path: str) -> str:
    meant = did_you_mean(path)
    if meant is None:
        return "; turnrelay config show lists all of them"
    table, dot, name = meant.rpartition(".")
    return f"; did you mean {name} in the table [{table}]?" if dot else f"; did you mean {meant}?"


def _computed_defaults(environ: Mapping[str, str]) -> Layer:
    label = "STATE_DIRECTORY" if environ.get("STATE_DIRECTORY") else DEFAULT
    return Layer({"data_dir": str(default_data_dir(environ))}, {"data_dir": label})


# -- putting them together --------------------------------------------------------------------------------


class _LayerSource(PydanticBaseSettingsSource):
    """A layer as pydantic-settings takes it, less what is known to be wrong."""

    def __init__(self, layer: Layer, without: set[str]) -> None:
        super().__init__(Settings)
        self._layer = layer
        self._without = without

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._layer.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for path, value in self._layer.values.items():
            if path not in self._without:
                table, _, name = path.rpartition(".")
                (tree.setdefault(table, {}) if table else tree)[name] = value
        return tree


def _validate(layers: Sequence[Layer]) -> tuple[Settings, list[Problem]]:
    """The settings, and what is wrong with single ones; those have their defaults in the settings."""
    try:
        return _build(layers, set()), []
    except ValidationError as error:
        faults = [_problem(dict(detail), layers) for detail in error.errors(include_url=False)]
    return _build(layers, {fault.key for fault in faults}), faults


def _build(layers: Sequence[Layer], without: set[str]) -> Settings:
    sources = tuple(_LayerSource(layer, without) for layer in layers)
    # A documented argument of BaseSettings, which type checkers do not see behind the fields.
    arguments: dict[str, Any] = {"_build_sources": (sources, {})}
    return Settings(**arguments)


def _problem(detail: dict[str, Any], layers: Sequence[Layer]) -> Problem:
    location = detail["loc"]
    depth = 2 if location[0] == "limits" else 1
    path = ".".join(str(part) for part in location[:depth])
    key = KEYS[path]
    source = _origin(path, layers)
    item = next((part for part in location[depth:] if isinstance(part, int)), None)
    if item is not None and not source.startswith("--"):
        source += f", item {item + 1}"
    if detail["type"] == "list_type":
        message = f'expected a list, for example ["{key.example}"]'
    elif detail["type"] == "value_error":
        message = f"{detail['ctx']['error']}; {key.expectation}"
    else:
        message = key.expectation
    return Problem(path, source, message, None if key.secret else repr(detail["input"]))


def _origin(path: str, layers: Sequence[Layer]) -> str:
    return next((layer.labels[path] for layer in layers if path in layer.labels), DEFAULT)
