"""Resolving `.local` candidates by multicast DNS (RFC 6762, RFC 8828 section 3.2)."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from contextlib import suppress

import dns.exception
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype

_GROUP = "224.0.0.251"
_PORT = 5353
_NAME = re.compile(r"[a-z0-9-]{1,63}\.local")
_QUERY_AT = (0.0, 0.25, 0.75, 1.5)
"""Seconds; multicast over wireless loses packets."""


class MulticastResolver:
    """Asks this link who bears a name. At most `limit` names at a time, `patience` seconds for each.

    Names come from the peer, so both bounds hold what it can make us send.
    """

    def __init__(self, hosts: Sequence[str] = (), *, patience: float = 3.0, limit: int = 8) -> None:
        self.hosts = hosts
        """Addresses of this machine: the interfaces to ask on."""
        self._patience = patience
        self._slots = asyncio.Semaphore(limit)

    async def resolve(self, name: str) -> str | None:
        """An address of `name`, IPv4 if it has one; None when nobody answers."""
        name = name.lower().rstrip(".")
        if not _NAME.fullmatch(name):
            return None
        async with self._slots:
            question = _Question(name)
            sockets = self._sockets()
            loop = asyncio.get_running_loop()
            transports: list[asyncio.DatagramTransport] = []
            try:
                for made in sockets:
                    transport, _ = await loop.create_datagram_endpoint(lambda: question, sock=made)
                    transports.append(transport)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._patience):
                        return await question.ask(transports)
            finally:
                for transport in transports:
                    transport.close()
            return None

    def _sockets(self) -> list[socket.socket]:
        """One for each interface, on the port of multicast DNS if it can be had.

        Answers to any other port come as unicast (RFC 6762 section 6.7), which not every responder does.
        """
        sockets = []
        for host in self.hosts:
            for port in (_PORT, 0) if ":" not in host else ():
                with suppress(OSError):
                    sockets.append(_open(host, port))
                    break
        return sockets


class _Question(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._name = dns.name.from_text(name)
        self._answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def ask(self, transports: Sequence[asyncio.DatagramTransport]) -> str:
        query = dns.message.make_query(self._name, dns.rdatatype.A, id=0, flags=0)
        query.find_rrset(
            query.question, self._name, dns.rdataclass.IN, dns.rdatatype.AAAA, create=True, force_unique=True
        )
        data, began = query.to_wire(), 0.0
        for moment in _QUERY_AT:
            done, _ = await asyncio.wait([self._answer], timeout=moment - began)
            if done:
                break
            began = moment
            for transport in transports:
                transport.sendto(data, (_GROUP, _PORT))
        return await self._answer

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        try:
            message = dns.message.from_wire(data, ignore_trailing=True)
        except (dns.exception.DNSException, ValueError):
            return
        found: dict[int, str] = {}
        for answer in [*message.answer, *message.additional]:
            if answer.name == self._name and answer.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
                for record in answer:
                    found.setdefault(answer.rdtype, _address(record.to_generic().data))
        if found and not self._answer.done():
            self._answer.set_result(found.get(dns.rdatatype.A) or found[dns.rdatatype.AAAA])

    def error_received(self, exc: Exception) -> None:
        pass  # an interface without multicast; the others may have it


def _address(data: bytes) -> str:
    # The class of an answer has its top bit set ("cache flush"), so dnspython leaves the data as it is.
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)


def _open(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        interface = socket.inet_aton(host)
        if port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            made.bind(("", port))
            membership = socket.inet_aton(_GROUP) + interface
            made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        else:
            made.bind((host, 0))
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    except BaseException:
        made.close()
        raise
    return made
