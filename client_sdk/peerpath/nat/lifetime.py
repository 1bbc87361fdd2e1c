"""How long does an idle UDP mapping live? (RFC 5780 section 4.6)

A mapping is made, left alone for some time, and then the server is asked from another socket to answer to its
external port. Each wait takes a mapping of its own, since the answer refreshes it; so several are waited for
side by side, and a search narrows down between the longest that lived and the shortest that did not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from stunwire import TransportAddress

from peerpath.errors import ServerError
from peerpath.net.addresses import join_host_port
from peerpath.net.datagrams import DatagramSocket
from peerpath.net.interfaces import source_towards
from peerpath.stun.binding import BindingAnswer, BindingFailure, BindingOptions, Send, binding_request
from peerpath.stun.sockets import BindingFailed, StunSocket

SHORTEST_SECONDS = 10.0
LONGEST_SECONDS = 600.0

_AT_ONCE = 6
_ANSWER_SECONDS = 1.5
_RETRANSMISSIONS = 3


@dataclass(slots=True)
class LifetimeSearch:
    """The search as values: which waits to try next, and what is known. Waits are spaced by ratio."""

    shortest: float = SHORTEST_SECONDS
    longest: float = LONGEST_SECONDS
    precision: float = 0.1
    """How close the bounds must come, as a share of the value."""
    lived: float = field(default=0.0, init=False)
    died: float = field(default=float("inf"), init=False)

    def next_waits(self) -> list[float]:
        """Seconds to try side by side; empty when the answer is good enough."""
        if self.lived == 0 and self.died == float("inf"):
            low, high = self.shortest, self.longest
            ratio = (high / low) ** (1 / (_AT_ONCE - 1))
            return [low * ratio**step for step in range(_AT_ONCE)]
        if self.lived >= self.longest or self.died <= self.shortest:
            return []
        if self.died <= self.lived * (1 + self.precision):
            return []
        ratio = (self.died / self.lived) ** (1 / (_AT_ONCE + 1))
        return [self.lived * ratio**step for step in range(1, _AT_ONCE + 1)]

    def note(self, waited: float, alive: bool) -> None:
        """A mapping was left alone for `waited` seconds, and was alive after that or not.

        Packets get lost, so that one mapping that lived longer outweighs any that seemed to have died.
        """
        if alive:
            self.lived = max(self.lived, waited)
            if self.died <= self.lived:
                self.died = float("inf")
        elif waited > self.lived:
            self.died = min(self.died, waited)

    @property
    def lifetime(self) -> float:
        """Seconds that a mapping is known to live at least; 0 when even the shortest wait was too long."""
        return self.lived


async def measure_mapping_lifetime(
    server: TransportAddress,
    *,
    shortest: float = SHORTEST_SECONDS,
    longest: float = LONGEST_SECONDS,
    precision: float = 0.1,
    on_progress: Callable[[str], None] | None = None,
) -> float:
    """Seconds that an idle mapping towards `server` lives, at least. Takes about two to three times that.

    ServerError when the server does not answer or does not know RESPONSE-PORT.
    """
    if not await _survives(server, 0.0):
        raise ServerError(
            join_host_port(server), "it does not answer to another port (RESPONSE-PORT, RFC 5780 section 7.5)"
        )
    search = LifetimeSearch(shortest, longest, precision)
    while waits := search.next_waits():
        if on_progress is not None:
            on_progress(f"Leaving mappings alone for {waits[0]:.0f} to {waits[-1]:.0f} s")
        alive = await asyncio.gather(*(_survives(server, wait) for wait in waits))
        for waited, lived in zip(waits, alive, strict=True):
            search.note(waited, lived)
        if search.lived and search.died == float("inf") and search.lived < search.longest:
            break  # the longer ones were lost on the way, or died late: what lived is known
    return search.lifetime


async def _survives(server: TransportAddress, wait: float) -> bool:
    """Makes a mapping, waits, and asks from another socket for an answer to its external port."""
    host = source_towards(server)
    if host is None:
        raise ServerError(join_host_port(server), "no route")
    idle = await StunSocket.open((host, 0))
    asking = await DatagramSocket.open((host, 0))
    try:
        seen = await idle.ask(server, BindingOptions(rc=4, rm=4))
        if isinstance(seen, BindingFailure):
            raise BindingFailed(join_host_port(server), seen)
        await asyncio.sleep(wait)
        return await _is_reached(idle, asking, server, seen)
    finally:
        idle.close()
        asking.close()


async def _is_reached(
    idle: StunSocket, asking: DatagramSocket, server: TransportAddress, seen: BindingAnswer
) -> bool:
    request = binding_request(BindingOptions(response_port=seen.mapped.port))
    send = Send(request.encode(), server)
    arrived = asyncio.get_running_loop().create_future()

    def received(data: bytes, source: TransportAddress) -> None:
        if data[8:20] == request.transaction_id and source == server and not arrived.done():
            arrived.set_result(True)

    idle.on_datagram = received
    for _ in range(_RETRANSMISSIONS):
        asking.send(send.data, send.to)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS / _RETRANSMISSIONS):
                await asyncio.shield(arrived)
            return True
        except TimeoutError:
            continue
    return False
