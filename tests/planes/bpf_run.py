"""BPF_PROG_TEST_RUN: one packet through one program, and what comes out."""

import ctypes

from turnrelay.relay.kernel import syscall


def run_program(program_fd: int, packet: bytes, context: bytes = b"") -> tuple[int, bytes]:
    """What the program returns, and the packet as it leaves it. It comes in on the loopback device."""
    data_in = ctypes.create_string_buffer(packet, len(packet))
    data_out = ctypes.create_string_buffer(len(packet) + 512)
    attributes = syscall.Run(
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
    syscall.run(attributes)
    return ctypes.c_int32(attributes.result).value, data_out.raw[: attributes.size_out]
