"""Refresh (RFC 8656 section 8.2): prolongs an allocation, or ends it with a lifetime of zero."""

from stunwire import LIFETIME, REQUESTED_ADDRESS_FAMILY, AddressFamily, ErrorCode, Message

from turnrelay.core.allocate import lifetime_for
from turnrelay.core.allocation import Allocation
from turnrelay.core.ending import end_allocation, end_family
from turnrelay.core.events import EndReason
from turnrelay.core.outputs import Output
from turnrelay.core.refused import Refused
from turnrelay.core.replies import remember, succeed
from turnrelay.core.state import Request, State


def refresh(state: State, request: Request, allocation: Allocation, now: float) -> list[Output]:
    """Sets the time-to-expiry of the allocation, or of one relayed address of a dual one (section 8.2)."""
    family = request.message.get(REQUESTED_ADDRESS_FAMILY)
    if family is not None and family not in allocation.relays:
        raise Refused(ErrorCode.PEER_ADDRESS_FAMILY_MISMATCH)
    families = list(allocation.relays) if family is None else [AddressFamily(family)]
    requested = request.message.get(LIFETIME)
    if requested == 0:
        return _delete(state, request, allocation, families, now)
    lifetime = lifetime_for(requested, state.limits)
    # The user may have a new password since; the name is the same, or this would have been a 441.
    allocation.credential = request.credential
    outputs = succeed(request, Message.success_to(request.message).add(LIFETIME, lifetime))
    for refreshed in families:
        outputs += allocation.prolong(refreshed, now + lifetime, state.check_peer_of(allocation))
    state.deadlines.schedule(allocation, now + lifetime)
    return outputs


def _delete(
    state: State, request: Request, allocation: Allocation, families: list[AddressFamily], now: float
) -> list[Output]:
    outputs = succeed(request, Message.success_to(request.message).add(LIFETIME, 0))
    # The allocation is gone when a retransmission comes, so its answer must be kept apart.
    remember(state, request, outputs, now)
    if len(families) == len(allocation.relays):
        return outputs + end_allocation(state, allocation, EndReason.DELETED, now)
    for family in families:
        outputs += end_family(state, allocation, family)
    return outputs
