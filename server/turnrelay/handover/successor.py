"""Successor: a process that was started to go on where another one stops."""

import os
import socket

from turnrelay.core.addresses import Transport
from turnrelay.handover.core_state import addresses
from turnrelay.handover.crew import ComingCrew
from turnrelay.handover.elsewhere import until_gone
from turnrelay.handover.estate import Estate
from turnrelay.handover.format import FormatError, Offer, read_offer
from turnrelay.handover.inheritance import Inheritance
from turnrelay.handover.predecessor import VARIABLE
from turnrelay.handover.wire import FAILED, HOLDINGS, OFFER, READY, SERVING, Wire, WireError, close_all
from turnrelay.policy.errors import OperatorError
from turnrelay.relay.kernel.attachments import GivenDevice
from turnrelay.relay.plane import RelayHost
from turnrelay.settings import Settings
from turnrelay.transports.given_sockets import HTTP, SHARED, GivenSockets
from turnrelay.web.application import listening_socket
from turnrelay.workers.doors import Door
from turnrelay.workers.place import Legacy
from turnrelay.workers.ports import PortMap, ports_of_others
from turnrelay.workers.supervisor import Supervisor

_WAIT_SECONDS = 60.0
_SAY_SECONDS = 5.0


class Successor:
    """Whatever fails before `tell_serving` ends this process and leaves the predecessor as it was."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._wire = Wire(sock)
        self.pid_file: int | None = None
        """The descriptor of the file, with its lock."""
        self._kernel_maps: tuple[int, int] | None = None
        """The predecessor's counters and totals."""
        self._inheritance: Inheritance | None = None
        self._doors: list[Door] = []
        self._ports: PortMap | None = None
        self._wires: list[socket.socket] = []
        """Of several workers, from each of the predecessor's to the one that goes on for it."""
        self._crew: ComingCrew | None = None
        self.given = GivenSockets()

    @classmethod
    def from_environment(cls) -> "Successor | None":
        """None if nobody is succeeded."""
        number = os.environ.pop(VARIABLE, None)
        return None if number is None else cls(socket.socket(fileno=int(number)))

    def receive_offer(self, workers: int) -> Legacy:
        """Waits for what the predecessor offers; OperatorError if this version with so many workers cannot
        go on with it."""
        body, descriptors = self._receive(OFFER)
        offer = self._read_offer(body)
        if offer.workers != workers:
            close_all(descriptors)
            raise OperatorError(
                f"the running relay has {_workers(offer.workers)} and the settings ask for "
                f"{_workers(workers)}, and each goes on for one of them: set workers to {offer.workers}, or "
                "drain the relay and start the next one"
            )
        return self._legacy(offer, descriptors)

    def close_in_nursery(self) -> None:
        """The process that workers are forked off has nothing to say, and nothing to keep open."""
        self._close_given()
        self._sock.close()
        for sock in self._wires:
            sock.close()
        if self.pid_file is not None:
            os.close(self.pid_file)
        close_all(self._kernel_maps or ())

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

    async def prepare_workers(self, estate: Estate) -> None:
        """Starts those that go on for the predecessor's, if any; the relay has what they listen on."""
        if not isinstance(estate.place, Supervisor):
            return
        pool = estate.place.make_pool(estate.metrics, estate.own_ports)
        self._crew = ComingCrew(pool, estate.place.common.ports)
        counters = None if self._kernel_maps is None else self._kernel_maps[0]
        await self._crew.prepare(self._wires, counters)

    def wait_for_holdings(self) -> None:
        """Says that this process is ready, and takes what clients have."""
        prepared, descriptors = b"", list[int]()
        if self._crew is not None:
            prepared, descriptors = self._crew.prepared()
        self._wire.send(READY, prepared, descriptors, seconds=_SAY_SECONDS)
        self._inheritance = Inheritance(*self._receive(HOLDINGS))

    def restore(self, estate: Estate) -> None:
        """Goes on with the rest. The relay listens, and reads nothing before this is done."""
        if self._crew is not None:
            self._crew.wait_for_restored(_WAIT_SECONDS)
        self._inherited.restore(estate)

    def tell_serving(self) -> None:
        """From here on the predecessor is one no more. What is read before this, and lost with this process,
        that one could not read again. OperatorError where a worker has died since it restored."""
        if self._crew is not None:
            self._crew.must_live()
        self._wire.send(SERVING, seconds=_SAY_SECONDS)

    def tell_failed(self, reason: str) -> None:
        """Nothing was taken over."""
        try:
            self._wire.send(FAILED, reason.encode(), seconds=_SAY_SECONDS)
        except WireError:
            return  # it sees that this process ends

    def switch_planes(self, estate: Estate) -> None:
        """The kernel plane's programs become this process', and what the predecessor's counted is added.
        The workers serve from then on."""
        if estate.attachments is not None:
            estate.attachments.switch()
        if self._crew is not None:
            self._crew.serve()
        if self._kernel_maps is not None:
            counters, totals = self._kernel_maps
            self._inherited.count_totals(estate, totals)
            self._inherited.count_moved(estate, counters)
            close_all(self._kernel_maps)
            self._kernel_maps = None

    async def connect(self, estate: Estate) -> None:
        """Goes on with the clients' connections; what was for them meanwhile is sent."""
        await self._inherited.connect(estate)

    def close(self) -> None:
        """What the predecessor listened on, and this relay does not."""
        self._close_given()

    async def follow_predecessor(self, estate: Estate) -> None:
        """Until it is gone, with the clients that stayed there."""
        if self._ports is not None:
            await until_gone(self._sock)
            self._ports.clear()
            return
        inherited = self._inherited
        gone = [relay.address for relay in inherited.holdings.relays]
        await inherited.elsewhere.follow(self._sock, addresses(gone), lambda: estate.plane.relays)

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
        doors: dict[tuple[str, str, int], list[socket.socket]] = {}
        try:
            if offer.has_pid_file:
                self.pid_file = next(rest)
            for listening in offer.listening:
                sock = socket.socket(fileno=next(rest))
                if listening.worker:
                    doors.setdefault((listening.kind, listening.host, listening.port), []).append(sock)
                else:
                    self.given.add(listening.kind, listening.host, sock)
            if offer.attached is not None:
                for device in offer.attached:
                    links = {program: next(rest) for program in device.programs}
                    devices.append(GivenDevice(device.index, device.mode, links))
                self._kernel_maps = next(rest), next(rest)
            if offer.workers > 1:
                memory = next(rest)
                self._ports = ports_of_others([RelayHost(*host) for host in offer.ports], memory)
                os.close(memory)
                self._wires = [socket.socket(fileno=next(rest)) for _ in range(offer.workers)]
        except StopIteration:
            raise OperatorError("the running relay offers fewer descriptors than it lists") from None
        self._doors = [
            Door(Transport(kind), host, port, tuple(sockets)) for (kind, host, port), sockets in doors.items()
        ]
        return Legacy(offer.nonce_keys, offer.self_test_user, self.given, devices, self._doors, self._ports)

    def _close_given(self) -> None:
        self.given.close()
        while self._doors:
            self._doors.pop().close()

    @property
    def _inherited(self) -> Inheritance:
        assert self._inheritance is not None  # wait_for_holdings() comes first
        return self._inheritance


def _workers(number: int) -> str:
    return "one process" if number == 1 else f"{number} workers"
