"""Connect and ConnectionBind (RFC 6062): TCP between a client and its peers.

A connection with a peer begins with a Connect of the client or by the peer itself; either way it gets a
number, by which the client binds a TCP connection of its own to it. From then on the two carry data only.
"""

from stunwire import CONNECTION_ID, XOR_PEER_ADDRESS, AddressFamily, ErrorCode, Message, MessageClass, Method

from turnrelay.core.addresses import FiveTuple, PeerAddress, RelayedAddress, Transport, family_of
from turnrelay.core.allocation import Allocation
from turnrelay.core.limits import CONNECT_TIMEOUT, CONNECTION_BIND_TIMEOUT
from turnrelay.core.outputs import (
    AcceptPeer,
    ClosePeer,
    ConnectToPeer,
    JoinPeer,
    Output,
    PassConnection,
    Reply,
)
from turnrelay.core.refused import Refused
from turnrelay.core.replies import refuse, succeed
from turnrelay.core.state import PeerConnection, Request, State


def connect(state: State, request: Request, allocation: Allocation, now: float) -> list[Output]:
    """The client wants a connection with a peer (section 5.2). No permission is needed or made."""
    if not allocation.tcp:
        raise Refused(ErrorCode.ALLOCATION_MISMATCH, "The allocation relays UDP")
    named = request.message.get(XOR_PEER_ADDRESS)
    if named is None:
        raise Refused(ErrorCode.BAD_REQUEST, "XOR-PEER-ADDRESS is missing")
    peer = PeerAddress(named)
    allocation.admit([peer], state.check_tcp_peer)
    relay = allocation.relay_for(peer.host)
    if RelayedAddress(peer) == relay:
        raise Refused(ErrorCode.FORBIDDEN, "The peer is the relayed address itself")
    if peer in allocation.connections:
        raise Refused(ErrorCode.CONNECTION_ALREADY_EXISTS)
    if len(allocation.connections) >= state.limits.connections_per_allocation:
        raise Refused(ErrorCode.INSUFFICIENT_CAPACITY, "Too many connections")
    connection = _begin(state, allocation, peer, now + CONNECT_TIMEOUT)
    connection.request = request
    return [ConnectToPeer(connection.connection_id, relay, peer)]


def peer_connected(state: State, connection_id: int, now: float) -> list[Output]:
    """The peer took the connection that a Connect asked for; its ConnectionBind is waited for."""
    connection = state.peer_connections.get(connection_id)
    if connection is None or connection.request is None:
        return []
    request, connection.request = connection.request, None
    connection.expires_at = now + CONNECTION_BIND_TIMEOUT
    state.deadlines.schedule(connection, connection.expires_at)
    return succeed(request, Message.success_to(request.message).add(CONNECTION_ID, connection_id))


def peer_arrived(
    state: State, relay: RelayedAddress, peer: PeerAddress, arrival: int, now: float
) -> list[Output]:
    """A peer connected to a relayed address (section 5.3): only a permitted one is let in."""
    allocation = state.by_relay.get(relay)
    if allocation is None or not allocation.permits(peer, now) or state.check_tcp_peer(peer) is not None:
        return []
    full = len(allocation.connections) >= state.limits.connections_per_allocation
    if full or peer in allocation.connections:
        return []
    connection_id = _begin(state, allocation, peer, now + CONNECTION_BIND_TIMEOUT).connection_id
    attempt = Message(MessageClass.INDICATION, Method.CONNECTION_ATTEMPT)
    attempt.add(XOR_PEER_ADDRESS, peer).add(CONNECTION_ID, connection_id)
    return [AcceptPeer(arrival, connection_id), Reply(allocation.path, attempt.encode())]


def connection_bind(state: State, request: Request) -> list[Output]:
    """The connection that this came by becomes the client's end of a connection with a peer (section 5.4)."""
    path = request.path
    if path.transport not in (Transport.TCP, Transport.TLS):
        raise Refused(ErrorCode.BAD_REQUEST, "Data connections are TCP or TLS")
    if path in state.allocations or path in state.allocating:
        raise Refused(ErrorCode.BAD_REQUEST, "A control connection carries no data")
    connection_id = request.message.get(CONNECTION_ID) or 0
    member = connection_id >> 24
    if connection_id and state.processes.has_other(member):
        return [PassConnection(path, member, request.message.received)]
    connection = state.peer_connections.get(connection_id)
    if connection is None or connection.request is not None or connection.data_path is not None:
        raise Refused(ErrorCode.BAD_REQUEST, "CONNECTION-ID names no connection that waits")
    if request.credential.username != connection.allocation.credential.username:
        raise Refused(ErrorCode.WRONG_CREDENTIALS)
    connection.data_path = path
    state.data_paths[path] = connection
    state.deadlines.cancel(connection)
    response = Message.success_to(request.message)
    return [*succeed(request, response), JoinPeer(connection.connection_id, path)]


def peer_gone(state: State, connection_id: int) -> list[Output]:
    """A peer took no connection, which is told, or ended one, which shows (section 5.5)."""
    connection = state.peer_connections.get(connection_id)
    if connection is None:
        return []
    request = connection.request
    if request is None:
        return _end(state, connection)
    failure = Refused(ErrorCode.CONNECTION_TIMEOUT_OR_FAILURE)
    return [*_end(state, connection), *refuse(request, failure)]


def data_connection_gone(state: State, path: FiveTuple) -> list[Output]:
    """A client's data connection ended, and with it the peer's."""
    connection = state.data_paths.get(path)
    return [] if connection is None else _end(state, connection)


def look_at(state: State, connection: PeerConnection, now: float) -> list[Output]:
    """Gives up a connection that was not made, or not bound, in time."""
    if connection.expires_at > now:
        state.deadlines.schedule(connection, connection.expires_at)
        return []
    return peer_gone(state, connection.connection_id)


def close_connections(state: State, allocation: Allocation, family: AddressFamily) -> list[Output]:
    """Ends the connections of a relayed address that ends; a Connect that waits gets no answer any more."""
    outputs: list[Output] = []
    for peer, connection_id in list(allocation.connections.items()):
        if family_of(peer.host) is family:
            outputs += _end(state, state.peer_connections[connection_id])
    return outputs


def _begin(state: State, allocation: Allocation, peer: PeerAddress, expires_at: float) -> PeerConnection:
    connection = PeerConnection(state.new_connection_id(), allocation, peer, expires_at)
    state.peer_connections[connection.connection_id] = connection
    allocation.connections[peer] = connection.connection_id
    state.deadlines.schedule(connection, expires_at)
    return connection


def _end(state: State, connection: PeerConnection) -> list[Output]:
    del state.peer_connections[connection.connection_id]
    del connection.allocation.connections[connection.peer]
    if connection.data_path is not None:
        del state.data_paths[connection.data_path]
    state.deadlines.cancel(connection)
    return [ClosePeer(connection.connection_id)]
