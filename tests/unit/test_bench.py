"""What the benchmark measures with: both codecs make the same bytes, and figures follow from samples."""

import pytest
from stunwire import DecodeError

from bench import documents, figures, sdk_codec
from bench.figures import Figure

BOTH = sdk_codec.CODECS.values()


@pytest.mark.parametrize(("ours", "theirs"), BOTH, ids=sdk_codec.CODECS)
def test_both_codecs_make_the_same_bytes_and_take_them(ours, theirs):
    data = ours.encode()
    assert data == theirs.encode()
    assert ours.decode(data)
    assert theirs.decode(data)


@pytest.mark.parametrize("codec", [codec for both in BOTH for codec in both], ids=lambda codec: codec.who)
def test_what_was_changed_on_its_way_is_decoded_by_neither(codec):
    data = bytearray(codec.encode())
    data[27] ^= 1
    with pytest.raises((sdk_codec.Forged, DecodeError, ValueError)):
        codec.decode(bytes(data))


def test_a_ratio_is_the_median_of_the_rounds_in_which_both_had_a_turn():
    cost = Figure("cost", "us", "{:.1f}")
    samples = [
        {"scenario": "talk", "of": of, "round": round_, "cost": value}
        for of, values in {"ours": (1.0, 9.0, 3.0, 100.0), "theirs": (2.0, 3.0, 4.0)}.items()
        for round_, value in enumerate(values)
    ]
    ours, theirs = figures.rows(samples, {"talk": [cost]}, ["ours", "theirs"], "theirs", "of")
    assert (ours.median, ours.low, ours.high) == (6.0, 1.0, 100.0)
    assert ours.ratio == 0.75
    assert theirs.ratio is None


def test_the_page_is_what_the_samples_beside_it_say():
    assert documents.PAGE.read_text() == documents.page()
