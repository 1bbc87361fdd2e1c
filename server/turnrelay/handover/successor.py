"""Successor: a process that was started to go on where another one stops."""

import ctypes
import os
import socket

from turnrelay.handover.core_state import addresses, path_of, restore
from turnrelay.handover.elsewhere import AlsoElsewhere, Elsewhere
from turnrelay.handover.estate import Estate
from turnrelay.handover.format import FormatError, Holdings, Offer, read_holdings, read_offer
from turnrelay.handover.predecessor import VARIABLE
from turnrelay.handover.wire import FAILED, HOLDINGS, OFFER, READY, SERVING, Wire, WireError, close_all
from turnrelay.policy.errors import OperatorError
from turnrelay.relay.kernel.attachments import GivenDevice
from turnrelay.relay.kernel.layouts import Counter
from turnrelay.relay.kernel.layouts import Totals as KernelTotals
from turnrelay.relay.kernel.maps import sums_over_cpus
from turnrelay.relay.kernel.plane import XdpPlane
from turnrelay.relay.plane import Traffic
from turnrelay.settings import Settings
from turnrelay.transports.given_sockets import HTTP, SHARED, GivenSockets
from turnrelay.transports.stream import StreamConnection
from turnrelay.web.application import listening_socket
from turnrelay.workers.place import Legacy
from turnrelay.workers.totals import Totals

_WAIT_SECONDS = 60.0
_SAY_SECONDS = 5.0
_PREDECESSOR = 0
"""Its number among those whose figures are added up."""


