"""A host that keeps one port mapped: says what becomes of it, and gives it back when it is told to end.

    python portmap_peer.py HOST PORT METHODS [TRANSPORT [LIFETIME]]

METHODS are separated by commas, LIFETIME is in seconds. Prints one JSON object a line: `{"mapping": ...}`
with the external address or null, `{"method": ..., "reason": ...}` for each protocol that has come to an end.
"""

import asyncio
import json
import signal
import sys

from peerpath.portmap import Mapping, MappingAttempt, MappingMethod, PortMapper, find_gateway
from stunwire import TransportAddress


def tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


def mapped(mapping: Mapping | None) -> None:
    tell(mapping=mapping and list(mapping.external))


def attempted(attempt: MappingAttempt) -> None:
    tell(method=attempt.method.value, reason=attempt.reason)


async def keep(
    host: str, port: int, methods: list[MappingMethod], transport: str = "udp", lifetime: str = ""
) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    gateway = find_gateway(host)
    assert gateway is not None
    mapper = PortMapper(
        TransportAddress(host, port),
        gateway,
        mapped,
        on_attempt=attempted,
        methods=methods,
        transport=transport,
        lifetime=int(lifetime) if lifetime else None,
    )
    mapper.start()
    await ended.wait()
    await mapper.close()
    tell(closed=True)


if __name__ == "__main__":
    _, host, port, methods, *more = sys.argv
    asyncio.run(keep(host, int(port), list(map(MappingMethod, methods.split(","))), *more))
