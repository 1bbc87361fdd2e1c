"""The relays that are compared, each started afresh and pinned to the server's core."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import psutil
import trustme
from support.netns import inside
from support.ports import answers_stun, is_listening
from support.processes import Process

from bench.network import (
    NICENESS,
    PEER,
    SERVER,
    SERVER_AT_PEER,
    Bench,
    prefer,
    scheduled_seconds,
)

REALM, USER, PASSWORD = "bench", "bench", "bench-password"
PORT, TLS_PORT = 3478, 5349
PION = Path(__file__).parent / "build" / "pion"
_UNLIMITED = 1_000_000_000
_LIMITS = {
    "unauthenticated_per_prefix_per_second": _UNLIMITED,
    "unauthenticated_per_prefix_burst": _UNLIMITED,
    "requests_per_allocation_per_second": _UNLIMITED,
    "requests_per_allocation_burst": _UNLIMITED,
    "allocations_per_user": _UNLIMITED,
    "allocations_per_prefix": _UNLIMITED,
    "allocations_total": _UNLIMITED,
    "bandwidth_per_allocation": 0,
    "bandwidth_per_user": 0,
    "tcp_connections_per_prefix": _UNLIMITED,
    "tcp_connections_total": _UNLIMITED,
}


class Kind(Protocol):
    """What is started as a relay: its name in the tables, and how."""

    name: str
    port: int
    tls_port: int

    def argv(self, folder: Path) -> list[str]: ...

    def environment(self) -> Mapping[str, str] | None: ...

    def version(self) -> str: ...


@dataclass(frozen=True)
class Coturn:
    binary: str
    name: str = "coturn"
    port: int = PORT
    tls_port: int = TLS_PORT

    def argv(self, folder: Path) -> list[str]:
        return [
            *(self.binary, "-n", "-m", "1", "--no-cli", "--log-file=/dev/null", "--no-stdout-log"),
            *(
                "--simple-log",
                "--no-multicast-peers",
                f"--pidfile={folder / 'pid'}",
                f"--userdb={folder / 'db'}",
            ),
            *("--lt-cred-mech", f"--user={USER}:{PASSWORD}", f"--realm={REALM}", "--no-dtls"),
            *(f"--listening-ip={SERVER}", f"--relay-ip={SERVER_AT_PEER}"),
            *(f"--listening-port={self.port}", f"--tls-listening-port={self.tls_port}"),
            *(f"--cert={folder / 'chain.pem'}", f"--pkey={folder / 'key.pem'}"),
        ]

    def environment(self) -> None:
        return None

    def version(self) -> str:
        done = subprocess.run(
            [self.binary, "--version"], capture_output=True, text=True, check=False, timeout=10
        )
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
        return next((line for line in lines if line[:1].isdigit()), "unknown version")


@dataclass(frozen=True)
class Pion:
    """bench/pion, where `make` could build it: Go and the Debian package of pion/turn are needed."""

    binary: Path
    name: str = "pion"
    port: int = PORT
    tls_port: int = TLS_PORT

    def argv(self, folder: Path) -> list[str]:
        return [
            *(str(self.binary), "-listen", SERVER, "-relay", SERVER_AT_PEER),
            *("-port", str(self.port), "-tls-port", str(self.tls_port)),
            *("-realm", REALM, "-user", USER, "-password", PASSWORD),
            *("-cert", str(folder / "chain.pem"), "-key", str(folder / "key.pem")),
        ]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "GOMAXPROCS": "1"}

    def version(self) -> str:
        package = ["dpkg-query", "-W", "-f", "${Version}", "golang-github-pion-turn.v2-dev"]
        done = subprocess.run(package, capture_output=True, text=True, check=False)
        return done.stdout.partition("-")[0] or "unknown version"


@dataclass(frozen=True)
class Turnrelay:
    plane: str
    name: str
    mover: str = "c"
    workers: int = 1
    port: int = PORT
    tls_port: int = TLS_PORT

    def argv(self, folder: Path) -> list[str]:
        return [
            *(str(Path(sys.executable).parent / "turnrelay"), "serve", "--plane", self.plane),
            *("--mover", self.mover, "--workers", str(self.workers)),
            *("--listen", SERVER, "--relay-ip", SERVER_AT_PEER),
            *("--port", str(self.port), "--tls-port", str(self.tls_port)),
            *("--allow-peer", f"{PEER}/32", "--realm", REALM, "--user", f"{USER}:{PASSWORD}"),
            *("--tls-cert", str(folder / "chain.pem"), "--tls-key", str(folder / "key.pem")),
            *("--http", "off", "--data-dir", str(folder / "data"), "--log-level", "error"),
        ]

    def environment(self) -> dict[str, str]:
        limits = {f"TURNRELAY_LIMITS__{key.upper()}": str(value) for key, value in _LIMITS.items()}
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("TURNRELAY_")},
            **limits,
        }

    def version(self) -> str:
        from importlib.metadata import version

        more = "" if self.workers == 1 else f", {self.workers} workers"
        return f"{version('turnrelay')}, {self.plane} plane, packets moved by {self.mover}{more}"


def kinds(xdp: bool, everything: bool) -> list[Kind]:
    """coturn of the system, the one of BENCH_COTURN, and the planes of turnrelay that this version has.

    `everything` adds what is for comparison only: pion, and turnrelay with Python alone.
    """
    found: list[Kind] = []
    if (system := shutil.which("turnserver")) is not None:
        found.append(Coturn(system))
    if (other := os.environ.get("BENCH_COTURN")) is not None:
        if shutil.which(other) is None:
            sys.exit(f"BENCH_COTURN={other} is no program that can be run.")
        found.append(Coturn(other, "coturn (BENCH_COTURN)"))
    if not found:
        sys.exit("coturn is missing: apt-get install coturn, or name a turnserver with BENCH_COTURN=")
    found.append(Turnrelay("userspace", "turnrelay userspace"))
    if xdp:
        found.append(Turnrelay("xdp", "turnrelay xdp"))
    if everything:
        found.append(Turnrelay("userspace", "turnrelay python", mover="python"))
        if PION.exists():
            found.append(Pion(PION))
    return found


@dataclass(frozen=True)
class Ruleless:
    """bench/ruleless.py: what the answers cost without the rules."""

    name: str = "no rules, in Python"
    port: int = PORT
    tls_port: int = TLS_PORT

    def argv(self, folder: Path) -> list[str]:
        program = Path(__file__).with_name("ruleless.py")
        ports = (str(self.port), str(self.tls_port))
        return [sys.executable, str(program), SERVER, SERVER_AT_PEER, *ports, REALM, USER, PASSWORD]

    def environment(self) -> None:
        return None

    def version(self) -> str:
        return "bench/ruleless.py"


@dataclass(frozen=True)
class Team:
    """Relays that share a server and its cores, one for each worker, and are measured as one."""

    name: str
    members: tuple[Turnrelay, ...]

    @property
    def cores(self) -> int:
        return sum(member.workers for member in self.members)

    def version(self) -> str:
        return ", and ".join(member.version() for member in self.members)


ONE_WORKER = "turnrelay 1 worker"


def teams() -> list[Team]:
    """One worker on a core and two on two; and, sharing nothing but the machine, two relays on two cores."""
    one = Turnrelay("userspace", ONE_WORKER)
    return [
        Team(ONE_WORKER, (one,)),
        Team("turnrelay 2 workers", (replace(one, workers=2),)),
        Team("2 relays apart", (one, replace(one, port=PORT + 100, tls_port=TLS_PORT + 100))),
    ]


class Relay:
    """A running relay in the server's namespace."""

    def __init__(self, kind: Kind, bench: Bench, folder: Path) -> None:
        self.kind = kind
        self.name = kind.name
        self._bench = bench
        self._folder = folder

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "data").mkdir(exist_ok=True)
        _certificate(self._folder)
        argv = self.kind.argv(self._folder)
        cores = ",".join(map(str, self._bench.server_cores))
        pinned = ["setsid", "nice", "-n", str(NICENESS), "taskset", "-c", cores, *argv]
        environment = self.kind.environment()
        self._process = Process(pinned, namespace=self._bench.server, env=environment, cwd=self._folder)
        try:
            self._process.wait_until(self._is_ready, timeout=20)
        except BaseException:
            self._process.stop()
            raise
        prefer(self._process.pid)
        self._pids = [self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True))]
        return self

    def __exit__(self, *_: object) -> None:
        # SIGTERM would wait for clients that left their allocations behind.
        self._process.stop(first=signal.SIGINT)

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    @property
    def pid(self) -> int:
        return self._process.pid

    def process_seconds(self) -> float:
        return sum(map(scheduled_seconds, self._pids))

    def cpu_seconds(self) -> float:
        """Of the process and of the threads that poll the server's interfaces."""
        return self.process_seconds() + self._bench.server_softirq_seconds()

    def resident_bytes(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"{self.name} has no VmRSS")

    def _is_ready(self) -> bool:
        with inside(self._bench.server):
            return (
                answers_stun(SERVER, self.kind.port)
                and is_listening(SERVER, self.kind.port)
                and is_listening(SERVER, self.kind.tls_port)
            )


def _certificate(folder: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert(SERVER)
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
