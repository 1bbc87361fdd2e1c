"""Other people's STUN programs, which judge the lab's NATs: how to start them, how to read their words."""

import re
import time
from pathlib import Path
from typing import ClassVar, Self

from support.processes import Process
from support.requirements import require_program

from natlab.lab import Dependence, Host, Server

STUN_PORT = 3478
_PATIENCE = 40.0

EI = Dependence.ENDPOINT_INDEPENDENT
AD = Dependence.ADDRESS_DEPENDENT
APD = Dependence.ADDRESS_AND_PORT_DEPENDENT


class CoturnBehaviourServer:
    """coturn's `turnserver` as an RFC 5780 (and RFC 3489) server: two addresses, two ports.

    Two listening addresses are all that it needs for that. An --external-ip would switch it off.
    """

    def __init__(self, server: Server, folder: Path) -> None:
        argv = [require_program("turnserver"), "-n", "--no-cli", "--no-auth", "--no-tls", "--no-dtls"]
        argv += ["--log-file=stdout", "--simple-log", "--verbose", f"--userdb={folder / 'turndb'}"]
        argv += [f"--pidfile={folder / 'turnserver.pid'}", f"--listening-port={STUN_PORT}"]
        argv += [f"--listening-ip={address}" for address in server.addresses]
        self.process = server.popen(argv, cwd=folder)
        self._server = server

    def __enter__(self) -> Self:
        sockets = [
            (address, port) for address in self._server.addresses for port in (STUN_PORT, STUN_PORT + 1)
        ]
        wanted = [f"UDP listener opened on: {address}:{port}" for address, port in sockets]
        self.process.wait_until(lambda: all(line in self.process.output() for line in wanted))
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()


class NatDiscovery:
    """coturn's `turnutils_natdiscovery` (RFC 5780). Where nothing answers, it waits three seconds a time.

    It tells address-dependent mapping only beside coturn 4.6's own server, where two mistakes cancel: that
    server's OTHER-ADDRESS always names its second address, also in an answer from there, and the tool sends
    its third test to the OTHER-ADDRESS of the second answer. A server that does as RFC 5780 section 7.6 says
    names its first address there, and the tool, comparing two addresses' mappings, calls the NAT address and
    port dependent.
    """

    _MAPPING: ClassVar = {
        "NAT with Endpoint Independent Mapping!": EI,
        "NAT with Address Dependent Mapping!": AD,
        "NAT with Address and Port Dependent Mapping!": APD,
    }
    _FILTERING: ClassVar = {
        "NAT with Endpoint Independent Filtering!": EI,
        "NAT with Address Dependent Filtering!": AD,
        "NAT with Address and Port Dependent Filtering!": APD,
    }

    def __init__(self, host: Host, server: Server) -> None:
        program = require_program("turnutils_natdiscovery")
        # Bound to the host's own address, it can also tell that there is no NAT at all.
        bound = ["-L", host.address]
        self._mapping = host.popen([program, "-m", *bound, server.address])
        self._filtering = host.popen([program, "-f", *bound, server.address])

    @property
    def mapping(self) -> Dependence | None:
        return _verdict(finish(self._mapping), self._MAPPING)

    @property
    def filtering(self) -> Dependence | None:
        return _verdict(finish(self._filtering), self._FILTERING)

    @property
    def says_no_nat(self) -> bool:
        return "No NAT!" in finish(self._mapping)


class StunClient:
    """Debian's `stun-client` (RFC 3489), which knows the older words.

    It can't tell address-dependent mapping from address-and-port-dependent: it tries one other address, and
    calls both "Dependent". It then says nothing of the filter.
    """

    _FILTERING: ClassVar = {
        "Independent Filter": EI,
        "Address Dependent Filter": AD,
        "Port Dependent Filter": APD,
        "Open": EI,
        "Firewall": APD,
    }

    def __init__(self, host: Host, server: Server) -> None:
        self._process = host.popen([require_program("stun"), server.address, "-v"])

    @property
    def verdict(self) -> list[str]:
        """Such as "Independent Mapping", "Port Dependent Filter", "preserves ports", "no hairpin"."""
        primary = re.search(r"^Primary: (.*?)\s*$", finish(self._process), re.MULTILINE)
        assert primary, self._process.output()
        return primary[1].split(", ")

    @property
    def is_blocked(self) -> bool:
        return self.verdict == ["Blocked or could not reach STUN server"]

    @property
    def mapping_is_independent(self) -> bool:
        return self.verdict[0] in ("Independent Mapping", "Open", "Firewall")

    @property
    def filtering(self) -> Dependence | None:
        return next((self._FILTERING[word] for word in self.verdict if word in self._FILTERING), None)

    @property
    def preserves_ports(self) -> bool:
        return "preserves ports" in self.verdict

    @property
    def hairpins(self) -> bool:
        """It sends to its own mapped address from the same socket, so no filter stands in the way."""
        return "will hairpin" in self.verdict


def finish(process: Process) -> str:
    """Wait for its end, whatever its exit code: `stun` puts its verdict there. Returns the output."""
    deadline = time.monotonic() + _PATIENCE
    while process.returncode is None:
        if time.monotonic() > deadline:
            raise process.failure(f"still ran after {_PATIENCE:g} s")
        time.sleep(0.02)
    return process.output()


def _verdict(output: str, words: dict[str, Dependence]) -> Dependence | None:
    return next((dependence for line, dependence in words.items() if line in output), None)
