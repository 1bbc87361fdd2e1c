"""Sessions: the session of an agent, and after a restart the one before it (RFC 8445 section 9)."""

from __future__ import annotations

from stunwire import Message, TransportAddress

from peerpath.ice.context import Context
from peerpath.ice.credentials import Credentials
from peerpath.ice.outputs import Output
from peerpath.ice.pair import CandidatePair
from peerpath.ice.session import IceSession
from peerpath.ice.upkeep import Upkeep


class Sessions:
    """The one before carries data until the new one has a path, and lingers for packets under way."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._previous: IceSession | None = None
        self._forget_previous_at: float | None = None
        self._upkeep: dict[IceSession, Upkeep] = {}
        self._retired: set[str] = set()
        self.current = self._begin()
        self.all: tuple[IceSession, ...] = (self.current,)
        """The current one first."""

    def restart(self) -> None:
        """A new session begins, with credentials of its own."""
        if self.current.remote is not None:
            self._retired.add(self.current.remote.credentials.ufrag)
        if self.current.path is not None:
            self._forget_previous()
            self._previous = self.current
        else:
            del self._upkeep[self.current]
        self.current = self._begin()
        self._list()

    @property
    def has_restarted(self) -> bool:
        """Whether there was a session with the peer before this one."""
        return bool(self._retired)

    def is_retired(self, ufrag: str) -> bool:
        """Whether the peer had it in a session that has ended with a restart."""
        return ufrag in self._retired

    def choose_path(self, now: float) -> CandidatePair | None:
        """The pair that data goes by; the session before is forgotten a while after the new one has one."""
        path = self.current.path
        if path is not None and self._previous is not None and self._forget_previous_at is None:
            self._forget_previous_at = now + self._context.options.linger
        return path or (None if self._previous is None else self._previous.path)

    def with_ufrag(self, ufrag: str) -> IceSession | None:
        """The session in which this side has it."""
        return next((session for session in self.all if session.credentials.ufrag == ufrag), None)

    def receive_response(
        self,
        message: Message,
        local: TransportAddress,
        remote: TransportAddress,
        now: float,
        outputs: list[Output],
    ) -> None:
        """To a check of one of them; an answer that nobody waits for is nothing."""
        for session, upkeep in self._upkeep.items():
            if session.awaits(message.transaction_id):
                session.receive_response(message, local, remote, now, outputs)
                return
            if upkeep.receive_response(message, local, remote, now, outputs):
                return

    def next_deadline(self) -> float | None:
        moments: list[float | None] = [self._forget_previous_at]
        for session, upkeep in self._upkeep.items():
            moments += (session.next_deadline(), upkeep.next_deadline())
        return min((moment for moment in moments if moment is not None), default=None)

    def handle_timeout(self, now: float, outputs: list[Output]) -> None:
        """Checks, repetitions and consent."""
        if self._forget_previous_at is not None and now >= self._forget_previous_at:
            self._forget_previous()
            self._list()
        for session, upkeep in self._upkeep.items():
            session.handle_timeout(now, outputs)
            upkeep.handle_timeout(now, outputs)

    def _begin(self) -> IceSession:
        session = IceSession(self._context, Credentials.generate(self._context.random))
        self._upkeep[session] = Upkeep(session)
        return session

    def _list(self) -> None:
        self.all = (self.current,) if self._previous is None else (self.current, self._previous)

    def _forget_previous(self) -> None:
        if self._previous is not None:
            del self._upkeep[self._previous]
        self._previous = self._forget_previous_at = None
