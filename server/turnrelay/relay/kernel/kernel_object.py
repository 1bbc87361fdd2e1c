"""KernelObject: the programs and maps of `relay.bpf.c`, in the kernel."""

import ctypes
import os
import platform
import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import structlog

from turnrelay.relay.kernel import syscall
from turnrelay.relay.kernel.bucket_array import BucketArray
from turnrelay.relay.kernel.elf import ObjectFile, Program
from turnrelay.relay.kernel.errors import KernelPlaneUnavailable
from turnrelay.relay.kernel.layouts import (
    Bucket,
    Counter,
    Hop,
    Leg,
    Link,
    MapDefinition,
    Redirection,
    Totals,
    Watch,
)
from turnrelay.relay.kernel.maps import Map, PerCpuMap

OBJECT_PATH = Path(__file__).with_name("relay.bpf.o")
NATIVE, GENERIC = "xdp/native", "xdp/generic"
INGRESS, EGRESS, WATCH = "tcx/ingress", "tcx/egress", "tcx/watch"
_SPEND, _REFUSALS = "syscall/spend", "trace/refusals"
_REFUSALS_TRACEPOINT = "xdp_redirect_err"

_KINDS = {
    NATIVE: (syscall.XDP, syscall.ATTACH_XDP),
    GENERIC: (syscall.XDP, syscall.ATTACH_XDP),
    INGRESS: (syscall.SCHED_CLS, syscall.ATTACH_TCX_INGRESS),
    EGRESS: (syscall.SCHED_CLS, syscall.ATTACH_TCX_EGRESS),
    WATCH: (syscall.SCHED_CLS, syscall.ATTACH_TCX_INGRESS),
}
_OTHER_KINDS = {_SPEND: (syscall.SYSCALL, 0), _REFUSALS: (syscall.RAW_TRACEPOINT, 0)}
"""Those that no device runs."""
_OLDEST_KERNEL = (6, 6)
"""Next hops are learned by a program on tcx, which came with it."""
_CAP_SYS_ADMIN = 21
_CAPABILITIES = {"CAP_BPF": (39, True), "CAP_PERFMON": (38, True), "CAP_NET_ADMIN": (12, False)}
"""Number, and whether CAP_SYS_ADMIN has it in it. Without CAP_PERFMON the verifier forbids to
add a length to a packet's pointer."""
_BPF_PSEUDO_MAP_FD = 1
_LOG_TAIL = 4000


class KernelObject:
    """Loaded, but attached to no device yet. Everything is gone when it is closed, or its process ends."""

    def __init__(self, channels: int, buckets: int, path: Path = OBJECT_PATH) -> None:
        """Room for that many channels and bandwidth limits; raises KernelPlaneUnavailable."""
        require_kernel()
        require_capabilities()
        self.object = ObjectFile.read(path)
        self._fds: list[int] = []
        expect = partial(_expect, self.object.maps)
        slots = 2 * channels
        try:
            self.legs = Map("legs", expect("legs", Leg), Leg, slots)
            self.hops = Map("hops", expect("hops", Hop), Hop, slots)
            self.counters = PerCpuMap("counters", expect("counters", Counter), Counter, slots)
            self.totals = PerCpuMap("totals", expect("totals", Totals), Totals, 1)
            # Number 0 stands for no limit.
            self.buckets = BucketArray("buckets", expect("buckets", Bucket), buckets + 1)
            self.links = Map("links", expect("links", Link), Link, 0)
            self.watched = Map("watched", expect("watched", Watch), Watch, 1)
            self.redirections = PerCpuMap("redirections", expect("redirections", Redirection), Redirection, 1)
            self.programs = {name: self._load(name, self.object.programs[name]) for name in _KINDS}
            self.buckets.spend_by(self._load(_SPEND, self.object.programs[_SPEND]))
            self._watch_refusals()
        except syscall.ProgramRejected as error:
            self.close()
            log = str(error)[-_LOG_TAIL:]
            raise KernelPlaneUnavailable(f"the kernel rejects its program: {log}") from error
        except OSError as error:
            self.close()
            raise KernelPlaneUnavailable(f"bpf(2) for {error.filename}: {error.strerror}") from error

    def close(self) -> None:
        """Programs that are attached stay until their links are closed, too."""
        for part in ("legs", "hops", "counters", "totals", "buckets", "links", "watched", "redirections"):
            opened: Map[ctypes.Structure] | None = self.__dict__.pop(part, None)
            if opened is not None:
                opened.close()
        while self._fds:
            os.close(self._fds.pop())

    def refused(self) -> int:
        """Packets that XDP redirected to devices that would not send them, since the start."""
        return self.redirections.sums(ctypes.c_uint32(0))[2]

    def _watch_refusals(self) -> None:
        """A kernel may have no programs on tracepoints; then what devices take is only asked of them."""
        try:
            fd = self._load(_REFUSALS, self.object.programs[_REFUSALS])
            self._fds.append(syscall.attach_tracepoint(fd, _REFUSALS_TRACEPOINT))
        except (syscall.ProgramRejected, OSError) as error:
            reason = str(error).partition("\n")[0]
            structlog.get_logger().info("frames that devices refuse are not told", reason=reason)

    def _load(self, name: str, program: Program) -> int:
        code = bytearray(program.instructions)
        for offset, map_name in program.maps.items():
            # struct bpf_insn: a byte of opcode, then destination (low) and source register in one byte.
            code[offset + 1] = code[offset + 1] & 0x0F | _BPF_PSEUDO_MAP_FD << 4
            opened: Map[ctypes.Structure] = getattr(self, map_name)
            code[offset + 4 : offset + 8] = opened.fd.to_bytes(4, sys.byteorder)
        kind, attach_type = (_KINDS | _OTHER_KINDS)[name]
        short_name = "turn_" + name.replace("/", "_")
        fd = syscall.load_program(short_name, kind, attach_type, bytes(code), self.object.license)
        self._fds.append(fd)
        return fd


def require_kernel() -> None:
    """Raises KernelPlaneUnavailable on what is not a Linux new enough."""
    release = platform.release()
    version = tuple(map(int, re.findall(r"\d+", release)[:2]))
    if platform.system() != "Linux" or version < _OLDEST_KERNEL:
        raise KernelPlaneUnavailable(f"it needs Linux 6.6 or newer, this is {platform.system()} {release}")


def require_capabilities() -> None:
    """Raises KernelPlaneUnavailable if the process lacks a capability."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    administrator = effective >> _CAP_SYS_ADMIN & 1
    missing = [
        name
        for name, (number, comes_with_sys_admin) in _CAPABILITIES.items()
        if not (effective >> number & 1 or (comes_with_sys_admin and administrator))
    ]
    if missing:
        raise KernelPlaneUnavailable(f"the process lacks {', '.join(missing)}")


def _expect(
    definitions: Mapping[str, MapDefinition], name: str, value_type: type[ctypes.Structure]
) -> MapDefinition:
    """The definition, if it fits what this version writes: an object left from another one does not."""
    definition = definitions.get(name)
    if definition is None or definition.value_size != ctypes.sizeof(value_type):
        raise KernelPlaneUnavailable(f"{OBJECT_PATH.name} is of another version; run make bpf")
    return definition
