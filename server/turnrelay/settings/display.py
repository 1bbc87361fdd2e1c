"""The effective settings as text, without their secrets."""

import json
from collections.abc import Iterator, Mapping

from turnrelay.settings import Settings
from turnrelay.settings.keys import KEYS, MASK, Key


def effective_settings(settings: Settings, origins: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Lines of a TOML file and what to say beside each: the source of the value."""
    table = ""
    for path, key in KEYS.items():
        new_table, _, name = path.rpartition(".")
        if new_table != table:
            table = new_table
            yield "", ""
            yield f"[{table}]", ""
        value = getattr(settings.limits if table else settings, name)
        if value is None and path != "http":
            yield f"# {name} =", "not set"
        else:
            yield f"{name} = {_toml(key, value)}", origins[path]


def _toml(key: Key, value: object) -> str:
    # JSON's numbers, strings and arrays of strings are TOML, too.
    if key.path == "users":
        assert isinstance(value, list)
        return json.dumps([f"{user.name}:{MASK}" for user in value], ensure_ascii=False)
    if isinstance(value, list):
        return json.dumps([MASK if key.secret else str(item) for item in value], ensure_ascii=False)
    if key.secret:
        return json.dumps(MASK)
    if isinstance(value, int | float):
        return json.dumps(value)
    return json.dumps("off" if value is None else str(value), ensure_ascii=False)
