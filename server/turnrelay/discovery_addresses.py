"""Which addresses of this machine take part in NAT behaviour discovery (RFC 5780)."""

from collections.abc import Sequence
from ipaddress import ip_address

from turnrelay.core.addresses import family_of
from turnrelay.core.behaviour_discovery import ServerAddresses
from turnrelay.policy.errors import OperatorError
from turnrelay.relay.hosts import require_local
from turnrelay.relay.plane import RelayHost
from turnrelay.settings import Settings

_LAST_PORT = 65535


def discovery_addresses(settings: Settings, hosts: Sequence[RelayHost]) -> ServerAddresses | None:
    """None where no second address is set; OperatorError where there is no first one beside it,
    RelayHostError where it is none of this machine."""
    alternate = settings.alternate_ip
    if alternate is None:
        return None
    family = family_of(alternate)
    candidates = [*settings.listen, *(host.local for host in hosts)]
    others = [
        host
        for host in candidates
        if family_of(host) is family and host != alternate and not ip_address(host).is_unspecified
    ]
    if not others or not 0 < settings.port < _LAST_PORT:
        raise OperatorError(
            f"--alternate-ip {alternate}: NAT behaviour discovery needs a first address of the same "
            "family beside it (--listen ADDR or --relay-ip ADDR) and a port below 65535"
        )
    require_local(alternate, "--alternate-ip")
    advertised = {host.local: host.advertised for host in hosts}
    return ServerAddresses(others[0], alternate, settings.port, settings.port + 1, advertised)
