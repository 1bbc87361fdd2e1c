"""Fallback: what can carry data where no direct path is found."""

from enum import StrEnum


class Fallback(StrEnum):
    """What to try, in which order, where no direct path is found."""

    TURN = "turn"
    HTTP_TUNNEL = "http_tunnel"
    PROXY = "proxy"
    ONION = "onion"
