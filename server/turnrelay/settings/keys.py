"""The names of every setting: key in the file, environment variable, flag; and what is said about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import get_origin

from pydantic.fields import FieldInfo

from turnrelay.settings import LimitSettings, Settings

ENVIRONMENT_PREFIX = "TURNRELAY_"
CONFIG_VARIABLE = "TURNRELAY_CONFIG"
"""Names the file, as --config does; not a setting itself."""

# A flag that may be repeated is named for one item, the key for all of them.
_IRREGULAR_FLAGS = {"users": "--user", "shared_secrets": "--shared-secret"}
_SECRET_KEYS = frozenset(("users", "shared_secrets", "operator_token"))
MASK = "********"


@dataclass(frozen=True, slots=True)
class Key:
    """One setting and its names."""

    path: str
    """`port`, `limits.allocations_total`: the key in the file, table and all."""
    variable: str
    flag: str | None
    """None for the limits: they are set in the file or the environment."""
    is_list: bool
    is_path: bool
    secret: bool
    description: str
    expected: str
    example: str

    @property
    def expectation(self) -> str:
        """`expected ..., for example ...`; a list is shown as one item."""
        return f"expected {self.expected}, for example {self.example}"


def _keys() -> Iterator[Key]:
    for name, field in Settings.model_fields.items():
        if name == "limits":
            for limit, limit_field in LimitSettings.model_fields.items():
                variable = f"{ENVIRONMENT_PREFIX}LIMITS__{limit.upper()}"
                yield _key(f"limits.{limit}", variable, None, limit_field)
        else:
            flag = _IRREGULAR_FLAGS.get(name, f"--{name.replace('_', '-')}")
            yield _key(name, f"{ENVIRONMENT_PREFIX}{name.upper()}", flag, field)


def _key(path: str, variable: str, flag: str | None, field: FieldInfo) -> Key:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    assert field.description is not None
    return Key(
        path=path,
        variable=variable,
        flag=flag,
        is_list=get_origin(field.annotation) is list,
        is_path=path in ("tls_cert", "tls_key", "data_dir"),
        secret=path in _SECRET_KEYS,
        description=field.description,
        expected=str(extra["expected"]),
        example=str(extra["example"]),
    )


KEYS = MappingProxyType({key.path: key for key in _keys()})
BY_VARIABLE = MappingProxyType({key.variable: key for key in KEYS.values()})


def did_you_mean(path: str) -> str | None:
    """The key that an unknown one was probably meant to be."""
    wanted = path.replace("-", "_")
    by_last_part = {known.rpartition(".")[2]: known for known in KEYS}
    by_last_part |= {flag.removeprefix("--").replace("-", "_"): key for key, flag in _IRREGULAR_FLAGS.items()}
    last = wanted.rpartition(".")[2]
    close = get_close_matches(last, by_last_part, n=1, cutoff=0.75)
    return by_last_part[close[0]] if close else None
