"""SettingsError: everything that is wrong with the settings, at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from turnrelay.policy.errors import OperatorError


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong setting."""

    key: str
    """As in the file: `port`, `limits.allocations_total`."""
    source: str
    """Where the value was set: `--port`, `TURNRELAY_PORT`, `/etc/turnrelay.toml: port`."""
    message: str
    """What is wrong and what was expected."""
    value: str | None = None
    """What was given; None for a secret and where there is no value."""

    def __str__(self) -> str:
        given = "" if self.value is None else f" = {self.value}"
        return f"{self.source}{given}\n    {self.message}"


class SettingsError(OperatorError):
    """The settings cannot be used; `problems` has at least one entry."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        many = "1 setting is" if len(problems) == 1 else f"{len(problems)} settings are"
        super().__init__("\n".join([f"{many} wrong:", *(f"  {problem}" for problem in problems)]))
