"""The reason codes of the log in plain words; docs/logs.md is made from them."""

from collections.abc import Mapping
from typing import Any

from turnrelay.core.events import AuthenticationFailure, EndReason, RefusalReason
from turnrelay.core.protocols import DenyRule

ENDED = {
    EndReason.EXPIRED: "the client did not refresh it in time: it went away, lost its network, or its user "
    "was removed",
    EndReason.DELETED: "the client gave it up",
    EndReason.DISCONNECTED: "the client's connection closed",
    EndReason.SHUTDOWN: "the relay stopped",
    EndReason.OPERATOR: "the operator ended it",
    EndReason.WORKER_LOST: "the worker process that it lived in died",
}
REFUSED = {
    RefusalReason.ALLOCATIONS_PER_USER: "the user has as many allocations as limits.allocations_per_user "
    "lets them have",
    RefusalReason.ALLOCATIONS_PER_PREFIX: "the client's network has as many allocations as "
    "limits.allocations_per_prefix lets it have",
    RefusalReason.ALLOCATIONS_TOTAL: "the relay has as many allocations as limits.allocations_total or its "
    "ports let it have",
    RefusalReason.DRAINING: "the relay was about to stop; clients take another relay then",
    RefusalReason.RELAY_PORTS: "no port was free for a relayed address, or the system gave no socket",
    RefusalReason.ALLOCATION_EXISTS: "the client has an allocation on this path already",
    RefusalReason.CLIENT_ADDRESS: "the client came from a tunnelled address that none may come from",
    RefusalReason.RESERVATION_TOKEN: "the reservation token is unknown, used or somebody else's",
    RefusalReason.ADDRESS_FAMILY: "the relay has no address of the family that was asked for",
    RefusalReason.RELAYED_TRANSPORT: "the client asked to relay something other than UDP",
    RefusalReason.UNKNOWN_ATTRIBUTE: "the client asked for something that this relay does not know",
    RefusalReason.BAD_REQUEST: "the request contradicts itself",
}
DENIED = {
    DenyRule.SPECIAL_PURPOSE: "its address is not public; --allow-peer admits ranges",
    DenyRule.LOCAL_ADDRESS: "its address is one of this machine's own",
    DenyRule.OWN_PORT: "it is a port that the relay itself serves",
    DenyRule.OPERATOR: "--deny-peer names it",
}
NOT_ACCEPTED = {
    AuthenticationFailure.NO_CREDENTIALS: "it had no credentials, as the first request of a client has none",
    AuthenticationFailure.INCOMPLETE: "its credentials were incomplete",
    AuthenticationFailure.STALE_NONCE: "its nonce was too old; the client asks again with a new one",
    AuthenticationFailure.BID_DOWN: "somebody on the way weakened it, or the client mixed up the algorithms",
    AuthenticationFailure.UNKNOWN_USER: "nobody has that user name, or the credential has ended",
    AuthenticationFailure.WRONG_PASSWORD: "the password was wrong",
    AuthenticationFailure.WRONG_USER: "the allocation is another user's",
}
EVENTS: Mapping[str, Mapping[Any, str]] = {
    "allocation ended": ENDED,
    "allocation refused": REFUSED,
    "peer denied": DENIED,
    "authentication failed": NOT_ACCEPTED,
}
"""By the event of the log line; each such line has one of these codes as `reason`."""
