"""A relay of several processes, and which of them a client has come to."""

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from reliability.turn_peer import DatagramClient
from stunwire import ERROR_CODE, Message, MessageClass
from support.relay import Access, Site
from support.turnrelay_server import TurnRelayServer

PATIENCE = 30.0


class RelayOfSeveral(TurnRelayServer):
    """`turnrelay serve --workers N`, with limits of a test's own."""

    def __init__(
        self, site: Site, access: Access, workers: int, *, flags: Sequence[str] = (), **limits: float
    ) -> None:
        config = site.folder / "limits.toml"
        lines = [
            "[limits]",
            "self_test_seconds = 0",
            *(f"{name} = {value}" for name, value in limits.items()),
        ]
        config.write_text("\n".join(lines))
        super().__init__(site, access, flags=["--workers", str(workers), "--config", str(config), *flags])

    def workers(self) -> dict[int, int]:
        """The number and the process of each worker, as the log told them last."""
        serving = {}
        for line in self.process.output().split("\n")[:-1]:  # the last one may still be on its way
            if line.startswith("{") and (told := json.loads(line))["event"] == "worker serves":
                serving[told["worker"]] = told["pid"]
        return serving

    def client(self) -> DatagramClient:
        return DatagramClient((self.site.address, self.port), self.access.username, self.access.password)

    def worker_of(self, client: DatagramClient) -> int:
        """The number of the worker that has the client's relayed address open."""
        assert client.relayed is not None
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            # The kernel tells its table in pieces, and one is missed now and then while others come and go.
            for member, pid in self.workers().items():
                addresses = [tuple(each.laddr) for each in psutil.Process(pid).net_connections("udp")]
                if tuple(client.relayed) in addresses:
                    return member
        raise AssertionError(f"nobody has {client.relayed} open")

    def acceptor_of(self, local: tuple[str, int]) -> int:
        """The number of the worker that has the other end of the connection from there open."""
        found: list[int] = []

        def is_accepted() -> bool:
            for member, pid in self.workers().items():
                addresses = [tuple(each.raddr) for each in psutil.Process(pid).net_connections("tcp")]
                if tuple(local) in addresses:
                    found.append(member)
            return bool(found)

        eventually(is_accepted, f"nobody has a connection from {local} open")
        return found[0]

    def kill(self, member: int) -> float:
        """Kills a worker; seconds until the next one serves."""
        before, started = self.workers(), time.monotonic()
        os.kill(before[member], signal.SIGKILL)
        self.process.wait_until(lambda: self.workers()[member] != before[member], PATIENCE)
        return time.monotonic() - started


class RelayOfTwo(RelayOfSeveral):
    """With two workers."""

    def __init__(self, site: Site, access: Access, *, flags: Sequence[str] = (), **limits: float) -> None:
        super().__init__(site, access, 2, flags=flags, **limits)

    def clients_of_both(self, each: int = 1) -> dict[int, list[DatagramClient]]:
        """Clients with an allocation, so many of each worker."""
        found: dict[int, list[DatagramClient]] = {1: [], 2: []}
        for _ in range(200):
            client = self.client()
            assert succeeded(client.allocate())
            mine = found[self.worker_of(client)]
            if len(mine) < each:
                mine.append(client)
            else:
                assert succeeded(client.refresh(0))
                client.close()
            if all(len(clients) == each for clients in found.values()):
                return found
        raise AssertionError("the system sends every client to one worker")


def succeeded(answer: Message) -> bool:
    return answer.message_class is MessageClass.SUCCESS_RESPONSE


def error_of(answer: Message) -> int:
    """The error code; 0 for success."""
    error = answer.get(ERROR_CODE)
    return 0 if error is None else int(error.code)


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def site(folder: Path, address: str) -> Site:
    return Site.prepare(folder / "relay", address)
