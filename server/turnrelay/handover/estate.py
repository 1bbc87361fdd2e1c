"""Estate: what of a relay is handed over, where it lives while the relay runs."""

from collections.abc import Callable
from dataclasses import dataclass

from turnrelay.http_side import HttpSide
from turnrelay.observe.metrics import Metrics
from turnrelay.policy.outcome_tokens import OutcomeTokens
from turnrelay.relay.kernel.attachments import Attachments
from turnrelay.relay.kernel.plane import XdpPlane
from turnrelay.relay.userspace import UserspacePlane
from turnrelay.transports.driver import Driver
from turnrelay.transports.listeners import Listeners
from turnrelay.web.health import Readiness
from turnrelay.workers.place import Alone


@dataclass(frozen=True, slots=True)
class Estate:
    """The parts of a relay, in one of its processes."""

    place: Alone
    readiness: Readiness
    driver: Driver
    plane: UserspacePlane | XdpPlane
    attachments: Attachments | None
    """The kernel plane's, where there is one."""
    listeners: Listeners
    http: HttpSide | None
    metrics: Metrics
    outcome_tokens: OutcomeTokens
    own_ports: Callable[[], set[int]]
    """Every port that the relay serves."""
