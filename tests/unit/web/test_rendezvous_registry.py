"""Who is connected, without sockets."""

from stunwire.rendezvous import DEVICES_PER_KEY, From, Result
from turnrelay.web.rendezvous.registry import Registry

ALICE, BOB = b"a" * 32, b"b" * 32


class Inbox:
    def __init__(self, room: int = 100) -> None:
        self.frames: list[bytes] = []
        self.room = room

    def offer(self, frame: bytes) -> bool:
        taken = len(self.frames) < self.room
        if taken:
            self.frames.append(frame)
        return taken


def registry() -> Registry[Inbox]:
    return Registry(messages_per_second=1, burst=2)


def test_keys_are_forgotten_with_their_last_device():
    known = registry()
    for number in range(1000):
        devices = [Inbox(), Inbox()]
        key = number.to_bytes(32, "big")
        for device in devices:
            known.add(key, device, 0)
        for device in devices:
            assert known.keys == 1
            known.remove(key, device)
    assert known.keys == 0


def test_a_device_that_had_to_leave_is_not_removed_twice():
    known, devices = registry(), [Inbox() for _ in range(DEVICES_PER_KEY + 1)]
    left = [known.add(ALICE, device, 0) for device in devices]
    assert left == [None] * DEVICES_PER_KEY + [devices[0]]
    known.remove(ALICE, devices[0])
    for device in devices[1:]:
        assert known.keys == 1
        known.remove(ALICE, device)
    assert known.keys == 0


def test_a_message_is_delivered_if_one_device_takes_it_and_congested_if_none_does():
    known, alice, full, free = registry(), Inbox(), Inbox(room=0), Inbox(room=1)
    known.add(ALICE, alice, 0)
    known.add(BOB, full, 0)
    known.add(BOB, free, 0)
    assert known.send(ALICE, alice, BOB, b"1", 0) is Result.DELIVERED
    assert free.frames == [From(ALICE, b"1").encode()]
    assert known.send(ALICE, alice, BOB, b"2", 0) is Result.CONGESTED


def test_absent_keys_cost_of_the_rate_too_and_it_comes_back_with_time():
    known, alice = registry(), Inbox()
    known.add(ALICE, alice, 0)
    results = [known.send(ALICE, alice, BOB, b"?", now) for now in (0, 0, 0, 0.9, 1.0, 1.0)]
    absent, throttled = Result.ABSENT, Result.THROTTLED
    assert results == [absent, absent, throttled, throttled, absent, throttled]


def test_a_device_that_has_left_sends_nothing_more():
    known, alice, bob = registry(), Inbox(), Inbox()
    known.add(BOB, bob, 0)
    assert known.send(ALICE, alice, BOB, b"late", 0) is Result.THROTTLED
    assert bob.frames == []
