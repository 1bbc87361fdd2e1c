"""Names to addresses without blocking the event loop: A and AAAA as the system does it, SRV by dnspython."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, zip_longest

from stunwire import TransportAddress

from peerpath.errors import PeerpathError
from peerpath.net.addresses import is_numeric
from peerpath.net.waits import within

_SRV_SECONDS = 1.5
_LOOK_UP_SECONDS = 10.0
"""A and AAAA: room for a name server that is silent, and for the next one (resolv.conf: 5 s for each)."""


class ResolveError(PeerpathError):
    """A name that leads nowhere."""


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """One SRV record (RFC 2782)."""

    host: str
    port: int
    priority: int = 0
    weight: int = 0


class Resolver:
    """Looks names up; tests put their own in its place."""

    async def addresses(self, host: str, port: int) -> list[TransportAddress]:
        """IPv6 and IPv4 in turns, IPv6 first (RFC 8305 section 4). ResolveError when there is none."""
        if is_numeric(host):
            return [TransportAddress(host, port)]
        try:
            async with within(_LOOK_UP_SECONDS, "answer"):
                found = await _in_thread(host, port)
        except OSError as error:
            raise ResolveError(f"{host} has no address: {error.strerror or error}") from error
        hosts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        return [TransportAddress(each, port) for each in interleave(hosts)]

    async def services(self, service: str, protocol: str, domain: str) -> list[ServiceTarget]:
        """The SRV records of `_service._protocol.domain` in the order to try them; empty without any."""
        # Half of what importing this package would take, and most servers are named with their port.
        import dns.asyncresolver
        import dns.exception

        try:
            answer = await dns.asyncresolver.resolve(
                f"_{service}._{protocol}.{domain}", "SRV", lifetime=_SRV_SECONDS
            )
        except (dns.exception.DNSException, OSError):
            return []
        targets = [
            ServiceTarget(str(record.target).rstrip("."), record.port, record.priority, record.weight)
            for record in answer
        ]
        # RFC 2782: a target of "." says that the service is decidedly not available here.
        return in_srv_order([target for target in targets if target.host])

    async def server(
        self, host: str, port: int | None, *, service: str, protocol: str, default_port: int
    ) -> list[TransportAddress]:
        """The addresses of a server: by SRV where no port is given (RFC 8489 section 8.1), else by name.

        Both lookups run side by side, so that a name without SRV records costs no second round trip.
        """
        if port is not None or is_numeric(host):
            return await self.addresses(host, port or default_port)
        plain = asyncio.ensure_future(self.addresses(host, default_port))
        try:
            targets = await self.services(service, protocol, host)
            if not targets:
                return await plain
        finally:
            plain.cancel()
            await asyncio.wait([plain])
            if not plain.cancelled():
                plain.exception()
        found: list[TransportAddress] = []
        for target in targets:
            try:
                found += await self.addresses(target.host, target.port)
            except ResolveError:
                continue
        if not found:
            raise ResolveError(f"{host} names {targets[0].host}, which has no address")
        return found


def interleave(hosts: Sequence[str]) -> list[str]:
    """IPv6 and IPv4 in turns, IPv6 first, each family in its own order."""
    six = [host for host in hosts if ":" in host]
    four = [host for host in hosts if ":" not in host]
    return [host for host in chain.from_iterable(zip_longest(six, four)) if host is not None]


def in_srv_order(
    targets: Sequence[ServiceTarget], choose: random.Random | None = None
) -> list[ServiceTarget]:
    """By priority, and within one priority drawn by weight (RFC 2782)."""
    choose = choose or random.Random()
    ordered: list[ServiceTarget] = []
    for priority in sorted({target.priority for target in targets}):
        group = [target for target in targets if target.priority == priority]
        while group:
            [drawn] = choose.choices(group, [target.weight + 1e-6 for target in group])
            group.remove(drawn)
            ordered.append(drawn)
    return ordered


async def _in_thread(
    host: str, port: int
) -> list[
    tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]]
]:
    """getaddrinfo in a thread of its own.

    The loop's executor would be waited for when the loop ends, and a resolver without network takes half a
    minute to give up.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[object] = loop.create_future()

    def settle(value: object) -> None:
        if not result.done():
            if isinstance(value, OSError):
                result.set_exception(value)
            else:
                result.set_result(value)

    def look_up() -> None:
        value: object
        try:
            value = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except OSError as error:
            value = error
        except UnicodeError:
            value = OSError(0, "not a host name")
        # RuntimeError: the loop has ended, nobody wants to know any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, value)

    threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    return await result  # type: ignore[return-value]
