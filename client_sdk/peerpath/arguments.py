"""Checks of what an application hands over: a slip of the pen is named at once, in our words."""

from __future__ import annotations

import math

from peerpath.errors import SettingsError


def require_positive(name: str, value: object) -> None:
    """SettingsError, naming the argument, for anything but a finite number more than 0."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return
    raise SettingsError(name, f"has to be a number more than 0, not {value!r}")
