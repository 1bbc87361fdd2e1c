"""A relay whose code can be replaced while it runs, and traffic that knows what it lost."""

import os
import select
import signal
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from reliability.turn_peer import Peer, StreamClient
from reliability.workers import eventually
from stunwire import DATA, XOR_PEER_ADDRESS, Message, MessageClass, Method, TransportAddress
from support.processes import is_alive
from support.relay import Access, Site
from support.turnrelay_server import TurnRelayServer

OPEN = Access(allowed_peers=("127.0.0.0/8",))

_NORMAL = "from turnrelay.__main__ import main\n\nmain()\n"
_INTERVAL = 0.01
_LONGEST_BURST = 5 * _INTERVAL
_SO_RCVBUFFORCE = 33
_PATIENCE = 60.0


class UpgradableRelay(TurnRelayServer):
    """`turnrelay serve` from a script of the test, which the next process runs as it is then."""

    def __init__(
        self, site: Site, access: Access, *, flags: Sequence[str] = (), prologue: str = "", **limits: float
    ) -> None:
        self.script = site.folder / "relay.py"
        self.config = site.folder / "settings.toml"
        self.configure(**limits)
        self.install(prologue)
        super().__init__(site, access, flags=["--config", str(self.config), *flags])

    def install(self, prologue: str = "") -> None:
        """The code that the next process runs: the relay's, behind a prologue."""
        self.script.write_text(prologue + _NORMAL)

    def configure(self, text: str = "", **limits: float) -> None:
        lines = [f"{name} = {value}" for name, value in {"self_test_seconds": 0, **limits}.items()]
        self.config.write_text("\n".join([text, "[limits]", *lines]))

    @property
    def pid(self) -> int:
        """The process that serves."""
        return int((self.site.folder / "data" / "pid").read_text().split()[0])

    def log(self) -> str:
        return self.process.output()

    def ask_for_upgrade(self) -> None:
        os.kill(self.pid, signal.SIGUSR2)

    def upgrade(self) -> None:
        """Until the next process serves."""
        before = self.pid
        self.ask_for_upgrade()
        self._wait_until(lambda: self.pid != before)

    def failed_upgrade(self) -> str:
        """The line of the log that says why the same process goes on."""
        before, failures = self.pid, self.log().count("upgrade failed")
        self.ask_for_upgrade()
        self._wait_until(lambda: self.log().count("upgrade failed") > failures)
        assert self.pid == before
        return next(line for line in reversed(self.log().splitlines()) if "upgrade failed" in line)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.log()[-4000:]
            time.sleep(0.02)

    def __exit__(self, *exception: object) -> None:
        # The last process is nobody's child, and the test's end does not end it.
        for pid in {self.pid, self.process.pid}:
            if is_alive(pid):
                os.kill(pid, signal.SIGINT)
        try:
            eventually(lambda: not is_alive(self.pid) or self.process.returncode is not None, "it stays")
        finally:
            super().__exit__(*exception)

    def _argv(self) -> list[str | Path]:
        return [sys.executable, self.script, *super()._argv()[1:]]


