"""The process between a site's router and the outside: two TUN devices, and a NAT and a path between them.

`main` is a nursery. It imports once what all need and then forks a process for each site that it is told of,
which takes a millisecond where starting an interpreter takes thirty. Everyone ends when the lab's end of its
socket is closed, which the kernel does however the lab ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from .firewall import Firewall, OpenRoad
from .impairment import UNIMPAIRED, Impairment, Link
from .kinds import APD, Dependence, Layer, PortAssignment, Realm
from .nat import INSIDE, Nat
from .packets import TCP, UDP

PACKET_SIZE = 65_600
BATCH = 32  # packets read from one device before the other is looked at


@dataclasses.dataclass(frozen=True)
class WireConfig:
    """What a wire has to know; travels as JSON."""

    layer: Layer
    public_address: str
    ipv6: str = "none"  # none, firewall, open
    upward: Impairment = UNIMPAIRED
    downward: Impairment = UNIMPAIRED
    proxy_address: str | None = None
    seed: int | None = None

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> WireConfig:
        values = json.loads(text)
        layer = values["layer"]
        layer["realm"] = Realm(layer["realm"])
        layer["mapping"], layer["filtering"] = Dependence(layer["mapping"]), Dependence(layer["filtering"])
        layer["ports"] = PortAssignment(layer["ports"])
        values["layer"] = Layer(**layer)
        values["upward"], values["downward"] = (
            Impairment(**values["upward"]),
            Impairment(**values["downward"]),
        )
        return cls(**values)


class Wire:
    """One site's connection to the outside."""

    def __init__(self, config: WireConfig, inside: int, outside: int, control: socket.socket) -> None:
        self.config = config
        self._inside, self._outside, self._control = inside, outside, control
        self._box4 = _box_for(config)
        self._box6 = _firewall(config.layer) if config.ipv6 == "firewall" else OpenRoad()
        seeds = (None, None) if config.seed is None else (config.seed + 1, config.seed + 2)
        self._up, self._down = Link(config.upward, seeds[0]), Link(config.downward, seeds[1])
        self._passes = _PASSAGES[config.layer.passage](config)

    def run(self) -> None:
        """Move packets until the lab hangs up."""
        readers = [self._inside, self._outside, self._control]
        next_sweep = 0.0
        while True:
            now = time.monotonic()
            waits = [at - now for at in (self._up.next_at, self._down.next_at, next_sweep) if at is not None]
            readable, _, _ = select.select(readers, (), (), max(0.0, min(waits)))
            now = time.monotonic()
            if self._inside in readable:
                self._read(self._inside, now, self._from_inside)
            if self._outside in readable:
                self._read(self._outside, now, self._from_outside)
            for packet in self._up.due(now):
                _write(self._outside, packet)
            for packet in self._down.due(now):
                self._deliver(packet, now)
            if self._control in readable and not self._obey():
                return
            if now >= next_sweep:
                self._box4.sweep(now)
                self._box6.sweep(now)
                next_sweep = now + 1.0

    @staticmethod
    def _read(device: int, now: float, take: Callable[[bytearray, float], None]) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(BATCH):
                take(bytearray(os.read(device, PACKET_SIZE)), now)

    def _from_inside(self, packet: bytearray, now: float) -> None:
        if not self._passes(packet, True):
            return
        box = self._box4 if packet[0] >> 4 == 4 else self._box6
        for side, out in box.outbound(packet, now):
            if side is INSIDE:
                _write(self._inside, out)
            elif self._up.is_direct:
                _write(self._outside, out)
            else:
                self._up.push(out, now)

    def _from_outside(self, packet: bytearray, now: float) -> None:
        # The path comes first and the NAT is at its end, so that a filter sees a packet when it arrives.
        if self._down.is_direct:
            self._deliver(packet, now)
        else:
            self._down.push(packet, now)

    def _deliver(self, packet: bytearray, now: float) -> None:
        if not self._passes(packet, False):
            return
        box = self._box4 if packet[0] >> 4 == 4 else self._box6
        for _, out in box.inbound(packet, now):
            _write(self._inside, out)

    # What the lab can ask for -------------------------------------------------------------------------------

    def _obey(self) -> bool:
        """One request of the lab; False when it has hung up."""
        request = self._control.recv(65_536)
        if not request:
            return False
        values = json.loads(request)
        try:
            answer = getattr(self, "do_" + values.pop("do"))(**values)
        except Exception:
            answer = {"error": traceback.format_exc()}
        self._control.send(json.dumps(answer).encode())
        return True

    def do_reboot(self, public_address: str) -> None:
        self._box4.reboot(ipaddress.ip_address(public_address).packed)
        self._box6.reboot(b"")

    def do_cut(self, seconds: float) -> None:
        self._up.cut_until = self._down.cut_until = time.monotonic() + seconds

    def do_impair(self, upward: dict[str, Any] | None, downward: dict[str, Any] | None) -> None:
        if upward is not None:
            self._up.impairment = Impairment(**upward)
        if downward is not None:
            self._down.impairment = Impairment(**downward)

    def do_state(self) -> dict[str, Any]:
        now = time.monotonic()
        mappings = {}
        if isinstance(self._box4, Nat):
            mappings = {
                name: [
                    (
                        f"{ipaddress.ip_address(m.internal[:4])}:{int.from_bytes(m.internal[4:])}",
                        m.external_port,
                    )
                    for m in self._box4.mappings(protocol, now)
                ]
                for name, protocol in (("udp", UDP), ("tcp", TCP))
            }
        return {
            "dropped": [self._up.dropped, self._down.dropped],
            "cpu": time.process_time(),
            "mappings": mappings,
        }


