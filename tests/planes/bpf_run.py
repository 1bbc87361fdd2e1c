"""BPF_PROG_TEST_RUN: one packet through one program, and what comes out."""

import ctypes

from turnrelay.relay.kernel import syscall

_PROG_TEST_RUN = 10


class _TestRun(ctypes.Structure):
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


def run_program(program_fd: int, packet: bytes, context: bytes = b"") -> tuple[int, bytes]:
    """What the program returns, and the packet as it leaves it. It comes in on the loopback device."""
    data_in = ctypes.create_string_buffer(packet, len(packet))
    data_out = ctypes.create_string_buffer(len(packet) + 512)
    attributes = _TestRun(
        program_fd,
        size_in=len(packet),
        size_out=len(data_out),
        data_in=ctypes.addressof(data_in),
        data_out=ctypes.addressof(data_out),
        repeat=1,
    )
    context_in = ctypes.create_string_buffer(context, len(context))
    if context:
        attributes.context_in, attributes.context_size_in = ctypes.addressof(context_in), len(context)
    syscall.call(_PROG_TEST_RUN, attributes, "test run")
    return ctypes.c_int32(attributes.result).value, data_out.raw[: attributes.size_out]
