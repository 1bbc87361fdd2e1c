"""Registry: which devices of which keys are connected, and what gets from one to another. No sockets."""

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from stunwire.rendezvous import DEVICES_PER_KEY, From, Result

from turnrelay.core.token_bucket import TokenBucket


class Receiver(Protocol):
    """Somebody a frame can be given to at once."""

    def offer(self, frame: bytes) -> bool:
        """False if it takes no more now."""


SomeDevice = TypeVar("SomeDevice", bound=Receiver)


@dataclass(slots=True)
class _Entry(Generic[SomeDevice]):
    bucket: TokenBucket
    devices: list[SomeDevice] = field(default_factory=list)
    """In the order of registration."""


class Registry(Generic[SomeDevice]):
    """Keys exist here while a device of theirs is connected, and not a moment longer."""

    def __init__(self, messages_per_second: float, burst: float) -> None:
        """How much the devices of one key may send together."""
        self._rate = messages_per_second
        self._burst = burst
        self._entries: dict[bytes, _Entry[SomeDevice]] = {}

    @property
    def keys(self) -> int:
        """How many keys are connected."""
        return len(self._entries)

    def add(self, key: bytes, device: SomeDevice, now: float) -> SomeDevice | None:
        """Connects a device; the one that had to leave for it, if any."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(TokenBucket(self._rate, self._burst, now))
        entry.devices.append(device)
        # The newest stays: a client that lost its network comes back before its old connection is known dead.
        return entry.devices.pop(0) if len(entry.devices) > DEVICES_PER_KEY else None

    def remove(self, key: bytes, device: SomeDevice) -> None:
        """Disconnects a device; one that had to leave is gone already."""
        entry = self._entries.get(key)
        if entry is not None and device in entry.devices:
            entry.devices.remove(device)
            if not entry.devices:
                del self._entries[key]

    def send(self, sender: bytes, device: SomeDevice, to: bytes, message: bytes, now: float) -> Result:
        """Gives a message of a connected key to every device of another, or to its own other devices."""
        entry = self._entries.get(sender)
        if entry is None or not entry.bucket.take(1, now):
            return Result.THROTTLED
        receiving = self._entries.get(to)
        others = [other for other in receiving.devices if other is not device] if receiving else []
        if not others:
            return Result.ABSENT
        frame = From(sender, message).encode()
        taken = sum(other.offer(frame) for other in others)
        return Result.DELIVERED if taken else Result.CONGESTED
