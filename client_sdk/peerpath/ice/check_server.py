"""Answering the peer's checks, and learning from them (RFC 8445 section 7.3)."""

from __future__ import annotations

from dataclasses import replace

from stunwire import ErrorCode, Integrity, TransportAddress

from peerpath.ice.candidate import Candidate, CandidateType, LocalCandidate, TcpType
from peerpath.ice.connectivity_check import CheckRequest, form_error, form_success
from peerpath.ice.outputs import Output, Transmit
from peerpath.ice.pair import CandidatePair, PairState
from peerpath.ice.role import Resolution
from peerpath.ice.session import EarlyCheck, IceSession

_MAX_EARLY_CHECKS = 50


def receive_check(
    session: IceSession,
    request: CheckRequest,
    local: TransportAddress,
    remote: TransportAddress,
    now: float,
    outputs: list[Output],
) -> None:
    """A Binding request for the ufrag of `session`, received at the base `local` from `remote`."""
    message, credentials = request.message, session.credentials

    def answer(data: bytes) -> None:
        outputs.append(Transmit(data, local, remote))

    # RFC 8489 section 9.1.3
    if not message.verify(credentials.key, Integrity.SHA1):
        answer(form_error(message, ErrorCode.UNAUTHENTICATED))
        return
    if message.unknown_required:
        answer(form_error(message, ErrorCode.UNKNOWN_ATTRIBUTE, credentials))
        return
    # Section 7.3.1.1
    standing = session.context.standing
    if request.claimed is not None:
        resolution = standing.resolve(request.claimed, request.tie_breaker)
        if resolution is Resolution.REFUSE:
            answer(form_error(message, ErrorCode.ROLE_CONFLICT, credentials))
            return
        if resolution is Resolution.SWITCH:
            standing.switch()
            session.role_changed(outputs)
    # Section 7.3.1.2
    answer(form_success(message, remote, credentials))
    session.proven.add((local, remote))
    if session.remote is None:
        # Answered, but nothing can be checked before the peer's password is known.
        if len(session.early_checks) < _MAX_EARLY_CHECKS:
            session.early_checks.append(EarlyCheck(request, local, remote))
        return
    learn(session, request, local, remote, now, outputs)


def learn(
    session: IceSession,
    request: CheckRequest,
    local: TransportAddress,
    remote: TransportAddress,
    now: float,
    outputs: list[Output],
) -> None:
    """What an answered check tells: a candidate, a pair worth checking, a nomination (7.3.1.3 to 7.3.1.5)."""
    assert session.remote is not None
    if request.remote_ufrag != session.remote.credentials.ufrag:
        return  # from before a restart of the peer
    sender = session.context.candidates.sender(local)
    if sender is None:
        return
    pair = _pair_of(session, request, sender, remote, now, outputs)
    if pair is None:
        return
    pair.checks_received += 1
    if not session.remote.lite:
        _trigger(session, pair)
    if request.nomination is not None and not session.context.standing.is_controlling:
        _note_nomination(session, pair, request.nomination)


def _pair_of(
    session: IceSession,
    request: CheckRequest,
    sender: LocalCandidate,
    remote: TransportAddress,
    now: float,
    outputs: list[Output],
) -> CandidatePair | None:
    pair = session.check_list.get((sender.base, remote))
    if pair is not None:
        return pair
    if session.check_list.is_spent and request.nomination is None:
        return None
    candidate = session.remote_candidates.get(remote)
    if candidate is None:
        candidate = _peer_reflexive(session, request, sender, remote)
        if candidate is None:
            return None
        session.remote_candidates[remote] = candidate
    elif candidate.is_tcp and sender.candidate.tcp_type is TcpType.PASSIVE:
        # A relay connects from the address at which it can be connected to (RFC 6062 section 5.2), so its
        # active candidate, which has no port of its own, turns out to be where the passive one is.
        candidate = replace(candidate, extensions=(("tcptype", TcpType.ACTIVE.value),))
    # Unlike one from signaling, a check proves that the pair is worth it, whatever has been selected.
    return session.pair(sender, candidate, now, outputs, checked_by_peer=True)


def _peer_reflexive(
    session: IceSession, request: CheckRequest, sender: LocalCandidate, remote: TransportAddress
) -> Candidate | None:
    """Section 7.3.1.3. The number of them is limited: a peer can come from as many ports as it likes.

    Two NATs that map by destination and filter nothing make each check look as if it came from somewhere new,
    without end. What is learned at one base must not use up what is needed at another.
    """
    if session.learned[sender.base] >= session.context.options.max_peer_reflexive:
        return None
    session.learned[sender.base] += 1
    # The foundation has to differ from all others; signaled ones hold ice-chars only.
    foundation = f"prflx-{session.learned.total()}"
    ours = sender.candidate
    extensions = () if ours.tcp_type is None else (("tcptype", ours.tcp_type.opposite.value),)
    return Candidate(
        CandidateType.PEER_REFLEXIVE,
        remote,
        request.priority,
        foundation,
        transport=ours.transport,
        extensions=extensions,
    )


def _trigger(session: IceSession, pair: CandidatePair) -> None:
    """Section 7.3.1.4."""
    if pair.state is PairState.SUCCEEDED:
        return
    if pair.state is PairState.IN_PROGRESS:
        session.cancel_checks(pair)
    pair.enter(PairState.WAITING)
    session.check_list.trigger(pair)


def _note_nomination(session: IceSession, pair: CandidatePair, nomination: int) -> None:
    """Section 7.3.1.5: at once if the pair is valid, else when its check has succeeded."""
    if pair.is_valid:
        session.nominated(pair, nomination)
    else:
        pair.to_be_nominated = nomination
