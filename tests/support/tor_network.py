"""A Tor network of our own: directory authorities that are relays and exits as well, more relays, a client.

All of it is on loopback addresses of one host. TestingTorNetwork lets that be, and the intervals of voting
are the shortest that tor takes, so that there is a consensus within seconds.
"""

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from python_socks import ProxyError, ProxyTimeoutError
from python_socks.sync import Proxy

from support.netns import Namespace, inside
from support.processes import Process
from support.requirements import require_program

_AUTHORITIES = 3
_MORE_RELAYS = 3  # the circuits of an onion service have more hops than there are authorities
_OR_PORT, _DIRECTORY_PORT = 9001, 9030
_BOOTSTRAP_SECONDS = 100
_COMMON = """
TestingTorNetwork 1
AssumeReachable 1
PathsNeededToBuildCircuits 0.25
TestingDirAuthVoteExit *
TestingDirAuthVoteHSDir *
TestingDirAuthVoteGuard *
TestingMinExitFlagThreshold 0
TestingV3AuthInitialVotingInterval 5
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
V3AuthVotingInterval 10
V3AuthVoteDelay 2
V3AuthDistDelay 2
ConnLimit 60
ShutdownWaitLength 0
SafeLogging 0
Log notice stdout
"""


@dataclass(frozen=True)
class _Relay:
    name: str
    address: str
    folder: Path

    @property
    def torrc(self) -> Path:
        return self.folder / "torrc"


class TorNetwork:
    """Entered, it has bootstrapped: `socks` is the address of the client's SOCKS port.

    With `service` (a port and where it leads to) the client runs an onion service, whose name is `onion`.
    """

    def __init__(
        self,
        folder: Path,
        namespace: Namespace,
        socks: tuple[str, int],
        service: tuple[int, str] | None = None,
    ) -> None:
        self.socks = socks
        self._tor = require_program("tor")
        self._gencert = require_program("tor-gencert")
        self._folder = folder
        self._namespace = namespace
        self._service = service
        self._processes: list[Process] = []

    @property
    def onion(self) -> str:
        return (self._folder / "client" / "service" / "hostname").read_text().strip()

    def __enter__(self) -> Self:
        began = time.monotonic()
        authorities = [
            _Relay(f"authority{number}", f"127.0.0.{10 + number}", self._folder / f"authority{number}")
            for number in range(_AUTHORITIES)
        ]
        directory = "\n".join(map(self._prepare, authorities))
        for authority in authorities:
            authority.torrc.write_text(_authority_torrc(authority) + directory)
            self._start(authority.torrc)
        for number in range(_MORE_RELAYS if self._service else 0):
            self._start(self._relay_torrc(number, directory))
        try:
            self._start(self._client_torrc(directory)).wait_until(self._is_ready, _BOOTSTRAP_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        self.seconds = time.monotonic() - began
        return self

    def wait_for_service(self, seconds: float = 60.0) -> None:
        """Until the onion service is found through Tor: its descriptor is published after the start."""
        assert self._service is not None
        proxy = Proxy.from_url(f"socks5://{self.socks[0]}:{self.socks[1]}", rdns=True)
        deadline = time.monotonic() + seconds
        while True:
            try:
                with inside(self._namespace):
                    proxy.connect(dest_host=self.onion, dest_port=self._service[0], timeout=10).close()
                return
            except (ProxyError, ProxyTimeoutError, OSError) as error:
                if time.monotonic() > deadline:
                    raise AssertionError(
                        f"the onion service was not found in {seconds:g} s: {error}"
                    ) from None
                time.sleep(0.5)

    def __exit__(self, *_: object) -> None:
        while self._processes:
            self._processes.pop().stop()

    def _start(self, torrc: Path) -> Process:
        process = Process(
            [self._tor, "--defaults-torrc", "/dev/null", "-f", torrc], namespace=self._namespace
        )
        self._processes.append(process)
        return process

    def _is_ready(self) -> bool:
        output = self._processes[-1].output()
        if "Bootstrapped 100%" not in output:
            return False
        return self._service is None or (self._folder / "client" / "service" / "hostname").exists()

    def _prepare(self, authority: _Relay) -> str:
        """Its keys; the line by which everybody else knows it."""
        keys = authority.folder / "keys"
        keys.mkdir(parents=True)
        authority.folder.chmod(0o700)
        keys.chmod(0o700)
        subprocess.run(
            [
                *(self._gencert, "--create-identity-key", "--passphrase-fd", "0", "-m", "2"),
                *("-a", f"{authority.address}:{_DIRECTORY_PORT}"),
                *("-i", keys / "authority_identity_key", "-s", keys / "authority_signing_key"),
                *("-c", keys / "authority_certificate"),
            ],
            input=b"a passphrase\n",
            check=True,
            capture_output=True,
            timeout=60,
        )
        certificate = (keys / "authority_certificate").read_text()
        identity = re.search(r"^fingerprint (\w+)$", certificate, re.MULTILINE)
        assert identity is not None
        nobody = f"DirAuthority x 127.0.0.1:1 {'F' * 40}\n"
        authority.torrc.write_text(_authority_torrc(authority) + nobody)
        listed = subprocess.run(
            [
                self._tor,
                "--defaults-torrc",
                "/dev/null",
                "-f",
                authority.torrc,
                "--list-fingerprint",
                "--quiet",
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        fingerprint = listed.strip().splitlines()[-1].partition(" ")[2]
        return (
            f"DirAuthority {authority.name} orport={_OR_PORT} no-v2 v3ident={identity[1]} "
            f"{authority.address}:{_DIRECTORY_PORT} {fingerprint}"
        )

    def _relay_torrc(self, number: int, directory: str) -> Path:
        relay = _Relay(f"relay{number}", f"127.0.0.{20 + number}", self._folder / f"relay{number}")
        relay.folder.mkdir(mode=0o700)
        relay.torrc.write_text(_relay_torrc(relay) + directory)
        return relay.torrc

    def _client_torrc(self, directory: str) -> Path:
        folder = self._folder / "client"
        folder.mkdir(mode=0o700)
        lines = [
            _COMMON,
            f"DataDirectory {folder}",
            f"SocksPort {self.socks[0]}:{self.socks[1]}",
            "SocksPolicy accept *",
            directory,
        ]
        if self._service is not None:
            port, target = self._service
            lines += [f"HiddenServiceDir {folder / 'service'}", f"HiddenServicePort {port} {target}"]
        torrc = folder / "torrc"
        torrc.write_text("\n".join([*lines, ""]))
        return torrc


def _authority_torrc(authority: _Relay) -> str:
    return f"""{_relay_torrc(authority)}
DirPort {authority.address}:{_DIRECTORY_PORT}
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
ContactInfo nobody@example.org
"""


def _relay_torrc(relay: _Relay) -> str:
    return f"""{_COMMON}
DataDirectory {relay.folder}
Nickname {relay.name}
Address {relay.address}
ORPort {relay.address}:{_OR_PORT}
SocksPort 0
ExitRelay 1
ExitPolicy accept *:*
"""
