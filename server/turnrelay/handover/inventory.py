"""Inventory: what of a relay can be handed over at this moment, written down, and let go of afterwards."""

import asyncio
import socket
from collections.abc import Container
from dataclasses import dataclass

from prometheus_client.registry import Collector

from turnrelay.core.addresses import FiveTuple, RelayedAddress, Transport
from turnrelay.core.allocation import Allocation
from turnrelay.core.ending import forget_allocation
from turnrelay.core.state import Reservation
from turnrelay.handover.core_state import (
    held_allocations,
    held_replies,
    held_reservations,
    path_part,
)
from turnrelay.handover.estate import Estate
from turnrelay.handover.format import (
    ClientConnection,
    Holdings,
    ListeningSocket,
    RelaySocketPart,
    Sample,
    SpentToken,
)
from turnrelay.relay.kernel.plane import XdpPlane
from turnrelay.relay.plane import Traffic
from turnrelay.transports.stream import StreamConnection
from turnrelay.workers.place import SUPERVISOR
from turnrelay.workers.totals import Report

_SETTLE_ROUNDS = 50
_SETTLE_SECONDS = 0.004
_PATIENCE_SECONDS = 5.0
_ALLOCATIONS_A_SECOND = 1000
"""What the successor is given more time for; it takes a tenth of that."""

Local = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Inventory:
    """`holdings` as it is sent, with its descriptors, and what it was written down from."""

    holdings: Holdings
    descriptors: list[int]
    allocations: list[Allocation]
    reservations: list[Reservation]
    connections: list[StreamConnection]
    gone: dict[RelayedAddress, Local]
    """The relayed addresses that are handed over, and where they are on this machine."""
    left: dict[RelayedAddress, Local]
    """Those that are not."""


def take_inventory(estate: Estate) -> Inventory:
    """Everything that clients have over UDP and plain TCP. What they have over TLS and WebSocket hangs on
    keys and buffers of this process; so do TCP relays (RFC 6062), and what a slow client has not read yet."""
    state, plane, now = estate.driver.server.state, estate.plane, estate.driver.clock()
    busy = {request.path for request in state.pending_requests.values()}
    busy |= {connection.allocation.path for connection in state.peer_connections.values()}
    busy |= state.allocating.keys() | state.data_paths.keys()
    connections = {
        connection.path: connection
        for connection in estate.listeners.connections()
        if connection.path is not None and connection.is_movable and connection.path not in busy
    }
    allocations = [
        allocation
        for path, allocation in state.allocations.items()
        if not allocation.tcp and _goes(path, connections)
    ]
    tcp_relays = {path for path, allocation in state.allocations.items() if allocation.tcp}
    moved = [connection for path, connection in connections.items() if path not in tcp_relays]
    # One that is on its way between workers is in no process yet; its client asks again.
    reservations = [each for each in state.reservations.values() if each.relay in plane.relays]
    going = [relay.address for allocation in allocations for relay in allocation.relays.values()]
    going += [reservation.relay for reservation in reservations]
    gone = {relay: _local(estate, relay) for relay in going}
    left = {relay: _local(estate, relay) for relay in plane.relays if relay not in gone}
    listening = _udp_sockets(estate) if estate.place.member != SUPERVISOR else []
    kernel_totals, counters = _counters(estate)
    holdings = Holdings(
        allocations=held_allocations(allocations, now),
        reservations=held_reservations(reservations),
        replies=held_replies(state),
        relays=[_relay_part(estate, relay, now) for relay in going],
        connections=[
            ClientConnection(path=path_part(connection.path), unread=connection.unread)
            for connection in moved
            if connection.path is not None
        ],
        spent_tokens=[
            SpentToken(forget_at=forget_at, token=token) for forget_at, token in estate.outcome_tokens.spent
        ],
        listening=[
            ListeningSocket(kind=kind, host=host, port=port, worker=estate.place.member)
            for kind, (host, port), _ in listening
        ],
        counters=counters,
        kernel_totals=kernel_totals,
        elsewhere=list(left.items()) if estate.place.neighbours is None else [],
    )
    descriptors = [plane.relays[relay].sock.fileno() for relay in going]
    descriptors += [connection.fileno() for connection in moved]
    descriptors += [sock.fileno() for _, _, sock in listening]
    return Inventory(holdings, descriptors, allocations, reservations, moved, gone, left)


