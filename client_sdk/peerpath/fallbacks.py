"""Fallback: what can carry data where no direct path is found."""

from enum import StrEnum


class Fallback(StrEnum):
    """What to try, in which order, where no direct path is found."""

    TURN = "turn"
    TCP_RELAY = "tcp_relay"
    """TURN whose peers are met over TCP (RFC 6062), for peers and relays that UDP does not join."""
    HTTP_TUNNEL = "http_tunnel"
    PROXY = "proxy"
    ONION = "onion"


USUAL_FALLBACKS = tuple(fallback for fallback in Fallback if fallback is not Fallback.TCP_RELAY)
"""Those that are tried without being asked for: few relays offer TCP relays, and fewer pairs need one."""


def with_tcp_relay(fallbacks: tuple[Fallback, ...]) -> tuple[Fallback, ...]:
    """The same with TCP relays behind those for UDP; first where these are left out."""
    place = fallbacks.index(Fallback.TURN) + 1 if Fallback.TURN in fallbacks else 0
    return (*fallbacks[:place], Fallback.TCP_RELAY, *fallbacks[place:])
