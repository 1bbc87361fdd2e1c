"""IceAgent: the sans-IO ICE agent (RFC 8445, full). Datagrams, candidates and time in, outputs out."""

from __future__ import annotations

from random import Random, SystemRandom

from stunwire import (
    DecodeError,
    ErrorCode,
    Integrity,
    Message,
    MessageClass,
    Method,
    TransportAddress,
    is_stun,
)

from peerpath.ice.candidate import COMPONENT, Candidate, CandidateType, LocalCandidate
from peerpath.ice.check_server import learn, receive_check
from peerpath.ice.connectivity_check import Improper, examine, form_error, form_request
from peerpath.ice.context import Context
from peerpath.ice.credentials import Credentials
from peerpath.ice.description import ICE2, RENOMINATION, TRICKLE, Description
from peerpath.ice.foundation import Foundations
from peerpath.ice.local_candidates import LocalCandidates
from peerpath.ice.options import AgentOptions
from peerpath.ice.outputs import (
    AgentState,
    CandidateRefused,
    DataReceived,
    NameToResolve,
    Output,
    PairSelected,
    Path,
    PathDoubted,
    Refusal,
    StateChanged,
    Transmit,
)
from peerpath.ice.pacer import Pacer, Turn
from peerpath.ice.pair import CandidatePair
from peerpath.ice.priority import MAX_LOCAL_PREFERENCE, candidate_priority
from peerpath.ice.role import Role, Standing
from peerpath.ice.session import IceSession, RemoteAgent
from peerpath.ice.sessions import Sessions


class NotConnected(Exception):
    """There is no path that the peer has agreed to: nothing may be sent."""


