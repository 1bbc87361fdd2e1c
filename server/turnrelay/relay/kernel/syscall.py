"""bpf(2), which the C library has no function for."""

import ctypes
import errno
import os
import platform
from typing import Any, Final

_NUMBERS = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "armv7l": 386,
    "ppc64le": 361,
    "s390x": 351,
}
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE = 0, 1, 2, 3
_PROG_LOAD, _PROG_RUN, _RAW_TRACEPOINT_OPEN, _MAP_UPDATE_BATCH = 5, 10, 17, 26
_LINK_CREATE, _LINK_UPDATE, _LINK_DETACH = 28, 29, 34

SCHED_CLS: Final = 3
XDP: Final = 6
RAW_TRACEPOINT: Final = 17
SYSCALL: Final = 31
ATTACH_XDP: Final = 37
ATTACH_TCX_INGRESS: Final = 46
ATTACH_TCX_EGRESS: Final = 47

Key = ctypes.Structure | ctypes.c_uint32

_NAME_LENGTH = 15
_F_SLEEPABLE = 1 << 4
_LOG_BYTES = 1 << 20

_number = _NUMBERS.get(platform.machine())
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_long)
_syscall.restype = ctypes.c_long


class ProgramRejected(Exception):
    """The verifier's log says why."""


class _MapCreate(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("inner_fd", ctypes.c_uint32),
        ("numa_node", ctypes.c_uint32),
        ("name", ctypes.c_char * 16),
    )


