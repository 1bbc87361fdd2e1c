"""CreatePermission (RFC 8656 section 10.2): lets hosts send to a relayed address."""

from stunwire import XOR_PEER_ADDRESS, ErrorCode, Message

from turnrelay.core.addresses import PeerAddress
from turnrelay.core.allocation import Allocation
from turnrelay.core.limits import PERMISSION_LIFETIME
from turnrelay.core.outputs import Output
from turnrelay.core.refused import Refused
from turnrelay.core.replies import succeed
from turnrelay.core.state import Request, State


def create_permission(state: State, request: Request, allocation: Allocation, now: float) -> list[Output]:
    """Installs or refreshes a permission for every peer named, or for none."""
    peers = [PeerAddress(peer) for peer in request.message.get_all(XOR_PEER_ADDRESS)]
    if not peers:
        raise Refused(ErrorCode.BAD_REQUEST, "XOR-PEER-ADDRESS is missing")
    outputs = allocation.permit(peers, state.check_peer_of(allocation), state.limits, now)
    state.deadlines.schedule(allocation, now + PERMISSION_LIFETIME)
    return succeed(request, Message.success_to(request.message)) + outputs
