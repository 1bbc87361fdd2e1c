"""Which addresses relayed ports are opened on, and what peers are told instead of them."""

import socket
from collections.abc import Sequence

from turnrelay.core.addresses import family_of
from turnrelay.relay.plane import RelayHost

_BEHIND_NAT = " (for the public address of a NAT in front of it use --external-ip)"


class RelayHostError(Exception):
    """A relay address cannot serve; says which, why, and what to do."""


def relay_hosts(relay_ips: Sequence[str], external_ips: Sequence[str]) -> list[RelayHost]:
    """One RelayHost for each of `relay_ips`; `external_ips` are PUBLIC or PUBLIC/PRIVATE.

    PUBLIC alone stands for the only relay address of its family. RelayHostError if an address is not one
    of this machine, or a mapping has no or several relay addresses to apply to.
    """
    for host in relay_ips:
        require_local(host, "--relay-ip", _BEHIND_NAT)
    advertised: dict[str, str] = {}
    for mapping in external_ips:
        public, _, private = mapping.partition("/")
        if not private:
            private = _only_one_like(public, relay_ips)
        elif private not in relay_ips:
            raise RelayHostError(
                f"--external-ip {mapping}: {private} is no relay address; add --relay-ip {private}"
            )
        advertised[private] = public
    return [RelayHost(host, advertised.get(host, host)) for host in relay_ips]


def _only_one_like(public: str, relay_ips: Sequence[str]) -> str:
    alike = [host for host in relay_ips if family_of(host) is family_of(public)]
    if len(alike) != 1:
        found = ", ".join(alike) or "none"
        raise RelayHostError(
            f"--external-ip {public}: needs exactly one relay address of its family, there is {found}; "
            f"write --external-ip {public}/PRIVATE for each, with --relay-ip PRIVATE"
        )
    return alike[0]


def require_local(host: str, flag: str, otherwise: str = "") -> None:
    """RelayHostError naming the flag unless it is an address of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        raise RelayHostError(
            f"{flag} {host}: {error.strerror}; it must be an address of this machine{otherwise}"
        ) from error
