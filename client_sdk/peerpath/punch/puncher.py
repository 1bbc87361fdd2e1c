"""Carries HolePunch over a UDP socket, attempt by attempt."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from stunwire import TransportAddress

from peerpath.errors import ServerFailure, TraversalError
from peerpath.net.addresses import join_host_port
from peerpath.net.alarm import Alarm
from peerpath.net.datagrams import DatagramSocket
from peerpath.net.interfaces import host_addresses, source_towards
from peerpath.net.resolving import ResolveError, Resolver
from peerpath.net.words import in_words
from peerpath.punch.hole_punch import HolePunch, Output, Punched, SendTo

_PAUSE_SECONDS = 0.5
"""Before the second attempt; doubles with every further one."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A way to the peer that works both ways. The socket is the caller's to use and to close."""

    socket: DatagramSocket
    remote: TransportAddress
    mapped: TransportAddress | None
    """How the peer sees this side."""
    round_trip: float
    """Seconds."""

    def close(self) -> None:
        self.socket.close()


async def punch(
    peer: tuple[str, int],
    local: tuple[str, int] = ("", 0),
    *,
    seconds: float = 10.0,
    attempts: int = 3,
    password: str | None = None,
    resolver: Resolver | None = None,
) -> Hole:
    """Punches towards `peer` from `local` while the peer does the same towards us.

    Without a host in `local` it is any address of this machine. Of a peer that is named, the first address is
    taken that there is a way to. Each attempt lasts `seconds`; the pauses between them double.
    TraversalError at once when there is no way out towards the peer, and with each attempt in its report when
    nothing came through; OSError when `local` cannot be bound.
    """
    try:
        addresses = await (resolver or Resolver()).addresses(*peer)
    except ResolveError as error:
        raise TraversalError(f"No hole to {join_host_port(peer)} can be punched: {error}") from error
    remote = next((address for address in addresses if _leads_to(local[0], address)), None)
    if remote is None:
        raise TraversalError(_no_way(addresses[0]))
    any_host = "::" if ":" in remote.host else "0.0.0.0"
    socket = await DatagramSocket.open((local[0] or any_host, local[1]))
    report: list[ServerFailure] = []
    try:
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
            driver = _Driver(socket, HolePunch(remote, password=password))
            try:
                async with asyncio.timeout(seconds):
                    found = await driver.run()
                return Hole(socket, found.remote, found.mapped, found.round_trip)
            except TimeoutError:
                report.append(ServerFailure(f"attempt {attempt + 1}", driver.findings(), seconds))
    except BaseException:
        socket.close()
        raise
    socket.close()
    raise TraversalError(f"No hole to {join_host_port(remote)} could be punched:", report)


def _leads_to(local_host: str, address: TransportAddress) -> bool:
    same_family = not local_host or (":" in local_host) == (":" in address.host)
    return same_family and source_towards(address) is not None


def _no_way(remote: TransportAddress) -> str:
    if not host_addresses():
        return f"No hole to {join_host_port(remote)} can be punched: this machine is in no network"
    family = "IPv6" if ":" in remote.host else "IPv4"
    has_family = any((":" in host) == (":" in remote.host) for host in host_addresses())
    why = "no route to it" if has_family else f"no {family} address, and no route to it"
    return f"No hole to {join_host_port(remote)} can be punched: this machine has {why}"


class _Driver:
    def __init__(self, socket: DatagramSocket, core: HolePunch) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = socket
        self._core = core
        self._end: asyncio.Future[Punched] = self._loop.create_future()
        self._alarm = Alarm(self._loop, self._on_time)
        self._heard = False
        self._unsent = ""
        """Why the last packet could not be sent."""

    async def run(self) -> Punched:
        self._socket.on_datagram = self._received
        self._socket.on_error = self._failed
        try:
            self._carry_out(self._core.start(self._loop.time()))
            return await self._end
        finally:
            self._socket.on_datagram = self._socket.on_error = None
            self._alarm.cancel()

    def findings(self) -> str:
        if self._heard:
            return "the peer's packets come in, but it answers none of ours"
        if self._unsent:
            return f"nothing could be sent to the peer: {self._unsent}"
        return "nothing came in from the peer"

    def _received(self, data: bytes, source: TransportAddress) -> None:
        outputs = self._core.receive(data, source, self._loop.time())
        self._heard = self._heard or bool(outputs)
        self._carry_out(outputs)

    def _failed(self, error: OSError) -> None:
        self._unsent = in_words(error)

    def _on_time(self) -> None:
        self._carry_out(self._core.handle_timeout(self._loop.time()))

    def _carry_out(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, SendTo):
                self._unsent = ""
                self._socket.send(output.data, output.to)
            elif not self._end.done():
                self._end.set_result(output)
        self._alarm.set(self._core.next_deadline())
