"""Users whose keys are in the database sign in and stay while strangers make up names."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from reliability.turn_peer import StreamClient
from stunwire import LIFETIME, NONCE, REALM, REQUESTED_TRANSPORT, USERNAME, Message, MessageClass, Method
from support.ports import loopback_address
from support.relay import Access, Site
from support.turnrelay_server import TurnRelayServer
from turnrelay.policy.user_database import FILE_NAME, UserDatabase

ACCESS = Access()
CAROL, PASSWORD = "carol", "a long enough password"
OTHERS = [f"user{number}" for number in range(10)]
_UDP = 17


@pytest.fixture
def relay(tmp_path) -> Iterator[TurnRelayServer]:
    with loopback_address() as address:
        site = Site.prepare(tmp_path / "relay", address)
        users = UserDatabase(site.folder / "data" / FILE_NAME, ACCESS.realm)
        for name in (CAROL, *OTHERS):
            users.add(name, PASSWORD, time.time())
        with TurnRelayServer(site, ACCESS) as server:
            yield server


class Stranger:
    """Sends Allocates over UDP from one address, each with another made-up name, all with the nonce of its
    first challenge."""

    def __init__(self, server: tuple[str, int], host: str, per_second: int) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((host, 0))
        self._sock.connect(server)
        self._sock.settimeout(5)
        self._sock.send(self._form().encode())
        challenge = Message.decode(self._sock.recv(1500))
        name = "0" * 12
        signed = self._form().add(USERNAME, name)
        signed.add(REALM, challenge.get(REALM)).add(NONCE, challenge.get(NONCE))
        self._before, self._after = signed.encode(b"no key")[20:].split(name.encode())
        self._header = signed.encode(b"no key")[:8]
        self._per_second = per_second
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0

    def __enter__(self) -> "Stranger":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._sock.close()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stopped.wait(0.01):
            for _ in range(int((time.monotonic() - began) * self._per_second) - self.sent):
                name = os.urandom(6).hex().encode()
                self._sock.send(b"".join((self._header, os.urandom(12), self._before, name, self._after)))
                self.sent += 1

    @staticmethod
    def _form() -> Message:
        return Message(MessageClass.REQUEST, Method.ALLOCATE).add(REQUESTED_TRANSPORT, _UDP)


@pytest.mark.parametrize("prefixes", [1, 20])
def test_made_up_names_keep_nobody_out_and_end_nobodys_allocation(relay, prefixes):
    """Everybody asks once, over TCP: whose request is dropped is not heard."""
    server = (relay.site.address, relay.port)
    with ExitStack() as stack:
        keeper = StreamClient(server, CAROL, PASSWORD)
        stack.callback(keeper.close)
        strangers = [
            stack.enter_context(Stranger(server, f"127.255.{number}.1", 3000 // prefixes))
            for number in range(prefixes)
        ]
        for name in OTHERS:
            time.sleep(0.4)
            assert keeper.refresh(600).get(LIFETIME) == 600
            StreamClient(server, name, PASSWORD).close()
        page = relay.scrape()
    looked_up = page.total("turnrelay_authentication_failures_total", reason="unknown_user")
    sent = sum(stranger.sent for stranger in strangers)
    assert prefixes > 1 or 0 < looked_up < sent / 2, "a prefix costs more than it may"
    assert not page.total("turnrelay_kernel_dropped_packets_total"), "other clients' packets are lost"
