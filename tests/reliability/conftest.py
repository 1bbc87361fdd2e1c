"""What tests of a relay that is replaced by another one start with."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from reliability.turn_peer import DatagramClient, Peer, StreamClient
from reliability.upgradable import OPEN
from reliability.workers import succeeded
from support.ports import loopback_address
from support.relay import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with loopback_address() as address:
        yield Site.prepare(tmp_path / "relay", address)


@pytest.fixture
def closing() -> Iterator[Callable]:
    """Closes in the end what it is given, and returns it."""
    with ExitStack() as stack:

        def close(what):
            stack.callback(what.close)
            return what

        yield close


@pytest.fixture
def over_udp(site, closing) -> Callable[[], DatagramClient]:
    def make() -> DatagramClient:
        client = closing(DatagramClient((site.address, 3478), OPEN.username, OPEN.password))
        assert succeeded(client.allocate())
        return client

    return make


@pytest.fixture
def over_tcp(site, closing) -> Callable[[], StreamClient]:
    def make() -> StreamClient:
        return closing(StreamClient((site.address, 3478), OPEN.username, OPEN.password))

    return make


@pytest.fixture
def peer(site, closing) -> Callable[[], Peer]:
    def make() -> Peer:
        return closing(Peer(site.address))

    return make