class Successor:
    """Whatever fails before `tell_serving` ends this process and leaves the predecessor as it was."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._wire = Wire(sock)
        self.pid_file: int | None = None
        """The descriptor of the file, with its lock."""
        self._kernel_maps: tuple[int, int] | None = None
        """The predecessor's counters and totals."""
        self._connections: list[tuple[StreamConnection, socket.socket]] = []
        self._elsewhere = Elsewhere({})
        self._holdings: Holdings | None = None
        self._descriptors: list[int] = []
        self.given = GivenSockets()

    @classmethod
    def from_environment(cls) -> "Successor | None":
        """None if nobody is succeeded."""
        number = os.environ.pop(VARIABLE, None)
        return None if number is None else cls(socket.socket(fileno=int(number)))

    def receive_offer(self) -> Legacy:
        """Waits for what the predecessor offers; OperatorError if this version cannot go on with it."""
        body, descriptors = self._receive(OFFER)
        return self._legacy(self._read_offer(body), descriptors)

    def bind_the_rest(self, settings: Settings) -> None:
        """Opens what the HTTP side listens on and the predecessor does not: were it in use, this is the time
        to know. OperatorError says so."""
        wanted = [(SHARED, address) for address in settings.shared]
        if settings.http is not None:
            wanted.append((HTTP, settings.http))
        for kind, address in wanted:
            host, port = address.host, address.port
            if self.given.has(kind, host, port):
                continue
            try:
                self.given.add(kind, host, listening_socket(host, port))
            except OSError as error:
                raise OperatorError(
                    f"cannot listen on {host} port {port}: {error.strerror or error}"
                ) from None

    def wait_for_holdings(self) -> None:
        """Says that this process is ready, and takes what clients have."""
        self._wire.send(READY, seconds=_SAY_SECONDS)
        body, self._descriptors = self._receive(HOLDINGS)
        try:
            self._holdings = read_holdings(body)
        except FormatError as error:
            raise OperatorError(f"cannot go on with what the running relay hands over: {error}") from None

    def restore(self, estate: Estate) -> None:
        """Goes on with the rest. The relay listens, and reads nothing before this is done."""
        holdings, now = self._held, estate.driver.clock()
        relays = len(holdings.relays)
        if len(self._descriptors) != relays + len(holdings.connections):
            raise OperatorError("the running relay hands over more or fewer sockets than it lists")
        sockets = [socket.socket(fileno=descriptor) for descriptor in self._descriptors]
        for sock in sockets:
            sock.setblocking(False)
        self._elsewhere = Elsewhere(
            dict(zip(addresses([relay for relay, _ in holdings.elsewhere]), self._locals(), strict=True))
        )
        state = estate.driver.server.state
        if self._elsewhere:
            estate.plane.use_neighbours(self._elsewhere)
            state.peers = AlsoElsewhere(state.peers, self._elsewhere)
        for part, sock in zip(holdings.relays, sockets[:relays], strict=True):
            [relay] = addresses([part.address])
            relay_socket = estate.plane.adopt(sock, relay, part.account)
            relay_socket.earlier_traffic = Traffic(*part.traffic)
            bandwidth = relay_socket.bandwidth
            for bucket, level in zip((bandwidth.allocation, bandwidth.account), part.buckets, strict=True):
                if bucket is not None and level is not None:
                    bucket.fill_to(level, now)
        grants = restore(state, holdings, estate.plane.relays, now)
        estate.listeners.keep_listening_for({path.server for path in state.allocations})
        for connection, sock in zip(holdings.connections, sockets[relays:], strict=True):
            expected = estate.listeners.expect(path_of(connection.path), connection.unread)
            self._connections.append((expected, sock))
        estate.driver.carry_out(grants)
        for token in holdings.spent_tokens:
            estate.outcome_tokens.take_over(token.forget_at, token.token)
        estate.metrics.page = totals = Totals(estate.metrics.registry)
        totals.tell(_PREDECESSOR, [[s.family, s.sample, s.labels, s.value] for s in holdings.counters])
        totals.ended(_PREDECESSOR)

    def tell_serving(self) -> None:
        """From here on the predecessor is one no more. What is read before this, and lost with this process,
        that one could not read again."""
        self._wire.send(SERVING, seconds=_SAY_SECONDS)

    def tell_failed(self, reason: str) -> None:
        """Nothing was taken over."""
        try:
            self._wire.send(FAILED, reason.encode(), seconds=_SAY_SECONDS)
        except WireError:
            return  # it sees that this process ends

    async def connect(self, estate: Estate) -> None:
        """Goes on with the clients' connections; what was for them meanwhile is sent."""
        for connection, sock in self._connections:
            await estate.listeners.connect(connection, sock)

    def switch_planes(self, estate: Estate) -> None:
        """The kernel plane's programs become this process', and what the predecessor's counted is added."""
        if estate.attachments is not None:
            estate.attachments.switch()
        if self._kernel_maps is None:
            return
        counters, totals = self._kernel_maps
        before = self._held.kernel_totals
        if isinstance(estate.plane, XdpPlane) and before is not None:
            after = sums_over_cpus(totals, KernelTotals, ctypes.c_uint32(0))
            estate.plane.count_late([now - then for now, then in zip(after, before, strict=True)])
        for part in self._held.relays:
            [relay] = addresses([part.address])
            relay_socket = estate.plane.relays.get(relay)
            if relay_socket is None:
                continue
            for slot in part.slots:
                moved = [sums_over_cpus(counters, Counter, ctypes.c_uint32(slot + way)) for way in (0, 1)]
                relay_socket.earlier_traffic.add(Traffic(*moved[0], *moved[1]))
        close_all(self._kernel_maps)
        self._kernel_maps = None

    async def follow_predecessor(self, estate: Estate) -> None:
        """Until it is gone, with the clients that stayed there."""
        gone = addresses([part.address for part in self._held.relays])
        await self._elsewhere.follow(self._sock, gone, lambda: estate.plane.relays)

    # -- the steps --------------------------------------------------------------------------------------

    def _receive(self, wanted: str) -> tuple[bytes, list[int]]:
        try:
            kind, body, descriptors = self._wire.receive(seconds=_WAIT_SECONDS)
        except WireError as error:
            raise OperatorError(f"cannot take over from the running relay: {error}") from None
        if kind != wanted:
            raise OperatorError(f"the running relay says {kind} where {wanted} is expected")
        return body, descriptors

    def _read_offer(self, body: bytes) -> Offer:
        try:
            return read_offer(body)
        except FormatError as error:
            raise OperatorError(f"cannot go on with what the running relay hands over: {error}") from None

    def _legacy(self, offer: Offer, descriptors: list[int]) -> Legacy:
        rest = iter(descriptors)
        devices: list[GivenDevice] = []
        try:
            if offer.has_pid_file:
                self.pid_file = next(rest)
            for listening in offer.listening:
                self.given.add(listening.kind, listening.host, socket.socket(fileno=next(rest)))
            if offer.attached is not None:
                for device in offer.attached:
                    links = {program: next(rest) for program in device.programs}
                    devices.append(GivenDevice(device.index, device.mode, links))
                self._kernel_maps = next(rest), next(rest)
        except StopIteration:
            raise OperatorError("the running relay offers fewer descriptors than it lists") from None
        return Legacy(offer.nonce_keys, offer.self_test_user, self.given, devices)

    @property
    def _held(self) -> Holdings:
        assert self._holdings is not None  # wait_for_holdings() comes first
        return self._holdings

    def _locals(self) -> list[tuple[str, int]]:
        return [local for _, local in self._held.elsewhere]
