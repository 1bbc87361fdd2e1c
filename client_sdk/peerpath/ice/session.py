"""IceSession: the checks between two pairs of credentials (RFC 8445 sections 6, 7.2 and 8).

A restart begins a new one. The peer's checks are in `check_server`, the upkeep of valid pairs in `upkeep`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from stunwire import (
    ERROR_CODE,
    XOR_MAPPED_ADDRESS,
    ClientTransaction,
    ErrorCode,
    Integrity,
    Message,
    MessageClass,
    TransactionState,
    TransportAddress,
)

from peerpath.ice.address_policy import is_link_local
from peerpath.ice.candidate import Candidate, CandidateType, LocalCandidate, TcpType
from peerpath.ice.check_list import CheckList
from peerpath.ice.connectivity_check import Check, CheckRequest, form_request
from peerpath.ice.consent import Consent
from peerpath.ice.context import Context
from peerpath.ice.credentials import Credentials
from peerpath.ice.description import RENOMINATION
from peerpath.ice.nomination import choose
from peerpath.ice.outputs import Output, PermissionNeeded, RoleChanged, Transmit
from peerpath.ice.pacer import check_rto
from peerpath.ice.pair import CandidatePair, PairState, PathKey
from peerpath.ice.priority import peer_reflexive_priority

# A check that was cancelled may still be answered; more of them than this to one pair help nobody.
_CANCELLED_PER_PAIR = 4


@dataclass(frozen=True, slots=True)
class RemoteAgent:
    """The peer, by its description."""

    credentials: Credentials
    lite: bool
    options: frozenset[str]


@dataclass(frozen=True, slots=True)
class EarlyCheck:
    """A check that came before the peer's credentials (RFC 8445 section 7.3, last paragraphs)."""

    request: CheckRequest
    local: TransportAddress
    remote: TransportAddress


