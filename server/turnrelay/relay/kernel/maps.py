"""Map: entries that the process and the programs share."""

import ctypes
import mmap
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

from turnrelay.relay.kernel import syscall
from turnrelay.relay.kernel.layouts import MapDefinition

Value = TypeVar("Value", bound=ctypes.Structure)
Key = syscall.Key

_POSSIBLE_CPUS = Path("/sys/devices/system/cpu/possible")


class Map(Generic[Value]):
    """One BPF map, whose values are of one Structure."""

    def __init__(self, name: str, definition: MapDefinition, value_type: type[Value], entries: int) -> None:
        """`entries` counts where the definition leaves the size open. Raises OSError."""
        self.name = name
        self.max_entries: int = definition.max_entries or entries
        self._value_type = value_type
        self._value_bytes = ctypes.sizeof(value_type)
        self.fd = syscall.create_map(
            name,
            definition.type,
            definition.key_size,
            definition.value_size,
            self.max_entries,
            definition.flags,
        )

    def get(self, key: Key) -> Value | None:
        value = self._value_type()
        return value if syscall.look_up(self.fd, key, value) else None

    def set(self, key: Key, value: Value) -> None:
        """Replaces the entry as a whole: no program ever sees a part of it."""
        syscall.update(self.fd, key, value)

    def set_all(self, entries: Sequence[tuple[Key, Value]]) -> None:
        """Likewise, each by itself, with one system call for all."""
        keys, values = zip(*entries, strict=True)
        count = len(entries)
        syscall.update_all(self.fd, (type(keys[0]) * count)(*keys), (self._value_type * count)(*values))

    def delete(self, key: Key) -> bool:
        """Whether it was there."""
        return syscall.delete(self.fd, key)

    def zero(self, numbers: Sequence[int]) -> None:
        """These entries of an array."""
        keys = (ctypes.c_uint32 * len(numbers))(*numbers)
        syscall.update_all(self.fd, keys, ctypes.create_string_buffer(self._value_bytes * len(numbers)))

    def close(self) -> None:
        os.close(self.fd)


class PerCpuMap(Map[Value]):
    """A map of which each CPU has its own values."""

    def __init__(self, name: str, definition: MapDefinition, value_type: type[Value], entries: int) -> None:
        super().__init__(name, definition, value_type, entries)
        self._value_bytes = (ctypes.sizeof(value_type) + 7 & ~7) * possible_cpus()

    def sums(self, key: ctypes.c_uint32) -> list[int]:
        """The fields, summed over the CPUs; for Structures of 64-bit fields."""
        return sums_over_cpus(self.fd, self._value_type, key)


class SharedArray(Map[Value]):
    """An array in memory that this process and the programs see alike: no system call an access."""

    def __init__(self, name: str, definition: MapDefinition, value_type: type[Value], entries: int) -> None:
        super().__init__(name, definition, value_type, entries)
        size = ctypes.sizeof(value_type) * self.max_entries
        self._memory = mmap.mmap(self.fd, size + -size % mmap.PAGESIZE)

    def at(self, index: int) -> Value:
        """The entry itself: what is assigned to its fields, the programs see."""
        if not 0 <= index < self.max_entries:
            raise IndexError(index)
        return self._value_type.from_buffer(self._memory, index * ctypes.sizeof(self._value_type))


def sums_over_cpus(map_fd: int, value_type: type[ctypes.Structure], key: ctypes.c_uint32) -> list[int]:
    """The fields of an entry of which each CPU has its own, summed; for Structures of 64-bit fields."""
    fields = (ctypes.sizeof(value_type) + 7) // 8
    buffer = ctypes.create_string_buffer(8 * fields * possible_cpus())
    syscall.look_up_into(map_fd, key, buffer)
    words = memoryview(buffer).cast("B").cast("Q")
    return [sum(words[index::fields]) for index in range(fields)]


@cache
def possible_cpus() -> int:
    """How many values a map with one for each CPU has; more than there are CPUs, on some machines."""
    last = _POSSIBLE_CPUS.read_text().strip().rpartition(",")[2].rpartition("-")[2]
    return int(last) + 1
