"""What the benchmark measures with: both codecs make the same bytes, and figures follow from samples."""

import asyncio
import enum
import json

import aioquic.quic.connection
import aioquic.quic.crypto
import peerpath.connection.messages
import peerpath.ice.stack
import peerpath.net.datagrams
import pytest
from stunwire import DecodeError

from bench import documents, figures, report, sdk_codec, sdk_layers
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


def test_what_is_measured_again_takes_the_place_of_the_disturbed_and_is_named():
    first = json.loads(documents.RELAY.read_text())["samples"][0]
    newer = documents.with_newer(
        {"samples": [first | {"round": 9}], "relays": {}, "started": 0.0, "rounds": 9, "seconds": 2.0}
    )
    assert newer["samples"][0] == first | {"round": 9}
    assert newer["samples"][1]["scenario"] != first["scenario"]
    page = report.page(newer, [])
    assert f"{first['scenario']}: measured again on 1970-01-01 00:00, 9 rounds of 2.0 s" in page


def test_the_page_is_what_the_samples_beside_it_say():
    assert documents.PAGE.read_text() == documents.page()


def test_the_readme_says_what_the_page_says():
    readme = documents.README.read_text()
    assert readme == documents.readme(), "run `python -m bench --docs --report docs/performance/samples.json`"
    assert readme.count("| messages of ") == 2
    assert readme.count("| CPU per relayed packet ") == 2


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (aioquic.quic.connection, "aioquic: packets, acknowledgements, loss"),
        (aioquic.quic.crypto, "encryption"),
        (peerpath.connection.messages, "peerpath.connection: messages, windows"),
        (peerpath.ice.stack, "peerpath.ice and calls: the path"),
        (peerpath.net.datagrams, "sockets and event loop, kernel included"),
        (asyncio.selector_events, "sockets and event loop, kernel included"),
        (pytest, "other packages"),
        (enum, None),
    ],
)
def test_a_sample_counts_for_the_layer_of_its_file(module, layer):
    assert sdk_layers.layer_of(module.__file__) == layer
