"""TokenBucket: a rate with a burst."""

from array import array
from typing import Self, TypeAlias

BucketState: TypeAlias = "array[float] | memoryview[float]"
"""Rate, burst, level and when that was: four doubles in a row, which C can spend from too."""
_RATE, _BURST, _LEVEL, _UPDATED_AT = range(4)


class TokenBucket:
    """Admits `rate` units a second on average and at most `burst` at once.

    Time is an argument (seconds of any one clock). Used for bytes on the data path and for requests.
    """

    __slots__ = ("state",)

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.state: BucketState = array("d", (rate, burst, burst, now))

    @classmethod
    def over(cls, state: "memoryview[float]") -> Self:
        """A bucket whose four doubles lie in memory that others spend from, too."""
        bucket = cls.__new__(cls)
        bucket.state = state
        return bucket

    @property
    def rate(self) -> float:
        return self.state[_RATE]

    @property
    def burst(self) -> float:
        return self.state[_BURST]

    @property
    def level(self) -> float:
        return self.state[_LEVEL]

    @level.setter
    def level(self, level: float) -> None:
        self.state[_LEVEL] = level

    @property
    def updated_at(self) -> float:
        return self.state[_UPDATED_AT]

    @updated_at.setter
    def updated_at(self, updated_at: float) -> None:
        self.state[_UPDATED_AT] = updated_at

    def level_at(self, now: float) -> float:
        """What may be spent now."""
        rate, burst, level, updated_at = self.state
        return min(level + (now - updated_at) * rate, burst)

    def fill_to(self, level: float, now: float) -> None:
        """Lets so much be spent now, and no more than a burst."""
        self.state[_LEVEL] = min(level, self.state[_BURST])
        self.state[_UPDATED_AT] = now

    def take(self, amount: float, now: float) -> bool:
        """Spends `amount` if the bucket holds it; leaves the bucket as it is otherwise."""
        state = self.state
        rate, burst, level, updated_at = state
        level += (now - updated_at) * rate
        if level > burst:
            level = burst
        state[_UPDATED_AT] = now
        if level < amount:
            state[_LEVEL] = level
            return False
        state[_LEVEL] = level - amount
        return True

    def give_back(self, amount: float) -> None:
        """Undoes a `take` of the same moment."""
        self.state[_LEVEL] += amount
