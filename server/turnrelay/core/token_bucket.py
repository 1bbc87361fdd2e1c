"""TokenBucket: a rate with a burst."""


class TokenBucket:
    """Admits `rate` units a second on average and at most `burst` at once.

    Time is an argument (seconds of any one clock). Used for bytes on the data path and for requests.
    """

    __slots__ = ("burst", "level", "rate", "updated_at")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self.level = burst
        self.updated_at = now

    def take(self, amount: float, now: float) -> bool:
        """Spends `amount` if the bucket holds it; leaves the bucket as it is otherwise."""
        level = self.level + (now - self.updated_at) * self.rate
        if level > self.burst:
            level = self.burst
        self.updated_at = now
        if level < amount:
            self.level = level
            return False
        self.level = level - amount
        return True

    def give_back(self, amount: float) -> None:
        """Undoes a `take` of the same moment."""
        self.level += amount