def _box_for(config: WireConfig) -> Nat | Firewall | OpenRoad:
    if config.layer.realm is Realm.EXACT:
        return Nat(config.layer, ipaddress.ip_address(config.public_address).packed, config.seed)
    if config.layer.realm is Realm.FIREWALL:
        return _firewall(config.layer)
    return OpenRoad()


def _firewall(layer: Layer) -> Firewall:
    # For IPv6 beside an exact NAT: RFC 6092 has home routers filter statefully, whatever they do to IPv4.
    filtering = layer.filtering if layer.realm is Realm.FIREWALL else APD
    return Firewall(filtering, layer.mapping_timeout, layer.tcp_established_timeout, layer.icmp_timeout)


def _protocol(packet: bytearray) -> int:
    return packet[9] if packet[0] >> 4 == 4 else packet[6]


def _all(config: WireConfig) -> Callable[[bytearray, bool], bool]:
    if config.ipv6 == "none":
        return lambda packet, outward: packet[0] >> 4 == 4
    return lambda packet, outward: True


def _tcp(config: WireConfig) -> Callable[[bytearray, bool], bool]:
    return lambda packet, outward: _protocol(packet) != UDP


def _tcp_443(config: WireConfig) -> Callable[[bytearray, bool], bool]:
    def passes(packet: bytearray, outward: bool) -> bool:
        header = 20 if packet[0] >> 4 == 4 else 40
        port = header + (2 if outward else 0)  # the port of the outside
        return _protocol(packet) == TCP and int.from_bytes(packet[port : port + 2]) == 443

    return passes


def _proxy(config: WireConfig) -> Callable[[bytearray, bool], bool]:
    proxy = ipaddress.ip_address(config.proxy_address or "0.0.0.0").packed
    # The NAT lets in only what answers the proxy, so outward is enough to look at.
    return lambda packet, outward: packet[0] >> 4 == 4 and (not outward or packet[12:16] == proxy)


def _none(config: WireConfig) -> Callable[[bytearray, bool], bool]:
    return lambda packet, outward: False


_PASSAGES = {"all": _all, "tcp": _tcp, "tcp-443": _tcp_443, "proxy": _proxy, "none": _none}


def _write(device: int, packet: bytearray) -> None:
    # A full device loses the packet, as a full router does; one that is gone or down loses all.
    with contextlib.suppress(OSError):
        os.write(device, packet)


def _serve(config: WireConfig, descriptors: list[int]) -> None:
    inside, outside, control = descriptors
    os.set_blocking(inside, False)
    os.set_blocking(outside, False)
    with socket.socket(fileno=control) as channel:
        Wire(config, inside, outside, channel).run()


def main() -> None:
    """`python -m natlab.lab.wire FD`: a nursery that listens on this inherited socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test run, which then hangs up
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    nursery = socket.socket(fileno=int(sys.argv[1]))
    while True:
        request, descriptors, _, _ = socket.recv_fds(nursery, 65_536, 3)
        if not request:
            return
        if os.fork() == 0:
            nursery.close()
            status = 1
            try:
                _serve(WireConfig.from_json(request), descriptors)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    main()
