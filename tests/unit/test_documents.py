"""The generated tables say what the settings are."""

import importlib.util
from pathlib import Path

import pytest

_GENERATOR = Path(__file__).parents[2] / "docs" / "generate.py"
_spec = importlib.util.spec_from_file_location("generate", _GENERATOR)
assert _spec is not None
assert _spec.loader is not None
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)


@pytest.mark.parametrize("name", generate.documents())
def test_tables_are_up_to_date(name):
    assert (generate.ROOT / name).read_text() == generate.with_tables(name), "run `make docs`"
