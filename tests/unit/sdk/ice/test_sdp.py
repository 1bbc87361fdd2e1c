"""Candidates and descriptions as SDP (RFC 8839) and JSON."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peerpath.ice import Candidate, CandidateType, Credentials, Description
from peerpath.ice.json_form import (
    JsonError,
    candidate_from_json,
    candidate_to_json,
    description_from_json,
    description_to_json,
)
from peerpath.ice.sdp import (
    MAX_LINE,
    SdpError,
    format_candidate,
    format_description,
    parse_candidate,
    parse_description,
)
from stunwire import TransportAddress

# What the RFCs and programs in the field write.
LINES = [
    # RFC 8839 section 5.1
    "candidate:1 1 UDP 2130706431 203.0.113.141 8998 typ host",
    "candidate:2 1 UDP 1694498815 192.0.2.3 45664 typ srflx raddr 203.0.113.141 rport 8998",
    # Chromium
    "candidate:842163049 1 udp 1677729535 198.51.100.4 46154 typ srflx raddr 10.0.0.2 rport 46154 "
    "generation 0 ufrag EEtu network-id 1 network-cost 10",
    "candidate:2999745851 1 udp 2122260223 8a2f0c4c-7ddc-4d5c-9b8b-dcfd90a1bd6c.local 57871 typ host",
    # libnice, libdatachannel
    "candidate:1 1 UDP 2015363327 fd12::7 52813 typ host",
    "candidate:3 1 UDP 8331263 203.0.113.5 61665 typ relay raddr 0.0.0.0 rport 0",
    "candidate:1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
]


@pytest.mark.parametrize("line", LINES)
def test_lines_of_others_survive(line):
    candidate = parse_candidate(line)
    again = parse_candidate(format_candidate(candidate))
    assert again == candidate


def test_the_fields_of_a_line():
    candidate = parse_candidate("a=" + LINES[2])
    assert candidate == Candidate(
        CandidateType.SERVER_REFLEXIVE,
        TransportAddress("198.51.100.4", 46154),
        1677729535,
        "842163049",
        related=TransportAddress("10.0.0.2", 46154),
        ufrag="EEtu",
        extensions=(("generation", "0"), ("network-id", "1"), ("network-cost", "10")),
    )


def test_a_private_base_is_written_as_unspecified():
    candidate = replace(parse_candidate(LINES[1]), related=None)
    assert format_candidate(candidate).endswith("raddr 0.0.0.0 rport 9")
    six = replace(candidate, address=TransportAddress("2001:db8::1", 1))
    assert format_candidate(six).endswith("raddr :: rport 9")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "candidate:",
        "candidate:1 1 UDP 1 192.0.2.1 1 typ",
        "candidate:1 1 UDP 1 192.0.2.1 1 host typ",
        "candidate:1 1 UDP 1 192.0.2.1 1 typ secret",
        "candidate:1 1 UDP 1 192.0.2.1 70000 typ host",
        "candidate:1 1 UDP 1 192.0.2.1 -1 typ host",
        "candidate:1 0 UDP 1 192.0.2.1 1 typ host",
        "candidate:1 257 UDP 1 192.0.2.1 1 typ host",
        "candidate:1 1 UDP 0 192.0.2.1 1 typ host",
        "candidate:1 1 UDP 4294967296 192.0.2.1 1 typ host",
        "candidate:1 1 UDP ١ 192.0.2.1 1 typ host",
        "candidate:1 1 UDP 1 example.org 1 typ host",
        "candidate:1 1 UDP 1 192.0.2.1 1 typ host dangling",
        "candidate:" + "1" * 33 + " 1 UDP 1 192.0.2.1 1 typ host",
        "candidate:1 1 UDP 1 192.0.2.1 1 typ srflx raddr nowhere rport 1",
        "candidate:1 1 UDP 1 192.0.2.1 1 typ host x " + "y" * MAX_LINE,
    ],
)
def test_broken_lines(line):
    with pytest.raises(SdpError):
        parse_candidate(line)


@given(st.text(max_size=200))
def test_no_text_raises_anything_else(text):
    for line in (text, "candidate:" + text, "candidate:1 1 UDP 1 " + text):
        try:
            parse_candidate(line)
        except SdpError:
            continue


DESCRIPTION = Description(
    Credentials("abcd", "x" * 22),
    tuple(parse_candidate(line) for line in LINES),
    options=frozenset({"ice2", "trickle"}),
    end_of_candidates=True,
)


def test_a_description_survives():
    again, errors = parse_description("\r\n".join(format_description(DESCRIPTION)))
    assert (again, errors) == (DESCRIPTION, [])


def test_a_description_among_other_lines():
    text = "v=0\nm=application 9 UDP/DTLS/SCTP\na=ice-lite\na=ice-ufrag:abcd\na=ice-pwd:" + "x" * 22
    description, _ = parse_description(text)
    assert description.lite
    assert description.options == frozenset()
    assert not description.end_of_candidates


def test_a_broken_candidate_does_not_spoil_the_others():
    text = [*format_description(DESCRIPTION), "a=candidate:broken"]
    description, errors = parse_description(text)
    assert description.candidates == DESCRIPTION.candidates
    assert len(errors) == 1


@pytest.mark.parametrize(
    "text",
    ["", "a=ice-ufrag:abcd", "a=ice-ufrag:abc\na=ice-pwd:" + "x" * 22, "a=ice-ufrag:abcd\na=ice-pwd:short"],
)
def test_without_credentials_there_is_no_description(text):
    with pytest.raises(SdpError):
        parse_description(text)


def test_too_many_lines():
    with pytest.raises(SdpError):
        parse_description(["a=x"] * 501)


def test_json_survives():
    text = json.dumps(description_to_json(DESCRIPTION))
    assert description_from_json(json.loads(text)) == DESCRIPTION


def test_json_of_a_browser():
    candidate = candidate_from_json(
        {"candidate": LINES[0], "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": "EEtu"}
    )
    assert candidate.ufrag == "EEtu"
    assert candidate_to_json(candidate)["address"] == "203.0.113.141"


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"usernameFragment": "abcd", "password": 5},
        {"usernameFragment": "abc", "password": "x" * 22},
        {"usernameFragment": "abcd", "password": "x" * 22, "candidates": {}},
        {"usernameFragment": "abcd", "password": "x" * 22, "candidates": [{}] * 501},
        {"usernameFragment": "abcd", "password": "x" * 22, "candidates": ["candidate:1"]},
        {"usernameFragment": "abcd", "password": "x" * 22, "iceOptions": [1]},
    ],
)
def test_json_that_is_no_description(document):
    with pytest.raises(JsonError):
        description_from_json(document)


def test_credentials_do_not_show_their_password():
    assert "x" * 22 not in repr(DESCRIPTION)
