"""ChannelBind (RFC 8656 section 12.2): a short name for a peer."""

from stunwire import CHANNEL_NUMBER, MAX_CHANNEL_RFC5766, MIN_CHANNEL, XOR_PEER_ADDRESS, ErrorCode, Message

from turnrelay.core.addresses import PeerAddress
from turnrelay.core.allocation import Allocation
from turnrelay.core.limits import PERMISSION_LIFETIME
from turnrelay.core.outputs import Output
from turnrelay.core.refused import Refused
from turnrelay.core.replies import succeed
from turnrelay.core.state import Request, State


def channel_bind(state: State, request: Request, allocation: Allocation, now: float) -> list[Output]:
    """Binds a channel to a peer or refreshes the binding; the peer's permission comes with it."""
    if allocation.tcp:
        raise Refused(ErrorCode.BAD_REQUEST, "A TCP allocation has no channels")
    channel, peer = request.message.get(CHANNEL_NUMBER), request.message.get(XOR_PEER_ADDRESS)
    if channel is None or peer is None:
        raise Refused(ErrorCode.BAD_REQUEST, "CHANNEL-NUMBER and XOR-PEER-ADDRESS are needed")
    # RFC 8656 ends the range at 0x4FFF. Clients of RFC 5766 bind up to 0x7FFF, coturn's among them, and what
    # the narrower range is for (sharing a port with other protocols) does not concern a relay's own port.
    if not MIN_CHANNEL <= channel <= MAX_CHANNEL_RFC5766:
        raise Refused(ErrorCode.BAD_REQUEST, "Channel number is out of range")
    outputs = allocation.bind(channel, PeerAddress(peer), state.check_peer, state.limits, now)
    state.deadlines.schedule(allocation, now + PERMISSION_LIFETIME)
    return succeed(request, Message.success_to(request.message)) + outputs