class IceAgent:
    """One data stream of one component.

    Every method takes `now`, seconds of a clock that never goes back, and returns what is to be done, in
    order. No datagram raises. Call `handle_timeout` at `next_deadline()`.

    The initiator is CONTROLLING (section 6.1.1). Agents of one process share a `pacer`. `random` is for
    simulations; transaction IDs are always the system's.
    """

    def __init__(
        self,
        role: Role,
        *,
        options: AgentOptions | None = None,
        pacer: Pacer | None = None,
        foundations: Foundations | None = None,
        random: Random | None = None,
    ) -> None:
        self.options = options or AgentOptions()
        self.state = AgentState.NEW
        self.candidates = LocalCandidates(foundations or Foundations())
        random = random or SystemRandom()
        self._context = Context(
            self.options,
            Standing(role, random),
            self.candidates,
            Turn(pacer or Pacer()),
            random,
        )
        self._sessions = Sessions(self._context)
        self._waiting_candidates: list[Candidate] = []
        self._path: CandidatePair | None = None
        self._announced: tuple[CandidatePair, bool, CandidateType] | None = None
        self._is_looking = False
        self._lost_at: float | None = None
        self._loss = ""
        self.is_punching = False
        """A pair may still come up that nobody has signaled, so nothing has failed yet."""
        self.is_climbing = False
        """Another relayed address may still come up, so nothing has failed yet."""

    @property
    def role(self) -> Role:
        return self._context.standing.role

    @property
    def credentials(self) -> Credentials:
        """Of the current session; new after `restart`."""
        return self._current.credentials

    @property
    def description(self) -> Description:
        """What to tell the peer: credentials and options, and the candidates known by now."""
        options = {ICE2, TRICKLE} | ({RENOMINATION} if self.options.renomination else set())
        signaled = [
            local.candidate for local in self.candidates if local.type is not CandidateType.PEER_REFLEXIVE
        ]
        return Description(
            self.credentials, tuple(signaled), False, frozenset(options), self.candidates.ended
        )

    @property
    def path(self) -> Path | None:
        """Where data goes now."""
        pair = self._path
        if pair is None or pair.valid_local is None:
            return None
        return Path(pair.valid_local, pair.remote, pair.is_nominated, pair.rtt)

    @property
    def consented_at(self) -> float | None:
        """When the peer last answered a check of the path in use; None without one, or without consent."""
        pair = self._path
        return None if pair is None or pair.consent is None else pair.consent.granted_at

    @property
    def pairs(self) -> list[CandidatePair]:
        """The check list of the current session, best first: for reports."""
        return list(self._current.check_list)

    # -- what signaling says ----------------------------------------------------------------------------

    def set_remote(self, description: Description, now: float) -> list[Output]:
        """The peer's description: the first one, or one that follows a restart on either side.

        One with other credentials than before means that the peer has restarted; unless this side did so
        already, it does now, and its own new `description` has to be sent (section 9).
        """
        if self.state is AgentState.CLOSED:
            return []
        if self._sessions.is_retired(description.credentials.ufrag):
            return []  # from before a restart
        outputs: list[Output] = []
        remote = self._current.remote
        if remote is not None and remote.credentials != description.credentials:
            outputs += self.restart(now)
        if self._current.remote is None:
            self._meet(description, now, outputs)
        for candidate in description.candidates:
            self._add_remote(candidate, now, outputs)
        if description.end_of_candidates:
            self._current.remote_ended = True
        return self._settle(outputs, now)

    def add_remote_candidate(self, candidate: Candidate, now: float) -> list[Output]:
        """A candidate that trickled in (RFC 8838 section 11). It may be ahead of the peer's description."""
        outputs: list[Output] = []
        self._add_remote(candidate, now, outputs)
        return self._settle(outputs, now)

    def end_of_remote_candidates(self, now: float) -> list[Output]:
        """RFC 8838 section 14. What is still under way when a restart begins is about the session before."""
        if self._current.remote is not None or not self._sessions.has_restarted:
            self._current.remote_ended = True
        return self._settle([], now)

    def doubt(self, now: float) -> list[Output]:
        """Nothing has come back on the path, says who uses it, long before unanswered consent checks do.

        Every pair is checked anew, and an answer ends the doubt: what both sides know of each other may be
        enough for another path, and needs no signaling. Pairs that stood by may be as dead as the one in use,
        whose relay or interface they share.
        """
        if self._path is not None and not self._path.is_doubtful:
            for pair in self._current.check_list:
                if pair.consent is not None:
                    pair.consent.doubt()
                    self._current.check_list.trigger(pair)
        return self._settle([], now)

    def restart(self, now: float) -> list[Output]:
        """New credentials (section 9): send the new `description`. Until then data keeps the old path."""
        if self.state is AgentState.CLOSED:
            return []
        self._sessions.restart()
        self._waiting_candidates = []
        self._lost_at = None
        return self._settle([], now)

    # -- what gathering finds ---------------------------------------------------------------------------

    def add_local_candidate(self, candidate: LocalCandidate, now: float) -> list[Output]:
        """A candidate of this side; also after the check list has begun (RFC 8838 section 10)."""
        if self.options.relay_only and candidate.type is not CandidateType.RELAYED:
            return [CandidateRefused(candidate.candidate, Refusal.POLICY)]
        outputs: list[Output] = []
        if self.candidates.add(candidate):
            self._current.add_local(candidate, now, outputs)
        return self._settle(outputs, now)

    def remove_base(self, base: TransportAddress, reason: str, now: float) -> list[Output]:
        """The socket or relay at `base` is gone; `reason` is for the report."""
        self.candidates.remove_base(base)
        for session in self._sessions.all:
            session.remove_base(base, reason)
        return self._settle([], now)

    def end_of_local_candidates(self, now: float) -> list[Output]:
        """Gathering is complete. A candidate may be added all the same when an interface comes up."""
        self.candidates.ended = True
        return self._settle([], now)

    def connection_lost(
        self, base: TransportAddress, remote: TransportAddress, reason: str, now: float
    ) -> list[Output]:
        """A TCP connection from `base` to `remote` could not be opened, or has ended."""
        for session in self._sessions.all:
            pair = session.check_list.get((base, remote))
            if pair is not None:
                session.give_up(pair, reason)
        return self._settle([], now)

    def refuse(self, base: TransportAddress, remote_host: str, reason: str, now: float) -> list[Output]:
        """The relay at `base` will not carry anything to this host."""
        for session in self._sessions.all:
            session.refuse(base, remote_host, reason)
        return self._settle([], now)

    # -- the network ------------------------------------------------------------------------------------

    def receive(
        self, data: bytes, local: TransportAddress, remote: TransportAddress, now: float
    ) -> list[Output]:
        """One datagram that came to the base `local` from `remote`."""
        if self.state is AgentState.CLOSED:
            return []
        if self.options.relay_only and self.candidates.sender(local) is None:
            # One of our own sockets, which the peer may have guessed: any answer would say where we are.
            return []
        if not is_stun(data):
            if any((local, remote) in session.proven for session in self._sessions.all):
                return [DataReceived(data, local, remote)]
            return []
        if not self.options.addresses.permits(*remote):
            return []
        outputs: list[Output] = []
        try:
            message = Message.decode(data)
        except DecodeError as error:
            header = error.header
            if header is None or header.message_class is not MessageClass.REQUEST:
                return []
            return [Transmit(form_error(header, ErrorCode.BAD_REQUEST), local, remote)]
        if message.method == Method.BINDING:
            if message.message_class is MessageClass.REQUEST:
                self._receive_request(message, local, remote, now, outputs)
            elif message.message_class is not MessageClass.INDICATION:
                self._sessions.receive_response(message, local, remote, now, outputs)
        return self._settle(outputs, now)

    def send(self, data: bytes, now: float) -> list[Output]:
        """Data for the peer, on the path in use; NotConnected when there is none."""
        pair = self._path
        if pair is None or not pair.is_valid or self.state is AgentState.CLOSED:
            raise NotConnected(f"no path to the peer ({self.state.value})")
        if pair.consent is not None and now >= pair.consent.expires_at:
            raise NotConnected("the peer's consent has expired")
        return [Transmit(data, pair.local.base, pair.remote.address)]

    # -- punching through hard NATs ---------------------------------------------------------------------

    def probe(self) -> bytes | None:
        """A connectivity check of no pair, for an address that may or may not exist.

        Whoever receives it does what any check makes it do; its answer is not waited for, but the check that
        it triggers is. None before the peer's credentials are known, and after the end.
        """
        remote = self._current.remote
        if remote is None or self.state is AgentState.CLOSED:
            return None
        standing = self._context.standing
        priority = candidate_priority(CandidateType.PEER_REFLEXIVE, MAX_LOCAL_PREFERENCE)
        request, _ = form_request(
            self.credentials, remote.credentials, standing.role, standing.tie_breaker, priority
        )
        return request

    def is_check(self, data: bytes) -> bool:
        """Whether this is a check of the peer's for the current session, and no stranger's."""
        try:
            message = Message.decode(data)
        except DecodeError:
            return False
        if message.method != Method.BINDING or message.message_class is not MessageClass.REQUEST:
            return False
        request = examine(message)
        if isinstance(request, Improper) or request.local_ufrag != self.credentials.ufrag:
            return False
        return message.verify(self.credentials.key, Integrity.SHA1)

    def adopt(self, local: LocalCandidate) -> None:
        """A socket at which a check has arrived: from now on pairs may have it as their base.

        It is paired with nobody but with whom it hears from: that is the one way that it was made for.
        """
        self.candidates.add(local)

    # -- time -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `handle_timeout` must be called, unless something else happens first."""
        if self.state is AgentState.CLOSED:
            return None
        moments = [self._sessions.next_deadline()]
        if self.state is AgentState.DISCONNECTED and self._lost_at is not None:
            moments.append(self._lost_at + self.options.recovery)
        return min((moment for moment in moments if moment is not None), default=None)

    def handle_timeout(self, now: float) -> list[Output]:
        """Checks, repetitions, consent and whatever else is due by `now`."""
        if self.state is AgentState.CLOSED:
            return []
        outputs: list[Output] = []
        self._sessions.handle_timeout(now, outputs)
        return self._settle(outputs, now)

    def close(self, now: float) -> list[Output]:
        """Ends the session; nothing is sent or accepted afterwards."""
        self._path = None
        return self._enter(AgentState.CLOSED, "closed by this side")

    # -- steps ------------------------------------------------------------------------------------------

    @property
    def _current(self) -> IceSession:
        return self._sessions.current

    def _meet(self, description: Description, now: float, outputs: list[Output]) -> None:
        """From here on there is somebody to check with."""
        session = self._current
        session.remote = RemoteAgent(description.credentials, description.lite, description.options)
        if description.lite and self.role is Role.CONTROLLED:
            # Section 6.1.1: of a full and a lite agent the full one controls.
            self._context.standing.switch()
            session.role_changed(outputs)
        waiting, self._waiting_candidates = self._waiting_candidates, []
        for candidate in waiting:
            self._add_remote(candidate, now, outputs)
        early, session.early_checks = session.early_checks, []
        for check in early:
            learn(session, check.request, check.local, check.remote, now, outputs)

    def _add_remote(self, candidate: Candidate, now: float, outputs: list[Output]) -> None:
        session = self._current
        refusal = self._objection(candidate)
        if refusal is not None:
            outputs.append(CandidateRefused(candidate, refusal))
        elif session.remote is None:
            self._waiting_candidates.append(candidate)
        elif candidate.is_name:
            session.names += 1
            outputs.append(NameToResolve(candidate))
        else:
            session.add_remote(candidate, now, outputs)

    def _objection(self, candidate: Candidate) -> Refusal | None:
        session = self._current
        told = len(session.remote_candidates) - session.learned.total()
        known = told + session.names + len(self._waiting_candidates)
        if known >= self.options.max_remote_candidates:
            return Refusal.TOO_MANY
        if candidate.component != COMPONENT or not self._carries(candidate):
            return Refusal.UNSUPPORTED
        if session.remote is not None and candidate.ufrag not in (None, session.remote.credentials.ufrag):
            return Refusal.OTHER_SESSION
        if candidate.is_name:
            # Resolving is a multicast query from an address that relay_only keeps from everybody.
            return Refusal.POLICY if self.options.relay_only else None
        if not self.options.addresses.permits(*candidate.address):
            return Refusal.FORBIDDEN_ADDRESS
        return None

    def _carries(self, candidate: Candidate) -> bool:
        if candidate.is_tcp:
            return self.options.tcp and candidate.tcp_type is not None
        return candidate.transport.lower() == "udp"

    def _receive_request(
        self,
        message: Message,
        local: TransportAddress,
        remote: TransportAddress,
        now: float,
        outputs: list[Output],
    ) -> None:
        request = examine(message)
        if isinstance(request, Improper):
            outputs.append(Transmit(form_error(message, request.code), local, remote))
            return
        session = self._sessions.with_ufrag(request.local_ufrag)
        if session is None:
            # RFC 8489 section 9.1.3: the user name is nobody's here
            outputs.append(Transmit(form_error(message, ErrorCode.UNAUTHENTICATED), local, remote))
            return
        receive_check(session, request, local, remote, now, outputs)

    # -- what came of it --------------------------------------------------------------------------------

    def _settle(self, outputs: list[Output], now: float) -> list[Output]:
        """After every change: start what can start, then say what has become different."""
        if self.state is AgentState.CLOSED:
            return outputs
        for session in self._sessions.all:
            session.work(now, outputs)
        self._choose_path(now, outputs)
        return outputs + self._judge(now)

    def _choose_path(self, now: float, outputs: list[Output]) -> None:
        before, self._path = self._path, self._sessions.choose_path(now)
        if self._path is None:
            if before is not None and self._lost_at is None:
                self._lose(before, now, outputs)
            return
        self._lost_at = None
        self._look_for_another(now, outputs)
        announcement = (self._path, self._path.is_nominated, self._path.remote.type)
        if announcement != self._announced:
            self._announced = announcement
            path = self.path
            assert path is not None
            outputs.append(PairSelected(path))

    def _look_for_another(self, now: float, outputs: list[Output]) -> None:
        """The peer has not answered on the path lately: time to find another, before consent runs out."""
        assert self._path is not None
        if self._path.is_doubtful and not self._is_looking:
            outputs.append(PathDoubted())
            self._current.reopen(now, outputs)
            self._current.work(now, outputs)
        self._is_looking = self._path.is_doubtful

    def _lose(self, pair: CandidatePair, now: float, outputs: list[Output]) -> None:
        """The last path is gone. Perhaps another one works now, so everything is tried again for a while."""
        self._lost_at, self._loss, self._announced = now, pair.failure, None
        self._current.reopen(now, outputs)
        self._current.work(now, outputs)

    def _judge(self, now: float) -> list[Output]:
        if self._path is not None:
            nominated = self._path.is_nominated and self._current.path is self._path
            return self._enter(AgentState.COMPLETED if nominated else AgentState.CONNECTED)
        if self._lost_at is not None:
            if now >= self._lost_at + self.options.recovery:
                return self._enter(AgentState.FAILED, self._loss or "the path was lost")
            return self._enter(AgentState.DISCONNECTED, self._loss)
        if self._current.remote is None:
            return self._enter(AgentState.NEW)
        if self._current.has_failed and not (self.is_punching or self.is_climbing):
            return self._enter(AgentState.FAILED, "no pair of candidates works")
        return self._enter(AgentState.CHECKING)

    def _enter(self, state: AgentState, reason: str = "") -> list[Output]:
        if state is self.state:
            return []
        self.state = state
        return [StateChanged(state, reason)]
