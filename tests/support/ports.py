"""Addresses and ports that nobody else on this machine has, for as long as they are held."""

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

# Held bound, never listening, on each leased address. Below the ephemeral and the relay ports.
_GUARD_PORT = 1999


@contextmanager
def loopback_address() -> Iterator[str]:
    """Lease an address of 127.0.0.0/8: every port of it is free, the well-known ones too.

    A socket bound to one port of the address is the lease, so runs at the same time never share one and a
    killed run gives its own back. Needs no privilege; Linux answers on the whole range, other systems don't.
    """
    for _ in range(1000):
        address = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
        guard = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            guard.bind((address, _GUARD_PORT))
        except OSError:
            guard.close()
            continue
        with guard:
            yield address
        return
    raise RuntimeError("no free address in 127.0.0.0/8")


def is_listening(address: str, port: int) -> bool:
    """Whether a TCP connection to the port is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((address, port)) == 0


def answers_stun(address: str, port: int) -> bool:
    """Whether a Binding request over UDP is answered within a moment."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    request = bytes.fromhex("0001 0000 2112a442") + os.urandom(12)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect((address, port))
            probe.send(request)
            return probe.recv(1500)[4:20] == request[4:20]
        except OSError:
            return False
