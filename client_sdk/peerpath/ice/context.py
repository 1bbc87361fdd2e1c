"""Context: what the sessions of one agent share."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from peerpath.ice.local_candidates import LocalCandidates
from peerpath.ice.options import AgentOptions
from peerpath.ice.pacer import Turn
from peerpath.ice.role import Standing


@dataclass(frozen=True, slots=True)
class Context:
    options: AgentOptions
    standing: Standing
    candidates: LocalCandidates
    turn: Turn
    random: Random