class SharedTls:
    """A TLS socket that one thread reads and another one writes, which Python's own does not bear."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        tls.setblocking(False)
        self._tls = tls
        self._lock = threading.Lock()
        self._timeout = 5.0

    def settimeout(self, seconds: float) -> None:
        self._timeout = seconds

    def recv(self, size: int) -> bytes:
        deadline = time.monotonic() + self._timeout
        while True:
            with self._lock, suppress(ssl.SSLWantReadError):
                return self._tls.recv(size)
            if not select.select([self._tls], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError

    def sendall(self, data: bytes) -> None:
        while True:
            with self._lock, suppress(ssl.SSLWantWriteError):
                self._tls.send(data)  # all or nothing: TLS sends records
                return
            select.select([], [self._tls], [], self._timeout)

    def close(self) -> None:
        self._tls.close()


class Numbered:
    """Numbered packets both ways between a client and a peer of its own, until it is stopped."""

    def __init__(self, name: str, client: StreamClient, peer: Peer) -> None:
        self.name = name
        self.client = client
        self.peer = peer
        self.sent = 0
        self.at_peer: Counter[int] = Counter()
        self.at_client: Counter[int] = Counter()
        for sock in (client.sock, peer.sock):
            _make_room(sock)

    def exchange(self) -> None:
        data = self.sent.to_bytes(4, "big")
        self.sent += 1
        self.to_peer(data)
        assert self.client.relayed is not None
        self.peer.sock.sendto(data, tuple(self.client.relayed))

    def to_peer(self, data: bytes) -> None:
        raise NotImplementedError

    def from_peer(self, frame: bytes) -> bytes | None:
        raise NotImplementedError

    def read_peer(self) -> None:
        self.at_peer[int.from_bytes(self.peer.sock.recv(2000), "big")] += 1

    def read_client(self) -> bool:
        frame = self.client.frame()
        data = self.from_peer(frame) if frame else None
        if data is not None:
            self.at_client[int.from_bytes(data, "big")] += 1
        return bool(frame)

    def complete(self) -> bool:
        return len(self.at_peer) == len(self.at_client) == self.sent

    def losses(self) -> str:
        """What is wrong; empty if each packet came once."""
        wrong = []
        for end, came in (("peer", self.at_peer), ("client", self.at_client)):
            lost = [number for number in range(self.sent) if not came[number]]
            twice = [number for number, count in came.items() if count > 1]
            if lost or twice:
                wrong.append(f"{self.name}, at the {end}: of {self.sent} lost {lost}, twice {twice}")
        return "; ".join(wrong)


def _make_room(sock: object) -> None:
    """This process may have to wait for its turn for seconds."""
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)


class ByChannel(Numbered):
    CHANNEL = 0x4000

    def __init__(self, name: str, client: StreamClient, peer: Peer) -> None:
        super().__init__(name, client, peer)
        client.bind(self.CHANNEL, peer.address)

    def to_peer(self, data: bytes) -> None:
        self.client.send(self.CHANNEL, data)

    def from_peer(self, frame: bytes) -> bytes | None:
        return frame[4:8] if frame[0] >= 0x40 else None


class ByIndication(Numbered):
    def __init__(self, name: str, client: StreamClient, peer: Peer) -> None:
        super().__init__(name, client, peer)
        client.request(Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, peer.address))

    def to_peer(self, data: bytes) -> None:
        message = Message(MessageClass.INDICATION, Method.SEND)
        peer = TransportAddress(*self.peer.address)
        self.client.say(message.add(XOR_PEER_ADDRESS, peer).add(DATA, data))

    def from_peer(self, frame: bytes) -> bytes | None:
        return Message.decode(frame).get(DATA)


class ByRelay(ByChannel):
    """The peer is another client of the relay, and what each sends arrives at the other's relayed address."""

    def __init__(self, name: str, client: StreamClient, other: StreamClient) -> None:
        assert client.relayed is not None
        assert other.relayed is not None
        super().__init__(name, client, _Callee(other))  # type: ignore[arg-type]
        other.bind(self.CHANNEL, client.relayed)

    def exchange(self) -> None:
        data = self.sent.to_bytes(4, "big")
        self.sent += 1
        self.to_peer(data)
        self.peer.sock.client.send(self.CHANNEL, data)  # type: ignore[attr-defined]


class _Callee:
    """A client in the place of a peer's socket."""

    def __init__(self, client: StreamClient) -> None:
        self.client = client
        self.sock = self
        _make_room(client.sock)
        assert client.relayed is not None
        self.address = client.relayed

    def recv(self, size: int) -> bytes:
        return self.client.frame()[4:8]

    def settimeout(self, seconds: float) -> None:
        self.client.sock.settimeout(seconds)

    def close(self) -> None:
        self.client.close()


class Traffic:
    """All of them at once, a hundred packets a second each."""

    def __init__(self, flows: Sequence[Numbered]) -> None:
        self.flows = flows
        self._stop = threading.Event()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._wait_at_sockets(0.2)
        calls: list[Callable[[], object]] = [flow.read_peer for flow in self.flows]
        calls += [flow.read_client for flow in self.flows]
        self._readers = [threading.Thread(target=self._read, args=(call,)) for call in calls]
        self._sender = threading.Thread(target=self._send)
        for thread in (*self._readers, self._sender):
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._sender.join()
        deadline = time.monotonic() + 20
        while not all(flow.complete() for flow in self.flows) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)  # for what comes twice
        self._over.set()
        for thread in self._readers:
            thread.join()
        self._wait_at_sockets(5.0)

    def goes_on(self, seconds: float = 0.5) -> None:
        time.sleep(seconds)

    def must_be_whole(self) -> None:
        wrong = [flow.losses() for flow in self.flows if flow.losses()]
        assert not wrong, "\n".join(wrong)

    def _wait_at_sockets(self, seconds: float) -> None:
        """So long for each answer or packet."""
        for flow in self.flows:
            for end in (flow.client, flow.peer):
                end.sock.settimeout(seconds)

    def _send(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            for flow in self.flows:
                flow.exchange()
            due = max(due + _INTERVAL, time.monotonic() - _LONGEST_BURST)
            time.sleep(max(0.0, due - time.monotonic()))

    def _read(self, read: Callable[[], object]) -> None:
        while not self._over.is_set():
            try:
                if read() is False:
                    return
            except TimeoutError:
                continue
