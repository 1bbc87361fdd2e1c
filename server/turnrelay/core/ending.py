"""How an allocation ends: expired, deleted, disconnected or shut down, all by one way out."""

from stunwire import AddressFamily

from turnrelay.core.allocation import Allocation
from turnrelay.core.connect import close_connections
from turnrelay.core.events import AllocationEnded, EndReason
from turnrelay.core.outputs import CloseRelay, Output
from turnrelay.core.state import State


def end_allocation(state: State, allocation: Allocation, reason: EndReason, now: float) -> list[Output]:
    """Frees everything the allocation held. Its flows end with its relayed addresses."""
    outputs: list[Output] = []
    for family in list(allocation.relays):
        outputs += end_family(state, allocation, family)
    del state.allocations[allocation.path]
    state.deadlines.cancel(allocation)
    allocation.lease.release()
    outputs.append(
        AllocationEnded(
            allocation.allocation_id,
            allocation.path,
            allocation.credential.account,
            reason,
            now - allocation.created_at,
        )
    )
    return outputs


def forget_allocation(state: State, allocation: Allocation) -> None:
    """Another process goes on with it: what it holds is left as it is, and nobody is told of an end."""
    for relay in allocation.relays.values():
        del state.by_relay[relay.address]
    del state.allocations[allocation.path]
    state.deadlines.cancel(allocation)
    allocation.lease.release()


def end_family(state: State, allocation: Allocation, family: AddressFamily) -> list[Output]:
    """Frees one relayed address, with the permissions, channels and connections on it."""
    relay = allocation.relays[family].address
    outputs = close_connections(state, allocation, family)
    allocation.drop_family(family)
    del state.by_relay[relay]
    return [*outputs, CloseRelay(relay)]
