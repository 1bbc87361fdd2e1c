"""HolePunch: the sans-IO core of simultaneous UDP hole punching.

Both sides send Binding requests to each other until they get through, and answer those that do:

    probe        a request with a transaction ID of 96 random bits
    ack          the response to it: the way there and the way back both work, for the one who asked
    ack-of-ack   a request with USE-CANDIDATE: whoever sends it has got an ack

A side is through when it has got an ack and an ack-of-ack: then both know of both directions. It stays until
its own ack-of-ack is answered, so that the other side is not left waiting for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from stunwire import (
    USE_CANDIDATE,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    DecodeError,
    Message,
    MessageClass,
    Method,
    TransportAddress,
    short_term_key,
)


@dataclass(frozen=True, slots=True)
class SendTo:
    """One datagram."""

    data: bytes
    to: TransportAddress


@dataclass(frozen=True, slots=True)
class Punched:
    """Both directions work, and both sides know. `round_trip` is in seconds."""

    remote: TransportAddress
    """Where the peer is reached: another port than was said, if its NAT chose another one for us."""
    mapped: TransportAddress | None
    """How the peer sees us."""
    round_trip: float


Output = SendTo | Punched

FIRST_INTERVAL = 0.05
LONGEST_INTERVAL = 1.0
_BACKOFF = 1.5
_SETTLING_INTERVAL = 0.1
"""Between requests once something came through: no NAT needs to be spared any more."""
_PATIENCE = 0.5
"""Seconds to wait for the answer to an ack-of-ack when the peer may be through and gone."""
_MAX_PORTS = 8


@dataclass(slots=True)
class _Probe:
    to: TransportAddress
    sent_at: float
    acknowledges: bool


class HolePunch:
    """One attempt towards `peer`. It never ends by itself but by success: the caller knows its patience.

    Packets from other hosts than the peer's are ignored; other ports of its host are answered and tried, as
    a NAT may have chosen another one. With `password` every message is sealed (RFC 8489 section 9.1) and
    strangers behind the peer's address cannot take its place.
    """

    def __init__(self, peer: TransportAddress, *, password: str | None = None) -> None:
        self._key = None if password is None else short_term_key(password)
        self._remotes = [peer]
        self._probes: dict[bytes, _Probe] = {}
        self._interval = FIRST_INTERVAL
        self._next_at: float | None = None
        self._confirmed: Punched | None = None
        self._acknowledged = False
        """The peer has got an ack."""
        self._acknowledged_us = False
        """The peer has answered our ack-of-ack."""
        self._leave_at: float | None = None
        self.punched = False

    def start(self, now: float) -> list[Output]:
        return self._probe(now)

    def receive(self, data: bytes, source: TransportAddress, now: float) -> list[Output]:
        """Whatever came in on the socket. What is none of ours is ignored."""
        if source.host != self._remotes[0].host:
            return []
        try:
            message = Message.decode(data)
        except DecodeError:
            return []
        if message.method != Method.BINDING or not self._is_genuine(message):
            return []
        if message.message_class is MessageClass.REQUEST:
            return self._requested(message, source, now)
        if message.message_class is MessageClass.SUCCESS_RESPONSE:
            return self._answered(message, source, now)
        return []

    def next_deadline(self) -> float | None:
        moments = [moment for moment in (self._next_at, self._leave_at) if moment is not None]
        return min(moments, default=None)

    def handle_timeout(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        if self._leave_at is not None and now >= self._leave_at:
            return self._succeed()
        if self._next_at is not None and now >= self._next_at:
            outputs += self._probe(now)
        return outputs

    # -- probe, ack, ack-of-ack --------------------------------------------------------------------------

    def _probe(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        targets = self._remotes if self._confirmed is None else [self._confirmed.remote]
        for remote in targets:
            message = Message(MessageClass.REQUEST, Method.BINDING)
            if self._key is not None:
                message.add(USERNAME, "punch")
            if self._confirmed is not None:
                message.add(USE_CANDIDATE, True)
            self._probes[message.transaction_id] = _Probe(remote, now, self._confirmed is not None)
            outputs.append(SendTo(message.encode(self._key, fingerprint=True), remote))
        self._next_at = now + self._interval
        if self._confirmed is None:
            self._interval = min(self._interval * _BACKOFF, LONGEST_INTERVAL)
        return outputs

    def _requested(self, message: Message, source: TransportAddress, now: float) -> list[Output]:
        response = Message.success_to(message).add(XOR_MAPPED_ADDRESS, source)
        outputs: list[Output] = [SendTo(response.encode(self._key, fingerprint=True), source)]
        if USE_CANDIDATE in message:
            self._acknowledged = True
        elif source not in self._remotes and len(self._remotes) < _MAX_PORTS:
            self._remotes.append(source)
        if self._confirmed is None and self._interval > _SETTLING_INTERVAL:
            # Something came in, so the way out is open at their end: no reason to hold back any longer.
            self._interval = _SETTLING_INTERVAL
            outputs += self._probe(now)
        return outputs + self._conclude(now)

    def _answered(self, message: Message, source: TransportAddress, now: float) -> list[Output]:
        probe = self._probes.pop(message.transaction_id, None)
        if probe is None or probe.to != source:
            return []
        outputs: list[Output] = []
        if probe.acknowledges:
            self._acknowledged_us = True
        elif self._confirmed is None:
            mapped = message.get(XOR_MAPPED_ADDRESS)
            self._confirmed = Punched(source, mapped, now - probe.sent_at)
            self._interval = _SETTLING_INTERVAL
            outputs += self._probe(now)
        return outputs + self._conclude(now)

    def _conclude(self, now: float) -> list[Output]:
        if self.punched or self._confirmed is None or not self._acknowledged:
            return []
        if self._acknowledged_us:
            return self._succeed()
        if self._leave_at is None:
            self._leave_at = now + _PATIENCE + 2 * self._confirmed.round_trip
        return []

    def _succeed(self) -> list[Output]:
        assert self._confirmed is not None
        self.punched = True
        self._next_at = self._leave_at = None
        return [self._confirmed]

    def _is_genuine(self, message: Message) -> bool:
        """FINGERPRINT keeps application data apart; the seal keeps strangers out."""
        if not message.has_fingerprint:
            return False
        if self._key is None:
            return True
        integrity = message.integrity
        return integrity is not None and message.verify(self._key, integrity)