class IceSession:
    """Methods append what is to be done to `outputs`, which belongs to the caller."""

    def __init__(self, context: Context, credentials: Credentials) -> None:
        self.context = context
        self.credentials = credentials
        self.remote: RemoteAgent | None = None
        self.check_list = CheckList(context.options.max_pairs)
        self.remote_candidates: dict[TransportAddress, Candidate] = {}
        self.learned: Counter[TransportAddress] = Counter()
        """How many of them were learned from checks, by the base that the checks came to."""
        self.names = 0
        """How many candidates came with a name that had to be resolved."""
        self.remote_ended = False
        self.early_checks: list[EarlyCheck] = []
        self.proven: set[PathKey] = set()
        """Paths by which the peer has authenticated itself: data may come there."""
        self.selected: CandidatePair | None = None
        """The pair that was nominated last."""
        self._checks: dict[bytes, Check] = {}
        self._permitted: set[PathKey] = set()
        self._nominations = 0
        self._look_again_at: float | None = None

    # -- candidates -------------------------------------------------------------------------------------

    def add_local(self, local: LocalCandidate, now: float, outputs: list[Output]) -> None:
        """Pairs it with every remote candidate (section 6.1.2.2)."""
        sender = self.context.candidates.sender(local.base)
        if sender is not local and sender is not None and not sender.is_reflexive:
            return  # its base is in the pairs already (section 6.1.2.4)
        for remote in list(self.remote_candidates.values()):
            self.pair(local, remote, now, outputs)

    def remove_base(self, base: TransportAddress, reason: str) -> None:
        """A socket or a relay is gone, and with it what it was part of."""
        for pair in self.check_list.remove_base(base):
            self._drop(pair, reason)
        self.proven = {key for key in self.proven if key[0] != base}

    def add_remote(self, candidate: Candidate, now: float, outputs: list[Output]) -> None:
        """A candidate from signaling. It corrects a peer-reflexive one (section 7.3.1.3)."""
        known = self.remote_candidates.get(candidate.address)
        if known is not None and known.type is not CandidateType.PEER_REFLEXIVE:
            return
        self.remote_candidates[candidate.address] = candidate
        if known is not None:
            for pair in self.check_list:
                if pair.remote is known:
                    pair.remote = candidate
                    pair.compute_priority(self.context.standing.is_controlling)
            self.check_list.sort()
        for local in self._senders():
            self.pair(local, candidate, now, outputs)

    def pair(
        self,
        local: LocalCandidate,
        remote: Candidate,
        now: float,
        outputs: list[Output],
        *,
        checked_by_peer: bool = False,
    ) -> CandidatePair | None:
        """Forms a pair if the two fit and the list has room (sections 6.1.2.2 to 6.1.2.5).

        After a nomination only those that might replace it, and those that the peer has checked.
        """
        if not local.candidate.fits(remote):
            return None
        if local.candidate.tcp_type is TcpType.PASSIVE and not checked_by_peer:
            return None  # RFC 6544 section 6.2: it is the other side that connects
        if is_link_local(local.base.host) != is_link_local(remote.address.host):
            return None
        pair = CandidatePair(local, remote, controlling=self.context.standing.is_controlling, created_at=now)
        if not checked_by_peer and not self._is_worth_checking(pair):
            return None
        added = self.check_list.add(pair)
        if added is not None and local.type is CandidateType.RELAYED and added.key not in self._permitted:
            self._permitted.add(added.key)
            outputs.append(PermissionNeeded(local.base, remote.address))
        return added

    def _senders(self) -> list[LocalCandidate]:
        candidates = self.context.candidates
        return [local for local in candidates if candidates.sender(local.base) is local]

    # -- checks -----------------------------------------------------------------------------------------

    def work(self, now: float, outputs: list[Output]) -> None:
        """Nominates if it is time to, then sends the checks whose slots have come."""
        self._nominate(now)
        turn = self.context.turn
        while self.remote is not None and self.check_list.has_work and turn.take(now):
            pair = self.check_list.next_check()
            if pair is None:
                return
            self._start_check(pair, self.remote, now, outputs)

    def _start_check(
        self, pair: CandidatePair, remote: RemoteAgent, now: float, outputs: list[Output]
    ) -> None:
        """Section 7.2.4."""
        context = self.context
        standing = context.standing
        nomination = self._pending_nomination(pair)
        request, transaction_id = form_request(
            self.credentials,
            remote.credentials,
            standing.role,
            standing.tie_breaker,
            peer_reflexive_priority(pair.local),
            nomination,
            numbered=self.may_renominate,
        )
        if pair.state is not PairState.SUCCEEDED:
            pair.enter(PairState.IN_PROGRESS)
        rto = check_rto(
            context.turn.interval,
            self.check_list.count(PairState.WAITING),
            self.check_list.count(PairState.IN_PROGRESS),
        )
        # RFC 6544 section 7.1: over a connection nothing is sent twice.
        transaction = ClientTransaction(
            request, transaction_id, now, rto=rto, reliable=pair.local.candidate.is_tcp
        )
        self._checks[transaction_id] = Check(pair, transaction, standing.role, nomination)
        if pair.first_check_at is None:
            pair.first_check_at = now
        self._transmit(pair, transaction, now, outputs)

    def _transmit(
        self, pair: CandidatePair, transaction: ClientTransaction, now: float, outputs: list[Output]
    ) -> None:
        data = transaction.poll_transmit(now)
        if data is not None:
            pair.checks_sent += 1
            outputs.append(Transmit(data, pair.local.base, pair.remote.address))

    def cancel_checks(self, pair: CandidatePair) -> None:
        """Stops repeating the checks of a pair; answers still count (section 7.3.1.4)."""
        cancelled = []
        for transaction_id, check in self._checks.items():
            if check.pair is pair:
                check.cancelled = True
                cancelled.append(transaction_id)
        for transaction_id in cancelled[:-_CANCELLED_PER_PAIR]:
            del self._checks[transaction_id]

    def awaits(self, transaction_id: bytes) -> bool:
        """Whether a response with this ID may be an answer to a check of this session."""
        return transaction_id in self._checks

    def receive_response(
        self,
        message: Message,
        local: TransportAddress,
        remote: TransportAddress,
        now: float,
        outputs: list[Output],
    ) -> None:
        """An answer to a check (section 7.2.5)."""
        check = self._checks[message.transaction_id]
        assert self.remote is not None
        # RFC 8489 section 9.1.4: what does not prove itself was never received.
        if not message.verify(self.remote.credentials.key, Integrity.SHA1):
            return
        del self._checks[message.transaction_id]
        check.transaction.complete(now)
        pair = check.pair
        if self.check_list.get(pair.key) is not pair:
            return  # it was dropped meanwhile
        mapped, error = message.get(XOR_MAPPED_ADDRESS), message.get(ERROR_CODE)
        if error is not None and error.code == ErrorCode.ROLE_CONFLICT:
            # Whichever way it came: the peer has learned nothing from this check, so it is worth another one.
            self._conflicting(check, outputs)
        elif (local, remote) != pair.key:
            # Section 7.2.5.2.1: the answer must come from where the check went, to where it left.
            self.give_up(pair, "the answer came by another way than the check (non-symmetric addresses)")
        elif message.message_class is MessageClass.ERROR_RESPONSE:
            reason = "an error without a code" if error is None else f"{error.code} {error.reason}".rstrip()
            self.give_up(pair, f"the peer answered {reason}")
        elif message.unknown_required or mapped is None:
            self.give_up(pair, "the answer could not be understood")
        else:
            self.proven.add(pair.key)
            self._succeeded(check, mapped, now)

    def _conflicting(self, check: Check, outputs: list[Output]) -> None:
        """Section 7.2.5.1: we switch, unless another answer had us do so already, and check anew."""
        pair = check.pair
        if self.context.standing.yield_role(check.role):
            self.role_changed(outputs)
        if pair.state is not PairState.SUCCEEDED:
            pair.enter(PairState.WAITING)
        self.check_list.trigger(pair)

    def _succeeded(self, check: Check, mapped: TransportAddress, now: float) -> None:
        """Section 7.2.5.3."""
        pair = check.pair
        first = not pair.is_valid
        # Sections 7.2.5.3.1 and 7.2.5.3.2: the valid pair has the candidate that the peer saw.
        pair.valid_local = self.context.candidates.seen_as(pair.local, mapped)
        pair.compute_priority(self.context.standing.is_controlling)
        rtt = check.transaction.rtt
        # The first check over TCP waited for the connection as well: a later one tells more.
        if pair.rtt is None or (pair.local.candidate.is_tcp and rtt is not None and rtt < pair.rtt):
            pair.rtt = rtt
        if first:
            pair.valid_at, pair.failure = now, ""
        if self.context.options.consent:
            if pair.consent is None:
                pair.consent = Consent(now, self.context.random)
            pair.consent.granted(now)
        # Section 7.2.5.3.3
        pair.enter(PairState.SUCCEEDED)
        self.check_list.sort()
        self.check_list.unfreeze(pair.foundation)
        # Section 7.2.5.3.4, or 7.3.1.5 if the peer nominated it while the check was under way.
        nomination = check.nomination
        if nomination is None:
            if self._pending_nomination(pair) is not None:
                return  # a late answer to an earlier check; the one that nominates is still to be answered
            nomination = pair.to_be_nominated
        self.cancel_checks(pair)
        self.check_list.untrigger(pair)
        if nomination is not None:
            self.nominated(pair, nomination)

    def give_up(self, pair: CandidatePair, reason: str) -> None:
        """The pair does not work, or no longer; `reason` is for the report."""
        self.check_list.untrigger(pair)
        self.cancel_checks(pair)
        pair.invalidate(reason)
        if pair is self.selected:
            self.selected = None

    def _drop(self, pair: CandidatePair, reason: str) -> None:
        """It is on the list no more."""
        self.cancel_checks(pair)
        pair.invalidate(reason)
        if pair is self.selected:
            self.selected = None

    def refuse(self, base: TransportAddress, remote_host: str, reason: str) -> None:
        """The relay at `base` does not carry anything to this host, so its pairs have failed."""
        for pair in list(self.check_list):
            if pair.local.base == base and pair.remote.address.host == remote_host:
                self.give_up(pair, reason)

    # -- nomination -------------------------------------------------------------------------------------

    @property
    def may_renominate(self) -> bool:
        """Both agents agreed that a nomination may be followed by a better one."""
        offered = self.context.options.renomination
        return offered and self.remote is not None and RENOMINATION in self.remote.options

    def _nominate(self, now: float) -> None:
        """Section 8.1.1, controlling agents only: the chosen pair is checked again, with USE-CANDIDATE."""
        self._look_again_at = None
        if not self.context.standing.is_controlling or self.remote is None:
            return
        if any(pair.to_be_nominated is not None for pair in self.check_list):
            return  # one at a time
        choice = choose(
            self.check_list,
            self.selected,
            self.context.options,
            may_renominate=self.may_renominate,
            more_to_come=not (self.remote_ended and self.context.candidates.ended),
            now=now,
        )
        self._look_again_at = choice.look_again_at
        if choice.pair is not None:
            self._nominations += 1
            choice.pair.to_be_nominated = self._nominations
            self.cancel_checks(choice.pair)
            self.check_list.trigger(choice.pair, urgent=True)

    def _pending_nomination(self, pair: CandidatePair) -> int | None:
        return pair.to_be_nominated if self.context.standing.is_controlling else None

    def nominated(self, pair: CandidatePair, nomination: int) -> None:
        """Sections 7.2.5.3.4 and 7.3.1.5: the nominated flag, on a valid pair."""
        pair.nomination, pair.to_be_nominated = nomination, None
        best = max((pair for pair in self.check_list if pair.is_nominated), key=_nominated_rank)
        if best is self.selected:
            return
        self.selected = best
        # Section 8.1.2: nothing else is checked any more, but for what may still become better: a controlling
        # agent of RFC 5245 nominates early, and the highest priority counts.
        for dropped in self.check_list.conclude(self._is_worth_checking):
            self.cancel_checks(dropped)
            dropped.failure = "not needed any more"
        others = [other for other in self.check_list if other.is_valid and other is not best]
        for superfluous in others[self.context.options.backups :]:
            self.check_list.remove(superfluous)
            self.cancel_checks(superfluous)

    def _is_worth_checking(self, pair: CandidatePair) -> bool:
        if self.selected is None or not self.selected.is_valid or self.selected.is_doubtful:
            return True
        may_change = self.may_renominate or not self.context.standing.is_controlling
        return may_change and pair.priority > self.selected.priority

    def role_changed(self, outputs: list[Output]) -> None:
        """Priorities depend on the role (section 7.2.5.1); what the old role was up to is void."""
        standing = self.context.standing
        outputs.append(RoleChanged(standing.role))
        for pair in self.check_list:
            pair.to_be_nominated = None
            pair.compute_priority(standing.is_controlling)
        self.check_list.sort()

    # -- what came of it --------------------------------------------------------------------------------

    @property
    def path(self) -> CandidatePair | None:
        """The pair that data goes by: nominated before merely valid (section 12.1), alive before doubtful."""
        valid = [pair for pair in self.check_list if pair.is_valid]
        return max(valid, key=_path_rank, default=None)

    @property
    def has_failed(self) -> bool:
        """Nothing is left to check, and nothing more will come (section 6.1.2.1, RFC 8838 section 8)."""
        ended = self.remote_ended and self.context.candidates.ended
        return ended and self.check_list.is_exhausted and self.path is None

    def reopen(self, now: float, outputs: list[Output]) -> None:
        """The path is lost or silent: every pair is tried again, at the usual pace and within the limits."""
        if self.selected is not None and not self.selected.is_valid:
            self.selected = None
        self.check_list.reopen(list(self.check_list))
        for remote in list(self.remote_candidates.values()):
            for local in self._senders():
                self.pair(local, remote, now, outputs)

    # -- time -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        moments = [check.transaction.next_deadline() for check in self._checks.values()]
        moments.append(self._look_again_at)
        if self.remote is not None and self.check_list.has_work:
            moments.append(self.context.turn.next_at)
        return _earliest(moments)

    def handle_timeout(self, now: float, outputs: list[Output]) -> None:
        """Repeats checks, and gives up those that were never answered (section 7.2.5.2.3)."""
        for transaction_id, check in list(self._checks.items()):
            transaction = check.transaction
            transaction.handle_timeout(now)
            if transaction.state is TransactionState.TIMED_OUT:
                self._checks.pop(transaction_id, None)
                if not check.cancelled:
                    self.give_up(check.pair, f"no answer to {transaction.transmissions} checks")
            elif not check.cancelled:
                self._transmit(check.pair, transaction, now, outputs)
            else:
                transaction.poll_transmit(now)  # counted, not sent: it only waits


def _earliest(moments: Iterable[float | None]) -> float | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _nominated_rank(pair: CandidatePair) -> tuple[int, int]:
    assert pair.nomination is not None
    return pair.nomination, pair.priority


def _path_rank(pair: CandidatePair) -> tuple[bool, int, int]:
    return not pair.is_doubtful, -1 if pair.nomination is None else pair.nomination, pair.priority
