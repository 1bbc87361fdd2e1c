"""BucketArray: the buckets that the programs and all processes spend from."""

from turnrelay.relay.kernel import syscall
from turnrelay.relay.kernel.layouts import Bucket, MapDefinition, Spending
from turnrelay.relay.kernel.maps import SharedArray


class BucketArray(SharedArray[Bucket]):
    """Levels are read as memory is. Spending is a program's, which lets nobody's get lost."""

    def __init__(self, name: str, definition: MapDefinition, entries: int) -> None:
        super().__init__(name, definition, Bucket, entries)
        self._spending = Spending()
        self._run: syscall.Run | None = None

    def spend_by(self, program_fd: int) -> None:
        """The program that spends; to be told before the first `spend`."""
        self._run = syscall.run_of(program_fd, self._spending)

    def spend(self, index: int, cost_ns: int, now_ns: int) -> bool:
        """Takes what the bucket earns in `cost_ns`, if it holds so much; raises OSError."""
        spending, run = self._spending, self._run
        assert run is not None
        spending.bucket, spending.cost_ns, spending.now_ns = index, cost_ns, now_ns
        syscall.run(run)
        return bool(run.result)
