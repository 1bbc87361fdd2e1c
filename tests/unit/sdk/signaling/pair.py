"""A dialer and a listener who know each other's keys, and their exchange so far."""

from peerpath.identity import Identity
from peerpath.signaling import Answering, Dialing, ReplayGuard

NOW = 1_800_000_000.0


class Pair:
    """Alice dials Bob."""

    def __init__(self) -> None:
        self.alice = Identity.generate()
        self.bob = Identity.generate()
        self.guard = ReplayGuard()
        self.dialing = Dialing(self.alice, self.bob.public_key, now=NOW)
        self.offer = self.dialing.seal("offer", {"hello": "bob"})

    def answering(self, data=None, *, identity=None, guard=None, now=NOW) -> Answering:
        return Answering.open_offer(
            self.bob if identity is None else identity,
            self.offer if data is None else data,
            self.guard if guard is None else guard,
            now=now,
        )

    def established(self) -> Answering:
        """After one message each way: both sides have the session's keys."""
        answering = self.answering()
        self.dialing.open(answering.seal("answer", {}))
        answering.open(self.dialing.seal("note", {}))
        return answering
