"""TcpTurnClient: a TURN client whose peers are met over TCP (RFC 6062). Sans-IO."""

from __future__ import annotations

from stunwire import (
    CONNECTION_ID,
    XOR_PEER_ADDRESS,
    ErrorCode,
    Message,
    Method,
    TransportAddress,
)

from peerpath.turn.client import ClientState, TurnClient, canonical
from peerpath.turn.connection_bind import ConnectionBind
from peerpath.turn.outputs import Output, PeerArrived, PeerConnected, PeerNotConnected
from peerpath.turn.transactions import Cause, Failure, Request, Success

_TCP = 6


class TcpTurnClient(TurnClient):
    """One allocation of the control connection, which is TCP or TLS (section 4.1).

    Data does not come this way: `connect`, and peers that connect once their host is permitted, lead to a
    CONNECTION-ID, and with `connection_bind` another connection to the server becomes the one to the peer.
    """

    _peer_transport = _TCP

    def connect(self, peer: TransportAddress, now: float) -> list[Output]:
        """Asks the relay to connect to `peer` (section 4.3), for which no permission is needed.

        `PeerConnected` or `PeerNotConnected` follows; a relay gives up after 30 s at the earliest.
        """
        peer = TransportAddress(canonical(peer[0]), peer[1])
        if self._is_over or self.state is not ClientState.ALLOCATED:
            return [PeerNotConnected(peer, None, "there is no allocation")]
        if not self._has_family_of(peer.host):
            code = ErrorCode.PEER_ADDRESS_FAMILY_MISMATCH
            return [PeerNotConnected(peer, code, code.reason)]
        request = Request(Method.CONNECT, [(XOR_PEER_ADDRESS, peer)], peer)
        return self._sent(self._transactions.begin(request, now), now)

    def connection_bind(self, connection_id: int) -> ConnectionBind:
        """What the data connection for `connection_id` has to say first."""
        return ConnectionBind(self._authentication.copy(), connection_id)

    def bind(self, peer: TransportAddress, now: float) -> list[Output]:
        raise TypeError("an allocation for TCP has no channels: use connect()")

    def send(self, peer: TransportAddress, data: bytes, now: float) -> list[Output]:
        raise TypeError("an allocation for TCP carries no datagrams: use connect()")

    def _succeeded(self, outcome: Success, now: float) -> list[Output]:
        if outcome.request.method is not Method.CONNECT:
            return super()._succeeded(outcome, now)
        peer, connection_id = outcome.request.about, outcome.response.get(CONNECTION_ID)
        if connection_id is None:
            return [PeerNotConnected(peer, ErrorCode.SERVER_ERROR, "the answer lacks a CONNECTION-ID")]
        return [PeerConnected(peer, connection_id)]

    def _failed(self, failure: Failure, now: float) -> list[Output]:
        if failure.request.method is not Method.CONNECT:
            return super()._failed(failure, now)
        code = failure.code if failure.cause is Cause.ERROR else None
        return [PeerNotConnected(failure.request.about, code, failure.reason)]

    def _indicated(self, message: Message) -> list[Output]:
        """ConnectionAttempt (section 4.4), from hosts that were permitted only."""
        peer, connection_id = message.get(XOR_PEER_ADDRESS), message.get(CONNECTION_ID)
        if message.method != Method.CONNECTION_ATTEMPT or message.unknown_required:
            return []
        if peer is None or connection_id is None or peer.host not in self._permissions:
            return []
        return [PeerArrived(peer, connection_id)]
