"""Who may call: asked before any address is revealed and before any packet is sent towards the caller."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import StrEnum

from peerpath.identity import PublicKey


class Decision(StrEnum):
    """What a peer gets."""

    FULL = "full"
    RELAY_ONLY = "relay_only"
    """A connection, but no address of this machine: only relayed candidates are used."""
    REFUSE = "refuse"
    """A refusal, and nothing else."""


Authorize = Callable[[PublicKey], Decision | Awaitable[Decision]]


def refuse_everybody(_: PublicKey) -> Decision:
    """The default: nobody is known, so nobody gets in."""
    return Decision.REFUSE


class Contacts:
    """A table of decisions, for applications that have no policy of their own.

        Traversal(identity, authorize=Contacts([alice, bob], {carol: Decision.RELAY_ONLY}))

    `others` is for keys that are not in it.
    """

    def __init__(
        self,
        known: Iterable[PublicKey] = (),
        decisions: Mapping[PublicKey, Decision] | None = None,
        *,
        others: Decision = Decision.REFUSE,
    ) -> None:
        self._decisions = dict.fromkeys(known, Decision.FULL) | dict(decisions or {})
        self._others = others

    def __call__(self, peer: PublicKey) -> Decision:
        return self._decisions.get(peer, self._others)

    def set(self, peer: PublicKey, decision: Decision) -> None:
        """Counts from the peer's next attempt on."""
        self._decisions[peer] = decision


async def ask(authorize: Authorize, peer: PublicKey) -> Decision:
    """The application's answer; TypeError for anything but a Decision."""
    answer = authorize(peer)
    if inspect.isawaitable(answer):
        answer = await answer
    if not isinstance(answer, Decision):
        raise TypeError(f"authorize must return a Decision, not {answer!r}")
    return answer
