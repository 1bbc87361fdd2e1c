"""What passes a network interface, in memory and as a pcap file for Wireshark."""

from __future__ import annotations

import dataclasses
import select
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Self

from support.netns import Namespace, inside

_ETH_P_ALL = 0x0003
_ARPHRD_ETHER = 1
_LINKTYPE_ETHERNET, _LINKTYPE_RAW = 1, 101


@dataclasses.dataclass(frozen=True)
class CapturedPacket:
    time: float  # seconds since the epoch
    data: bytes  # from the IP header on a TUN device, else from the Ethernet header


class Capture:
    """Records from construction to `close`.

    with site.capture() as capture:
        ...
    capture.save("wan.pcap")
    """

    def __init__(self, namespace: Namespace, device: str) -> None:
        self.packets: list[CapturedPacket] = []
        with inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.bind((device, _ETH_P_ALL))
        self._socket.setblocking(False)
        self._is_ethernet = self._socket.getsockname()[3] == _ARPHRD_ETHER
        self._wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._record, name=f"capture {device}", daemon=True)
        self._thread.start()

    def ip_packets(self) -> list[bytes]:
        """The IPv4 and IPv6 packets, each from its IP header."""
        if not self._is_ethernet:
            return [packet.data for packet in self.packets]
        return [p.data[14:] for p in self.packets if p.data[12:14] in (b"\x08\x00", b"\x86\xdd")]

    def save(self, path: str | Path) -> None:
        """As pcap."""
        link_type = _LINKTYPE_ETHERNET if self._is_ethernet else _LINKTYPE_RAW
        with open(path, "wb") as file:
            file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, link_type))
            for packet in self.packets:
                seconds, fraction = divmod(packet.time, 1)
                size = len(packet.data)
                file.write(struct.pack("=IIII", int(seconds), int(fraction * 1e6), size, size) + packet.data)

    def close(self) -> None:
        if self._thread.is_alive():
            self._waker.send(b"x")
            self._thread.join()
        for each in (self._socket, self._wake, self._waker):
            each.close()

    def _record(self) -> None:
        stopping = False
        while not stopping:
            readable, _, _ = select.select([self._socket, self._wake], [], [])
            stopping = self._wake in readable  # after this last batch
            try:
                while True:
                    self.packets.append(CapturedPacket(time.time(), self._socket.recv(1 << 18)))
            except BlockingIOError:
                continue
            except OSError:  # the interface went down or away
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
