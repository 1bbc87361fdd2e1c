"""GatewayClient: one mapping at one gateway, from the first request to the deletion. Sans-IO.

PCP (`pcp`) and NAT-PMP (`nat_pmp`) ask, repeat, renew and notice a reboot in the same way; what they write
and read differs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from stunwire import TransportAddress

from peerpath.portmap.announcement import epoch_announced
from peerpath.portmap.epoch import Epoch
from peerpath.portmap.lease import Lease
from peerpath.portmap.mapping import (
    Granted,
    Lost,
    Mapping,
    MappingMethod,
    Output,
    Refused,
    SendToGateway,
    objection,
)

LIFETIME = 7200
"""Seconds asked for (RFC 6886 section 3.3 recommends two hours)."""

MAX_ANSWER = 1100
"""Bytes of a PCP message (RFC 6887 section 7)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The gateway says yes. `external` None: only one of two steps is done."""

    external: TransportAddress | None
    lifetime: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Denial:
    """The gateway says no; `for_now` if it may say yes soon."""

    reason: str
    for_now: bool = False


@dataclass(frozen=True, slots=True)
class Noise:
    """No answer to us, or one that cannot be believed: as if it had not come, but kept for the report."""

    reason: str


Reading = Answer | Denial | Noise


class GatewayClient(ABC):
    """`internal` is the socket; `transport` "udp" or "tcp". Datagrams come from the gateway's address alone:
    the caller sees to that. Every method returns what to do; nothing that a gateway sends raises.
    """

    method: ClassVar[MappingMethod]

    def __init__(
        self, internal: TransportAddress, *, transport: str = "udp", lifetime: int = LIFETIME
    ) -> None:
        self.internal = internal
        self.transport = transport
        self.mapping: Mapping | None = None
        self._lifetime = lifetime
        self._lease = Lease()
        self._epoch = Epoch()
        self._doubt = ""
        self._asked = False

    def start(self, now: float) -> list[Output]:
        self._lease.begin(now)
        return self._ask(now)

    def receive(self, data: bytes, now: float) -> list[Output]:
        """An answer of the gateway."""
        reading = Noise("too long") if len(data) > MAX_ANSWER else self._read(data)
        if isinstance(reading, Noise):
            self._doubt = reading.reason
            return []
        if self._lease.attempts == 0:
            return []  # the answer to a repetition, after that to the first request
        if isinstance(reading, Denial):
            if reading.for_now and self._lease.is_forgotten:
                self._lease.postpone(now)
                return []
            self._asked = False
            return self._finish(reading.reason)
        if not self._epoch.hear(reading.epoch, now) and self.mapping is not None and self._forgotten():
            self._lease.begin_anew(now)
            return self._ask(now)
        if reading.external is None:
            return self._first_step_done(now)
        complaint = objection(reading.external)
        if complaint or reading.lifetime <= 0:
            return [*self._finish(complaint or "the gateway gave it for no time at all"), *self._delete()]
        self._lease.granted(now, reading.lifetime)
        before = self.mapping
        self.mapping = Mapping(self.method, self.internal, reading.external, reading.lifetime, self.transport)
        if before is not None and before.external == self.mapping.external:
            return []
        return [Granted(self.mapping)]

    def announced(self, data: bytes, now: float) -> list[Output]:
        """What the gateway tells all of its network (RFC 6887 section 14.1.1, RFC 6886 section 3.2.1)."""
        epoch = epoch_announced(data)
        if epoch is None or self.mapping is None or self._lease.attempts:
            return []
        if self._epoch.hear(epoch, now):
            return []
        self._forgotten()
        self._lease.begin_anew(now)
        return self._ask(now)

    def next_deadline(self) -> float | None:
        moments = (self._lease.next_at, self._lease.expires_at)
        return min((moment for moment in moments if moment is not None), default=None)

    def handle_timeout(self, now: float) -> list[Output]:
        lease = self._lease
        if lease.expires_at is not None and now >= lease.expires_at:
            return self._finish("the gateway did not renew it")
        if lease.next_at is None or now < lease.next_at:
            return []
        if not lease.is_spent:
            return self._ask(now)
        if self.mapping is not None:
            lease.postpone(now)
            return []
        return self._finish(f"its answers are of no use: {self._doubt}" if self._doubt else "no answer")

    def close(self, now: float) -> list[Output]:
        """Gives the mapping back; the answer is not waited for."""
        asked = self._asked
        self._lease.end()
        self.mapping = None
        return self._delete() if asked else []

    # -- steps ------------------------------------------------------------------------------------------

    def _ask(self, now: float) -> list[Output]:
        self._asked = self._asked or self._asks_for_port
        self._lease.sent(now)
        return [SendToGateway(self._request(self._lifetime))]

    def _delete(self) -> list[Output]:
        self._asked = False
        return [SendToGateway(self._request(0))]

    def _finish(self, reason: str) -> list[Output]:
        held, self.mapping = self.mapping, None
        self._lease.end()
        return [Lost(reason) if held is not None else Refused(reason)]

    # -- what the protocols differ in -------------------------------------------------------------------

    @property
    def _asks_for_port(self) -> bool:
        """Whether the next request may leave a mapping behind."""
        return True

    @abstractmethod
    def _request(self, lifetime: int) -> bytes:
        """The next request; with a lifetime of 0 the one that deletes."""

    @abstractmethod
    def _read(self, data: bytes) -> Reading:
        """What the gateway answered."""

    def _forgotten(self) -> bool:
        """The gateway has rebooted. Whether the answer that says so may be half an old one."""
        return False

    def _first_step_done(self, now: float) -> list[Output]:
        """The gateway is there; a dialect of one step never gets here."""
        return []
