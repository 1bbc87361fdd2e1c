"""Where a message spends its time: samples of what a process runs, by the layer that each belongs to."""

import signal
import sysconfig
from collections import Counter
from collections.abc import Mapping
from types import FrameType
from typing import Self

_INTERVAL = 0.001
"""Seconds of the process's CPU time between two samples."""
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_LAYERS = {
    "/cryptography/": "encryption",
    "/aioquic/_crypto.py": "encryption",
    "/aioquic/quic/crypto.py": "encryption",
    "/aioquic/": "aioquic: packets, acknowledgements, loss",
    "/peerpath/quic/": "peerpath.quic: the link",
    "/peerpath/connection/": "peerpath.connection: messages, windows",
    "/peerpath/net/": "sockets and event loop, kernel included",
    "/peerpath/": "peerpath.ice and calls: the path",
    "/stunwire/": "peerpath.ice and calls: the path",
    "/asyncio/": "sockets and event loop, kernel included",
    "/selectors.py": "sockets and event loop, kernel included",
    "/sdk_message_peer.py": "the application",
}
"""The first part of a file's name that fits says whose it is."""


def layer_of(file: str) -> str | None:
    """None for what others call upon, and which counts as theirs."""
    found = next((layer for part, layer in _LAYERS.items() if part in file), None)
    if found is None and not file.startswith((_STANDARD_LIBRARY, "<")):
        return "other packages"
    return found


class Sampler:
    """Counts while it is entered. For the main thread, and one at a time: the timer is the process's."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def shares(self) -> Mapping[str, float]:
        """Of each layer, all together 1."""
        return {layer: count / self.counts.total() for layer, count in self.counts.most_common()}

    def _take(self, _: int, frame: FrameType | None) -> None:
        while frame is not None:
            layer = layer_of(frame.f_code.co_filename)
            if layer is not None:
                self.counts[layer] += 1
                return
            frame = frame.f_back

    def __enter__(self) -> Self:
        signal.signal(signal.SIGPROF, self._take)
        signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
