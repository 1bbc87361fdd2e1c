"""What the core remembers, as parts of the format and back."""

from collections.abc import Container, Iterable, Sequence

from stunwire import PasswordAlgorithm, TransportAddress

from turnrelay.core.addresses import (
    ClientAddress,
    FiveTuple,
    PeerAddress,
    RelayedAddress,
    ServerAddress,
    Transport,
    family_of,
)
from turnrelay.core.allocation import Allocation, ChannelBinding, Relay
from turnrelay.core.outputs import Output
from turnrelay.core.protocols import Credential
from turnrelay.core.state import Reservation, State
from turnrelay.handover.format import (
    HeldAllocation,
    HeldChannel,
    HeldRelay,
    HeldReply,
    HeldReservation,
    Holdings,
    Path,
    UserCredential,
)


def held_allocations(allocations: Iterable[Allocation], now: float) -> list[HeldAllocation]:
    return [
        HeldAllocation(
            id=allocation.allocation_id,
            path=path_part(allocation.path),
            credential=UserCredential(
                username=allocation.credential.username,
                account=allocation.credential.account,
                keys={algorithm.value: key for algorithm, key in allocation.credential.keys.items()},
                removable=allocation.credential.removable,
            ),
            relays=[
                HeldRelay(address=relay.address, expires_at=relay.expires_at)
                for relay in allocation.relays.values()
            ],
            created_at=allocation.created_at,
            permissions=allocation.permissions,
            channels=[
                HeldChannel(
                    channel=binding.channel,
                    peer=binding.peer,
                    expires_at=binding.expires_at,
                    bound=binding.bound,
                )
                for binding in allocation.channels.values()
            ],
            requests=allocation.requests.level_at(now),
        )
        for allocation in allocations
    ]


def held_reservations(reservations: Iterable[Reservation]) -> list[HeldReservation]:
    return [
        HeldReservation(
            token=reservation.token,
            relay=reservation.relay,
            account=reservation.account,
            client_host=reservation.client_host,
            expires_at=reservation.wake_at,
        )
        for reservation in reservations
    ]


def held_replies(state: State) -> list[HeldReply]:
    return [
        HeldReply(path=path_part(path), transaction_id=transaction_id, reply=reply, forget_at=forget_at)
        for path, transaction_id, reply, forget_at in state.replies.items()
    ]


def restore(
    state: State, holdings: Holdings, open_relays: Container[RelayedAddress], now: float
) -> list[Output]:
    """Fills a state that is empty; what the plane is to be granted. ValueError for what does not fit."""
    for held in holdings.allocations:
        allocation = _allocation(state, held, now)
        missing = [relay.address for relay in allocation.relays.values() if relay.address not in open_relays]
        if missing or not allocation.relays or allocation.path in state.allocations:
            raise ValueError(f"allocation {held.id} has no socket, or its path twice")
        state.allocations[allocation.path] = allocation
        for relay in allocation.relays.values():
            state.by_relay[relay.address] = allocation
        state.deadlines.schedule(allocation, allocation.next_expiry())
    for reserved in holdings.reservations:
        relay_address = RelayedAddress(TransportAddress(*reserved.relay))
        if relay_address not in open_relays:
            raise ValueError("a reservation has no socket")
        lease = state.quotas.take_over(reserved.account, reserved.client_host)
        reservation = Reservation(
            reserved.token, relay_address, reserved.account, reserved.client_host, lease
        )
        state.reservations[reserved.token] = reservation
        state.deadlines.schedule(reservation, reserved.expires_at)
    for reply in holdings.replies:
        state.replies.take_over(path_of(reply.path), reply.transaction_id, reply.reply, reply.forget_at)
    # Last: whether a peer is a relayed address of ours shows when all are there.
    return [
        output
        for allocation in state.allocations.values()
        for output in allocation.granted(state.check_peer_of(allocation))
    ]


def path_part(path: FiveTuple) -> Path:
    return Path(transport=path.transport.value, server=path.server, client=path.client)


def path_of(part: Path) -> FiveTuple:
    """ValueError for a transport that is none."""
    server, client = TransportAddress(*part.server), TransportAddress(*part.client)
    return FiveTuple(Transport(part.transport), ServerAddress(server), ClientAddress(client))


def addresses(parts: Sequence[tuple[str, int]]) -> list[RelayedAddress]:
    return [RelayedAddress(TransportAddress(*part)) for part in parts]


def _allocation(state: State, held: HeldAllocation, now: float) -> Allocation:
    keys = {PasswordAlgorithm(algorithm): key for algorithm, key in held.credential.keys.items()}
    credential = Credential(
        held.credential.username, held.credential.account, keys, held.credential.removable
    )
    relays = {
        family_of(part.address[0]): Relay(RelayedAddress(TransportAddress(*part.address)), part.expires_at)
        for part in held.relays
    }
    path = path_of(held.path)
    lease = state.quotas.take_over(credential.account, path.client.host)
    allocation = Allocation(held.id, path, credential, relays, lease, state.limits, held.created_at)
    allocation.requests.fill_to(held.requests, now)
    allocation.permissions.update(held.permissions)
    for part in held.channels:
        peer = PeerAddress(TransportAddress(*part.peer))
        binding = ChannelBinding(part.channel, peer, part.expires_at, part.bound)
        allocation.channels[part.channel] = allocation.channels_by_peer[peer] = binding
    return allocation
