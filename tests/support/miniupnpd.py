"""Debian's miniupnpd on a router of the NAT lab: UPnP-IGD, NAT-PMP and PCP as home routers do them."""

from pathlib import Path
from typing import Self

from natlab.lab import Site, devices

from support.processes import Process, run
from support.requirements import require_program

# Its own table, before the router's masquerade, so that what leaves a mapped port also has that port outside.
_TABLE = """
table inet miniupnpd {
    chain forward { type filter hook forward priority -5; policy accept; jump miniupnpd; }
    chain prerouting { type nat hook prerouting priority dstnat; policy accept; jump prerouting_miniupnpd; }
    chain postrouting { type nat hook postrouting priority 90; policy accept; jump postrouting_miniupnpd; }
    chain miniupnpd { }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
}
"""


class Miniupnpd:
    """On the router of `site`. `more` are lines of its configuration, such as `enable_upnp=no`."""

    def __init__(self, site: Site, folder: Path, *more: str) -> None:
        self._site = site
        self._program = require_program("miniupnpd")
        self._folder = folder
        settings = {
            "ext_ifname": "wan",
            "listening_ip": "lan",
            "enable_natpmp": "yes",
            "enable_upnp": "yes",
            "ipv6_disable": "no",
            "secure_mode": "yes",
            "upnp_table_name": "miniupnpd",
            "upnp_nat_table_name": "miniupnpd",
            "upnp_forward_chain": "miniupnpd",
            "upnp_nat_chain": "prerouting_miniupnpd",
            "upnp_nat_postrouting_chain": "postrouting_miniupnpd",
            "uuid": "00000000-0000-0000-0000-000000000001",
        }
        settings |= dict(line.split("=", 1) for line in more)
        lines = [f"{key}={value}" for key, value in settings.items()]
        lines.append("allow 1024-65535 0.0.0.0/0 1024-65535")
        self._config = folder / "miniupnpd.conf"
        self._config.write_text("\n".join(lines) + "\n")
        devices.load_nft(site.router.namespace, _TABLE)
        self.process: Process | None = None

    def start(self) -> Self:
        self.process = self._site.router.popen(
            [self._program, "-d", "-f", self._config, "-P", self._folder / "miniupnpd.pid"]
        )
        process = self.process
        process.wait_until(lambda: "HTTP listening" in process.output(), timeout=60)
        return self

    def reboot(self) -> None:
        """It starts anew without its mappings, as a router does that had no power."""
        assert self.process is not None
        self.process.stop()
        self._nft("flush", "chain", "inet", "miniupnpd", "prerouting_miniupnpd")
        self.start()

    def rules(self) -> str:
        """The port forwardings that it has made, as nft lists them."""
        return self._nft("list", "chain", "inet", "miniupnpd", "prerouting_miniupnpd")

    def forwards(self) -> list[str]:
        return [line.strip() for line in self.rules().splitlines() if "dnat" in line]

    def pinholes(self) -> str:
        """What it lets through to IPv6 hosts, as nft lists it."""
        return self._nft("list", "chain", "inet", "miniupnpd", "miniupnpd")

    def _nft(self, *words: str) -> str:
        return run(["nft", *words], timeout=10, namespace=self._site.router.namespace)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.stop()
        self._nft("delete", "table", "inet", "miniupnpd")