async def settle(estate: Estate) -> None:
    """A moment in which most connections have nothing under way; those that have stay here."""
    state = estate.driver.server.state
    for _ in range(_SETTLE_ROUNDS):
        if not state.pending_requests and all(
            connection.is_movable or not connection.could_move
            for connection in estate.listeners.connections()
        ):
            return
        await asyncio.sleep(_SETTLE_SECONDS)


def let_go(estate: Estate, inventory: Inventory) -> None:
    """The successor has it: what is closed here is open there, and nobody is told of an end."""
    state, plane = estate.driver.server.state, estate.plane
    estate.listeners.stop_listening()
    for request in state.pending_requests.values():
        if request.path.transport is Transport.UDP:
            request.cancelled = True  # its client asks again, there
    for allocation in inventory.allocations:
        for relay in allocation.relays.values():
            plane.forget(relay.address)
        forget_allocation(state, allocation)
    for reservation in inventory.reservations:
        plane.forget(reservation.relay)
        del state.reservations[reservation.token]
        state.deadlines.cancel(reservation)
        reservation.lease.release()
    for connection in inventory.connections:
        connection.forget()
    estate.place.gave_up(inventory.allocations)


def samples(page: Collector) -> list[Sample]:
    """Everything that a page counts."""
    return [
        Sample(family=family, sample=sample, labels=labels, value=value)
        for family, sample, labels, value in Report(page).changes()
    ]


def patience(allocations: int) -> float:
    """Seconds that the other process is given to take so many."""
    return _PATIENCE_SECONDS + allocations / _ALLOCATIONS_A_SECOND


def _counters(estate: Estate) -> tuple[list[int] | None, list[Sample]]:
    """What the kernel plane has counted, and the counters, which have that in them. A worker's are the
    supervisor's to tell."""
    page, plane = estate.metrics.page, estate.plane
    if estate.place.member != SUPERVISOR:
        return None, []
    if not isinstance(plane, XdpPlane):
        return None, samples(page)
    with plane.standing_totals() as totals:
        return totals, samples(page)


def _udp_sockets(estate: Estate) -> list[tuple[str, Local, socket.socket]]:
    return [
        (kind, _address(sock), sock)
        for kind, sock in estate.listeners.sockets()
        if kind == Transport.UDP.value
    ]


def _goes(path: FiveTuple, connections: Container[FiveTuple]) -> bool:
    return path.transport is Transport.UDP or path in connections


def _local(estate: Estate, relay: RelayedAddress) -> Local:
    return _address(estate.plane.relays[relay].sock)


def _address(sock: socket.socket) -> Local:
    host, port = sock.getsockname()[:2]
    return str(host), int(port)


def _relay_part(estate: Estate, relay: RelayedAddress, now: float) -> RelaySocketPart:
    plane = estate.plane
    relay_socket = plane.relays[relay]
    traffic = plane.settled_traffic_of(relay) if isinstance(plane, XdpPlane) else plane.traffic_of(relay)
    allocation, account = relay_socket.bandwidth.allocation, relay_socket.bandwidth.account
    return RelaySocketPart(
        address=relay,
        account=relay_socket.account,
        traffic=_counts(traffic),
        buckets=(
            None if allocation is None else allocation.level_at(now),
            None if account is None else account.level_at(now),
        ),
        slots=plane.slots_of(relay) if isinstance(plane, XdpPlane) else [],
    )


def _counts(traffic: Traffic) -> tuple[int, int, int, int]:
    return (
        traffic.packets_to_peer,
        traffic.bytes_to_peer,
        traffic.packets_from_peer,
        traffic.bytes_from_peer,
    )
