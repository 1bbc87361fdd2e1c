"""RelayParts: what of a running relay the HTTP side is given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from turnrelay.observe.metrics import Metrics
from turnrelay.policy.credentials import SharedSecrets
from turnrelay.policy.outcome_tokens import OutcomeTokens
from turnrelay.relay.plane import RelayHost
from turnrelay.settings import Settings
from turnrelay.settings.tls import Certificate
from turnrelay.transports.driver import Driver
from turnrelay.transports.given_sockets import GivenSockets
from turnrelay.transports.listeners import Listeners
from turnrelay.web.health import Readiness
from turnrelay.web.whole_relay import AskOthers


@dataclass(frozen=True, slots=True)
class RelayParts:
    """What of a relay the features of the HTTP side may use."""

    settings: Settings
    readiness: Readiness
    metrics: Metrics
    driver: Driver
    listeners: Listeners
    shared_secrets: SharedSecrets
    outcome_tokens: OutcomeTokens
    plane_name: str
    hosts: Sequence[RelayHost]
    uris: Callable[[], list[str]]
    """Where clients reach the relay now."""
    certificate: Callable[[], Certificate | None]
    """The one that TLS clients get now."""
    ask_others: AskOthers
    """The other processes of the relay."""
    given: GivenSockets
    """Sockets to listen on that were open before this process was."""
