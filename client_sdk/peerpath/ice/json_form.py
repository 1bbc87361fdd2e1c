"""Candidates and descriptions as JSON, in the words of the browsers' RTCIceCandidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from peerpath.ice.candidate import Candidate
from peerpath.ice.credentials import Credentials
from peerpath.ice.description import Description
from peerpath.ice.sdp import SdpError, format_candidate, parse_candidate

_MAX_CANDIDATES = 500


class JsonError(ValueError):
    """A document of the peer that is not in this form; the message says which part."""


def candidate_to_json(candidate: Candidate) -> dict[str, Any]:
    """`{"candidate": "candidate:...", ...}`: the line for whoever can read it, its parts for people."""
    document: dict[str, Any] = {
        "candidate": format_candidate(candidate),
        "type": candidate.type.value,
        "protocol": candidate.transport,
        "address": candidate.address.host,
        "port": candidate.address.port,
        "priority": candidate.priority,
        "foundation": candidate.foundation,
        "component": candidate.component,
    }
    if candidate.related is not None:
        document["relatedAddress"], document["relatedPort"] = candidate.related
    if candidate.ufrag is not None:
        document["usernameFragment"] = candidate.ufrag
    return document


def candidate_from_json(document: object) -> Candidate:
    """The inverse; only `candidate` and `usernameFragment` are read. JsonError for anything else."""
    if not isinstance(document, Mapping) or not isinstance(document.get("candidate"), str):
        raise JsonError("candidate: an object with the string `candidate` is wanted")
    try:
        candidate = parse_candidate(document["candidate"])
    except SdpError as error:
        raise JsonError(str(error)) from None
    ufrag = document.get("usernameFragment")
    if candidate.ufrag is None and isinstance(ufrag, str):
        return replace(candidate, ufrag=ufrag)
    return candidate


def description_to_json(description: Description) -> dict[str, Any]:
    return {
        "usernameFragment": description.credentials.ufrag,
        "password": description.credentials.password,
        "iceLite": description.lite,
        "iceOptions": sorted(description.options),
        "candidates": [candidate_to_json(candidate) for candidate in description.candidates],
        "endOfCandidates": description.end_of_candidates,
    }


def description_from_json(document: object) -> Description:
    """The inverse. JsonError names the part that is missing or wrong."""
    if not isinstance(document, Mapping):
        raise JsonError("description: an object is wanted")
    ufrag, password = document.get("usernameFragment"), document.get("password")
    if not isinstance(ufrag, str) or not isinstance(password, str):
        raise JsonError("description: usernameFragment and password are strings")
    options, candidates = document.get("iceOptions", []), document.get("candidates", [])
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise JsonError("description: iceOptions is a list of strings")
    if not isinstance(candidates, list) or len(candidates) > _MAX_CANDIDATES:
        raise JsonError(f"description: candidates is a list of {_MAX_CANDIDATES} at most")
    try:
        credentials = Credentials(ufrag, password)
    except ValueError as error:
        raise JsonError(f"description: {error}") from None
    return Description(
        credentials,
        tuple(candidate_from_json(candidate) for candidate in candidates),
        document.get("iceLite") is True,
        frozenset(options),
        document.get("endOfCandidates") is True,
    )
