"""Choosing a UDP port out of a range."""

from __future__ import annotations

import random
import socket

_ATTEMPTS = 64


def bindable_port(low: int, high: int) -> int:
    """A UDP port that could be bound just now; 0 to 0 leaves the choice to the system.

    OSError when none of a fair number of ports of the range can be had.
    """
    if high == 0:
        return _bind(0)
    ports = range(low, high + 1)
    failure = OSError(f"no port from {low} to {high} is free")
    for port in random.sample(ports, min(len(ports), _ATTEMPTS)):
        try:
            return _bind(port)
        except OSError as error:
            failure = error
    raise failure


def _bind(port: int) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", port))
        bound: int = probe.getsockname()[1]
        return bound
