"""`server/bpf/relay.h` and `layouts.py` say the same."""

import ctypes
import re
import subprocess
from pathlib import Path

import pytest
from support.requirements import require_program
from turnrelay.relay.kernel import layouts

_HEADER = Path(__file__).parents[2] / "server" / "bpf" / "relay.h"
_STRUCTURES = {
    "leg_key": layouts.LegKey,
    "leg": layouts.Leg,
    "hop": layouts.Hop,
    "counter": layouts.Counter,
    "totals": layouts.Totals,
    "bucket": layouts.Bucket,
    "spending": layouts.Spending,
    "link_key": layouts.LinkKey,
    "link": layouts.Link,
    "watch": layouts.Watch,
    "redirection": layouts.Redirection,
    "map_definition": layouts.MapDefinition,
}

_CONSTANTS = ("HOP_TAKES_FRAMES", "REFRESH_NS", "RETRY_NS", "VALID_NS")


@pytest.fixture(scope="module")
def in_c(tmp_path_factory) -> dict[str, int]:
    """Sizes, offsets and constants as the compiler sees them."""
    lines = ["#include <stdio.h>", "#include <stddef.h>", f'#include "{_HEADER}"', "int main(void) {"]
    for name, structure in _STRUCTURES.items():
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        for field, _ in structure._fields_:
            at, size = f"offsetof(struct {name}, {field})", f"sizeof(((struct {name} *)0)->{field})"
            lines.append(f'printf("{name}.{field} %zu\\n", {at} * 1000 + {size});')
    lines += [f'printf("{name} %llu\\n", (unsigned long long){name});' for name in _CONSTANTS]
    folder = tmp_path_factory.mktemp("layouts")
    (folder / "show.c").write_text("\n".join([*lines, "return 0; }"]))
    clang = require_program("clang")
    subprocess.run([clang, folder / "show.c", "-o", folder / "show"], check=True, timeout=30)
    shown = subprocess.run([folder / "show"], check=True, capture_output=True, text=True, timeout=10).stdout
    return {name: int(value) for name, value in map(str.split, shown.splitlines())}


@pytest.mark.parametrize("name", _STRUCTURES)
def test_structures_are_laid_out_alike(in_c, name):
    structure = _STRUCTURES[name]
    here = {name: ctypes.sizeof(structure)}
    for field, _ in structure._fields_:
        descriptor = getattr(structure, field)
        here[f"{name}.{field}"] = descriptor.offset * 1000 + descriptor.size
    assert here == {key: value for key, value in in_c.items() if key.partition(".")[0] == name}


@pytest.mark.parametrize("name", _CONSTANTS)
def test_constants_are_the_same(in_c, name):
    assert in_c[name] == getattr(layouts, name)


def test_no_structure_was_forgotten():
    declared = set(re.findall(r"^struct (\w+) \{", _HEADER.read_text(), re.MULTILINE))
    assert declared == set(_STRUCTURES)
