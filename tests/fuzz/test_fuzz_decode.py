"""A bounded run of the decoder fuzzer; `python tests/fuzz/fuzz_decode.py` runs longer."""

import pytest
from fuzz.fuzz_decode import SEALS, run
from stunwire import ATTRIBUTES


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_only_decode_errors_come_out(seed):
    tally = run(50_000, seed)
    assert tally.executions == 50_000
    # The fuzzer is worth its time only while it reaches both sides of the decoder.
    assert tally.messages > 2_500
    variable = {"DATA", "ACCESS-TOKEN", "PADDING", "MOBILITY-TICKET"}
    names = {attribute.name for attribute in ATTRIBUTES.values() if attribute.type not in SEALS} - variable
    assert names <= set(tally.refused)
