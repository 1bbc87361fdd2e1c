"""Inheritance: what clients had in another process, and how it lives on in this one."""

import ctypes
import socket

from turnrelay.handover.core_state import addresses, path_of, restore
from turnrelay.handover.elsewhere import AlsoElsewhere, Elsewhere
from turnrelay.handover.estate import Estate
from turnrelay.handover.format import FormatError, read_holdings
from turnrelay.policy.errors import OperatorError
from turnrelay.relay.kernel.layouts import Counter
from turnrelay.relay.kernel.layouts import Totals as KernelTotals
from turnrelay.relay.kernel.maps import sums_over_cpus
from turnrelay.relay.kernel.plane import XdpPlane
from turnrelay.relay.plane import Traffic
from turnrelay.transports.stream import StreamConnection
from turnrelay.workers.totals import Totals


class Inheritance:
    """Holdings with their descriptors, once they have come."""

    def __init__(self, body: bytes, descriptors: list[int]) -> None:
        """Owns the descriptors; OperatorError for what this version does not understand."""
        try:
            self.holdings = read_holdings(body)
        except FormatError as error:
            raise OperatorError(f"cannot go on with what the running relay hands over: {error}") from None
        held = self.holdings
        if len(descriptors) != len(held.relays) + len(held.connections) + len(held.listening):
            raise OperatorError("the running relay hands over more or fewer sockets than it lists")
        self._sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        self._connections: list[tuple[StreamConnection, socket.socket]] = []
        self.elsewhere = Elsewhere(
            dict(
                zip(
                    addresses([relay for relay, _ in held.elsewhere]),
                    [local for _, local in held.elsewhere],
                    strict=True,
                )
            )
        )

    def restore(self, estate: Estate) -> None:
        """Goes on with it. The relay listens, and reads nothing before this is done."""
        holdings, now = self.holdings, estate.driver.clock()
        for sock in self._sockets:
            sock.setblocking(False)
        rest = iter(self._sockets)
        state = estate.driver.server.state
        if self.elsewhere:
            estate.plane.use_neighbours(self.elsewhere)
            state.processes = AlsoElsewhere(state.processes, self.elsewhere)
        for part in holdings.relays:
            [relay] = addresses([part.address])
            relay_socket = estate.plane.adopt(next(rest), relay, part.account)
            relay_socket.earlier_traffic = Traffic(*part.traffic)
            bandwidth = relay_socket.bandwidth
            for bucket, level in zip((bandwidth.allocation, bandwidth.account), part.buckets, strict=True):
                if bucket is not None and level is not None:
                    bucket.fill_to(level, now)
        grants = restore(state, holdings, estate.plane.relays, now)
        estate.place.took_over(state.allocations.values())
        for connection in holdings.connections:
            expected = estate.listeners.expect(path_of(connection.path), connection.unread)
            self._connections.append((expected, next(rest)))
        there = {(kind, sock.getsockname()) for kind, sock in estate.listeners.sockets()}
        for listening, sock in zip(holdings.listening, rest, strict=True):
            if (listening.kind, sock.getsockname()) in there:
                sock.close()
            else:
                estate.listeners.given_sockets.add(listening.kind, listening.host, sock)
        estate.listeners.keep_listening_for({path.server for path in state.allocations})
        estate.driver.carry_out(grants)
        for token in holdings.spent_tokens:
            estate.outcome_tokens.take_over(token.forget_at, token.token)
        if holdings.counters:
            self._count_on(estate)

    async def connect(self, estate: Estate) -> None:
        """Goes on with the clients' connections; what was for them meanwhile is sent."""
        for connection, sock in self._connections:
            await estate.listeners.connect(connection, sock)

    def count_moved(self, estate: Estate, counters: int) -> None:
        """Adds what the kernel moved for each relayed address, by the map of counters of the other process,
        which no program writes any more."""
        for part in self.holdings.relays:
            [relay] = addresses([part.address])
            relay_socket = estate.plane.relays.get(relay)
            if relay_socket is None:
                continue
            for slot in part.slots:
                moved = [sums_over_cpus(counters, Counter, ctypes.c_uint32(slot + way)) for way in (0, 1)]
                relay_socket.earlier_traffic.add(Traffic(*moved[0], *moved[1]))

    def count_totals(self, estate: Estate, totals: int) -> None:
        """Likewise for all of them together, by the map of totals, since the holdings were written."""
        before = self.holdings.kernel_totals
        if isinstance(estate.plane, XdpPlane) and before is not None:
            after = sums_over_cpus(totals, KernelTotals, ctypes.c_uint32(0))
            estate.plane.count_late([now - then for now, then in zip(after, before, strict=True)])

    def _count_on(self, estate: Estate) -> None:
        page = estate.metrics.page
        totals = page if isinstance(page, Totals) else Totals(estate.metrics.registry)
        estate.metrics.page = totals
        totals.go_on([s.family, s.sample, s.labels, s.value] for s in self.holdings.counters)