class _MapElement(ctypes.Structure):
    _fields_ = (
        ("fd", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


class _MapBatch(ctypes.Structure):
    _fields_ = (
        ("in_batch", ctypes.c_uint64),
        ("out_batch", ctypes.c_uint64),
        ("keys", ctypes.c_uint64),
        ("values", ctypes.c_uint64),
        ("count", ctypes.c_uint32),
        ("fd", ctypes.c_uint32),
        ("element_flags", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


class _ProgLoad(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_uint32),
        ("instruction_count", ctypes.c_uint32),
        ("instructions", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log", ctypes.c_uint64),
        ("kernel_version", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("name", ctypes.c_char * 16),
        ("ifindex", ctypes.c_uint32),
        ("expected_attach_type", ctypes.c_uint32),
    )


class _RawTracepoint(ctypes.Structure):
    _fields_ = (("name", ctypes.c_uint64), ("prog_fd", ctypes.c_uint32), ("zero", ctypes.c_uint32))


class Run(ctypes.Structure):
    """A program to be run, and what it returned."""

    _fields_ = (
        ("prog_fd", ctypes.c_uint32),
        ("result", ctypes.c_uint32),
        ("size_in", ctypes.c_uint32),
        ("size_out", ctypes.c_uint32),
        ("data_in", ctypes.c_uint64),
        ("data_out", ctypes.c_uint64),
        ("repeat", ctypes.c_uint32),
        ("duration", ctypes.c_uint32),
        ("context_size_in", ctypes.c_uint32),
        ("context_size_out", ctypes.c_uint32),
        ("context_in", ctypes.c_uint64),
        ("context_out", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


class _LinkCreate(ctypes.Structure):
    _fields_ = (
        ("prog_fd", ctypes.c_uint32),
        ("ifindex", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("relative_fd", ctypes.c_uint64),
        ("expected_revision", ctypes.c_uint64),
    )


class _LinkUpdate(ctypes.Structure):
    _fields_ = (
        ("link_fd", ctypes.c_uint32),
        ("new_prog_fd", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("old_prog_fd", ctypes.c_uint32),
    )


def create_map(
    name: str, map_type: int, key_size: int, value_size: int, max_entries: int, map_flags: int
) -> int:
    """A descriptor of a new map; raises OSError."""
    short = name.encode()[:_NAME_LENGTH]
    return call(
        _MAP_CREATE, _MapCreate(map_type, key_size, value_size, max_entries, map_flags, name=short), name
    )


def look_up(map_fd: int, key: Key, value: ctypes.Structure) -> bool:
    """Fills `value`; whether there is an entry."""
    return _element(_MAP_LOOKUP, map_fd, key, ctypes.addressof(value))


def look_up_into(map_fd: int, key: Key, buffer: ctypes.Array[ctypes.c_char]) -> bool:
    """The same for a value of one part for each CPU."""
    return _element(_MAP_LOOKUP, map_fd, key, ctypes.addressof(buffer))


def update(
    map_fd: int,
    key: Key,
    value: "ctypes.Structure | ctypes.Array[ctypes.c_char]",
) -> None:
    """Sets an entry; raises OSError, with E2BIG when the map is full."""
    element = _MapElement(map_fd, ctypes.addressof(key), ctypes.addressof(value), 0)
    call(_MAP_UPDATE, element, "map entry")


def update_all(map_fd: int, keys: "ctypes.Array[Any]", values: "ctypes.Array[Any]") -> None:
    """Sets an entry for each of the keys, one after the other; raises OSError where one cannot be set."""
    batch = _MapBatch(0, 0, ctypes.addressof(keys), ctypes.addressof(values), len(keys), map_fd)
    call(_MAP_UPDATE_BATCH, batch, "map entries")


def delete(map_fd: int, key: Key) -> bool:
    """Whether there was such an entry."""
    return _element(_MAP_DELETE, map_fd, key, 0)


def load_program(
    name: str, program_type: int, attach_type: int, instructions: bytes, license_name: str
) -> int:
    """A descriptor of the program; raises ProgramRejected with the verifier's log, or OSError."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_text = ctypes.create_string_buffer(license_name.encode())
    attributes = _ProgLoad(
        program_type,
        len(instructions) // 8,
        ctypes.addressof(code),
        ctypes.addressof(license_text),
        # Programs that the process itself runs have to be of this kind, whether or not they sleep.
        flags=_F_SLEEPABLE if program_type == SYSCALL else 0,
        name=name.encode()[:_NAME_LENGTH],
        expected_attach_type=attach_type,
    )
    try:
        return call(_PROG_LOAD, attributes, name)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise  # not about the program: EACCES would be
        raise ProgramRejected(f"{error.strerror}\n{_verifier_log(attributes)}") from error


def create_link(program_fd: int, ifindex: int, attach_type: int, flags: int = 0) -> int:
    """A descriptor that holds the program on the device: it is gone when the descriptor is closed."""
    return call(_LINK_CREATE, _LinkCreate(program_fd, ifindex, attach_type, flags), f"device {ifindex}")


def attach_tracepoint(program_fd: int, tracepoint: str) -> int:
    """A descriptor that has the program run at a tracepoint of the kernel; raises OSError."""
    name = ctypes.create_string_buffer(tracepoint.encode())
    return call(_RAW_TRACEPOINT_OPEN, _RawTracepoint(ctypes.addressof(name), program_fd), tracepoint)


def run_of(program_fd: int, context: ctypes.Structure) -> Run:
    """To be run again and again, on what `context` holds then; it has to live as long."""
    return Run(program_fd, context_size_in=ctypes.sizeof(context), context_in=ctypes.addressof(context))


def run(program: Run) -> None:
    """Runs it, which fills its `result`; raises OSError."""
    call(_PROG_RUN, program, "run")


def update_link(link_fd: int, program_fd: int) -> None:
    """Has the link run another program, from one packet to the next; raises OSError."""
    call(_LINK_UPDATE, _LinkUpdate(link_fd, program_fd), "link")


def detach_link(link_fd: int) -> None:
    """Takes the program off the device, whoever else holds the link; raises OSError."""
    call(_LINK_DETACH, ctypes.c_uint32(link_fd), "link")


def _verifier_log(attributes: _ProgLoad) -> str:
    log = ctypes.create_string_buffer(_LOG_BYTES)
    attributes.log, attributes.log_size, attributes.log_level = ctypes.addressof(log), len(log), 1
    try:
        os.close(call(_PROG_LOAD, attributes, "again, for the log"))
    except OSError:
        return log.value.decode(errors="replace")
    return "(it was accepted at the second attempt)"


def _element(command: int, map_fd: int, key: Key, value: int) -> bool:
    try:
        call(command, _MapElement(map_fd, ctypes.addressof(key), value, 0), "map entry")
    except FileNotFoundError:
        return False
    return True


def call(command: int, attributes: ctypes.Structure | ctypes.c_uint32, subject: str) -> int:
    """bpf(2) itself; the OSError that it raises names `subject`."""
    if _number is None:
        raise OSError(errno.ENOSYS, f"no number known for bpf(2) on {platform.machine()}", subject)
    result: int = _syscall(_number, command, ctypes.byref(attributes), ctypes.sizeof(attributes))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)
    return result
