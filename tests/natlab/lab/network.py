"""The lab: an internet, servers in it, and sites behind NATs.

    with Lab() as lab:
        server = lab.server()
        a, b = lab.site("symmetric"), lab.site("full-cone", delay=0.02)
        relay = server.popen(["turnserver", "-L", server.address, ...])
        print(a.host.run(["turnutils_natdiscovery", "-m", server.address]))

How a site hangs together, from left to right:

    host --veth-- router: bridge, TUN | wire: NAT, delay, loss | TUN: internet --veth-- server

The router is a namespace whose default route is a TUN device. What it sends there, a process of its own
reads, translates, delays and writes to another TUN device, in the internet. With a "linux" kind nftables
translates in the router and the process is only the path. A carrier's NAT is a site without hosts; other
sites are behind it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from support.netns import Namespace, Network

from . import devices
from .capture import Capture
from .host import Host
from .impairment import Impairment
from .kinds import KINDS, Layer, NatKind, Passage, PortAssignment, Realm
from .wire import WireConfig

_TESTS = Path(__file__).parents[2]

# Addresses that look public to whoever checks. The documentation ranges would not: relays refuse them as
# peers. Nothing here leaves the namespaces.
SERVERS = ipaddress.ip_network("11.0.0.0/16")  # one /24 for each server
SITES = ipaddress.ip_network("11.1.0.0/16")  # one /24 for each site
CARRIERS = ipaddress.ip_network("100.64.0.0/10")  # one /24 for each carrier's customers (RFC 6598)
HOMES = ipaddress.ip_network("192.168.0.0/16")  # one /24 for each site
SERVERS6 = ipaddress.ip_network("2a00:11::/48")  # one /64 each
SITES6 = ipaddress.ip_network("2a00:11:1::/48")

_ROUTER_SYSCTL = {"ipv4/ip_forward": 1, "ipv4/conf/all/rp_filter": 0, "ipv4/conf/default/rp_filter": 0}
# Without IPv6 an interface should not even have a link-local address, but the loopback keeps its own.
_NO_IPV6_SYSCTL = {"ipv6/conf/default/disable_ipv6": 1}
_IPV6_SYSCTL = {
    "ipv6/conf/all/accept_dad": 0,
    "ipv6/conf/default/accept_dad": 0,
    "ipv6/conf/default/accept_ra": 0,
}
_IPV6_ROUTER_SYSCTL = _IPV6_SYSCTL | {"ipv6/conf/all/forwarding": 1}

_TUN_QUEUE = (
    2000  # packets; 500, the default, overflows while the process waits for its turn on a busy machine
)


class Server(Host):
    """A host on the public internet with two IPv4 and two IPv6 addresses, as RFC 5780 needs."""

    @property
    def alternate_address(self) -> str:
        return self.addresses[1]


class Site:
    """One or more hosts on a LAN, and the NAT or firewall between them and the outside.

    `host` is the first of `hosts`, `router` the home router as its LAN sees it, `proxy` the one host that an
    "http-proxy" kind lets out. `public_address` is what the internet sees.
    """

    def __init__(
        self, lab: Lab, number: int, kind: NatKind, layer: Layer, behind: Site | None, lan: str | None
    ):
        self.kind = kind
        self.layer = layer
        self.behind = behind
        self.hosts: list[Host] = []
        self.proxy: Host | None = None
        self.outside: Namespace = behind.router.namespace if behind else lab.internet
        self.outside_device = f"site{number}"
        self._lab = lab
        self._number = number
        self._customers = 0
        self._prefix6: ipaddress.IPv6Network | None = None
        site_block = _block(SITES, 24, number)
        if not layer.translates:
            self.lan = site_block
        else:
            self.lan = ipaddress.ip_network(lan) if lan else _block(HOMES, 24, number)
        # Programs of the router, such as a port mapping service, run on its LAN address.
        self.router = Host(lab.namespace(f"router{number}"), [str(self.lan[1])], device="lan")
        self._wan_block = behind.lan if behind else site_block
        self._wan_address: ipaddress.IPv4Address | None = None
        self._control: socket.socket | None = None

    @property
    def host(self) -> Host:
        return self.hosts[0]

    @property
    def public_address(self) -> str:
        """The address of the outermost NAT, or of the host itself where nothing translates."""
        if not self.layer.translates:
            return self.host.address
        return self.behind.public_address if self.behind else str(self._wan_address)

    def add_host(self, name: str = "host") -> Host:
        """One more computer on the LAN."""
        index = len(self.hosts) + 1
        namespace = self._lab.namespace(f"{name}{self._number}_{index}")
        devices.sysctl(namespace, _IPV6_SYSCTL if self._prefix6 else _NO_IPV6_SYSCTL)
        address = self.lan[index + 1]
        port = f"port{index}"
        devices.configure(
            self.router.namespace,
            [
                f"link add {port} type veth peer name eth0 netns {namespace.name}",
                f"link set {port} master lan up",
            ],
        )
        commands = [
            f"address add {address}/{self.lan.prefixlen} dev eth0",
            "link set eth0 up",
            f"route add default via {self.lan[1]}",
        ]
        addresses6 = []
        if self._prefix6:
            addresses6 = [str(self._prefix6[index + 1])]
            commands += [
                f"address add {addresses6[0]}/64 dev eth0 nodad",
                f"route add default via {self._prefix6[1]}",
            ]
        devices.configure(namespace, commands)
        devices.disable_checksum_offload(self.router.namespace, port)
        devices.disable_checksum_offload(namespace, "eth0")
        host = Host(namespace, [str(address)], addresses6)
        self.hosts.append(host)
        return host

    def reboot(self, new_address: bool = False) -> None:
        """The NAT or firewall loses all its state, and with `new_address` its public address as well."""
        if new_address:
            if not self.layer.translates:
                raise ValueError(f"{self.kind.name} has no public address of its own to change")
            self._take_wan_address(self._next_wan_address())
        self._ask("reboot", public_address=str(self._wan_address or "0.0.0.0"))
        if self.layer.realm is Realm.KERNEL:
            devices.flush_conntrack(self.router.namespace)

    def cut(self, seconds: float) -> None:
        """Nothing passes in either direction for so long, from now on. The NAT keeps its state."""
        self._ask("cut", seconds=seconds)

    def impair(
        self, *, upward: Impairment | None = None, downward: Impairment | None = None, **both: Any
    ) -> None:
        """Change delay, loss and so on (see `Impairment`): for both directions by name, or each by itself."""
        if both:
            upward = downward = Impairment(**both)
        self._ask(
            "impair",
            upward=dataclasses.asdict(upward) if upward else None,
            downward=dataclasses.asdict(downward) if downward else None,
        )

    def capture(self) -> Capture:
        """Record what passes on the outer side of the NAT, with all that the path lets through."""
        return Capture(self.outside, self.outside_device)

    def state(self) -> dict[str, Any]:
        """What the wire's process counts: packets `dropped` by the path (up, down), its seconds of `cpu`, and
        the exact NAT's `mappings` by protocol as (internal endpoint, external port)."""
        return self._ask("state")

    # Building -----------------------------------------------------------------------------------------------

    def build(self, config: Callable[[str], WireConfig], hosts: int, ipv6: str, mtu: int) -> None:
        """Make the router, the wire and the hosts. Called once, by the lab."""
        if ipv6 != "none":
            self._prefix6 = _block(SITES6, 64, self._number)
        # Before there are devices: they take the defaults when they are made.
        devices.sysctl(self.router.namespace, _ROUTER_SYSCTL)
        devices.sysctl(self.router.namespace, _IPV6_ROUTER_SYSCTL if self._prefix6 else _NO_IPV6_SYSCTL)
        with contextlib.ExitStack() as undo:
            tuns = []
            for namespace, name in ((self.router.namespace, "wan"), (self.outside, self.outside_device)):
                tuns.append(devices.tun(namespace, name))
                undo.callback(os.close, tuns[-1])
            self._configure_router(mtu)
            self._configure_outside(mtu)
            if self.layer.translates:
                self._take_wan_address(self._next_wan_address())
            if self.layer.realm is Realm.KERNEL:
                devices.load_nft(self.router.namespace, _nft_ruleset(self.layer))
            for _ in range(hosts):
                self.add_host()
            if self.layer.passage == "proxy":
                self.proxy = self.add_host("proxy")
            undo.pop_all()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(10)
        wire = config(str(self._wan_address or "0.0.0.0"))
        if self.proxy:
            wire = dataclasses.replace(wire, proxy_address=self.proxy.address)
        self._lab.start_wire(wire, [*tuns, theirs.detach()])

    def _configure_router(self, mtu: int) -> None:
        commands = [
            "link add lan type bridge",
            f"address add {self.lan[1]}/{self.lan.prefixlen} dev lan",
            "link set lan up",
            f"link set wan mtu {mtu} txqueuelen {_TUN_QUEUE} up",
            "route add default dev wan",
        ]
        if self._prefix6:
            commands += [f"address add {self._prefix6[1]}/64 dev lan nodad", "route add ::/0 dev wan"]
        devices.configure(self.router.namespace, commands)

    def _configure_outside(self, mtu: int) -> None:
        commands = [f"link set {self.outside_device} mtu {mtu} txqueuelen {_TUN_QUEUE} up"]
        if not self.layer.translates:
            commands.append(f"route add {self.lan} dev {self.outside_device}")
        if self._prefix6:
            commands.append(f"route add {self._prefix6} dev {self.outside_device}")
        else:
            devices.sysctl(self.outside, {f"ipv6/conf/{self.outside_device}/disable_ipv6": 1})
        devices.configure(self.outside, commands)

    def _next_wan_address(self) -> ipaddress.IPv4Address:
        if self.behind:
            return self.behind.next_customer_address()
        return self._wan_block[1] if self._wan_address is None else self._wan_address + 1

    def next_customer_address(self) -> ipaddress.IPv4Address:
        """For a NAT behind this one. Above what `add_host` gives out: a carrier may have hosts too."""
        self._customers += 1
        return self.lan[100 + self._customers]

    def _take_wan_address(self, address: ipaddress.IPv4Address) -> None:
        old, self._wan_address = self._wan_address, address
        routes = [f"route add {address}/32 dev {self.outside_device}"]
        addresses = [f"address add {address}/32 dev wan"]
        if old:
            routes.append(f"route del {old}/32")
            addresses.append(f"address del {old}/32 dev wan")
        devices.configure(self.outside, routes)
        if self.layer.realm is Realm.KERNEL:
            devices.configure(self.router.namespace, addresses)

    def _ask(self, what: str, **values: Any) -> Any:
        assert self._control is not None
        self._control.send(json.dumps({"do": what, **values}).encode())
        answer = self._control.recv(1 << 20)
        if not answer:
            raise RuntimeError(f"the wire of {self.kind.name} (site {self._number}) has died")
        answer = json.loads(answer)
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def hang_up(self) -> None:
        """End the wire, and wait until it has let go of its devices."""
        for host in (*self.hosts, self.router):
            host.close()
        if self._control is not None:
            self._control.shutdown(socket.SHUT_WR)
            self._control.recv(1)
            self._control.close()


class Lab:
    """Owns an internet and all that is connected to it. Nothing is left when it closes or is killed."""

    def __init__(self, seed: int | None = None) -> None:
        """With a seed, the NATs' choices of ports and the paths' losses are the same in each run."""
        self._seed = seed
        self._nursery, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._nursery_process = subprocess.Popen(
                [sys.executable, "-c", "from natlab.lab.wire import main; main()", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": str(_TESTS)},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._network = Network()
        self.sites: list[Site] = []
        self.servers: list[Server] = []
        self.internet = self.namespace("internet")
        devices.sysctl(self.internet, _ROUTER_SYSCTL | _IPV6_ROUTER_SYSCTL)

    def server(self, name: str = "server") -> Server:
        """A host on the public internet. There may be several."""
        number = len(self.servers)
        subnet, subnet6 = _block(SERVERS, 24, number), _block(SERVERS6, 64, number)
        namespace = self.namespace(f"{name}{number}")
        devices.sysctl(namespace, _IPV6_SYSCTL)
        port = f"server{number}"
        devices.configure(
            self.internet,
            [
                f"link add {port} type veth peer name eth0 netns {namespace.name}",
                f"address add {subnet[1]}/24 dev {port}",
                f"address add {subnet6[1]}/64 dev {port} nodad",
                f"link set {port} up",
            ],
        )
        addresses = [str(subnet[10]), str(subnet[20])]
        addresses6 = [str(subnet6[0x10]), str(subnet6[0x20])]
        devices.configure(
            namespace,
            [
                *(f"address add {address}/24 dev eth0" for address in addresses),
                *(f"address add {address}/64 dev eth0 nodad" for address in addresses6),
                "link set eth0 up",
                f"route add default via {subnet[1]}",
                f"route add default via {subnet6[1]}",
            ],
        )
        devices.disable_checksum_offload(self.internet, port)
        devices.disable_checksum_offload(namespace, "eth0")
        server = Server(namespace, addresses, addresses6)
        self.servers.append(server)
        return server

    def site(
        self,
        kind: str | NatKind,
        *,
        hosts: int = 1,
        behind: Site | None = None,
        lan: str | None = None,
        ipv6: str = "none",
        mtu: int = 1500,
        mapping_timeout: float | None = None,
        ports: PortAssignment | None = None,
        hairpin: bool | None = None,
        passage: Passage | None = None,
        upward: Impairment | None = None,
        downward: Impairment | None = None,
        **both: Any,
    ) -> Site:
        """A new site behind a NAT of this kind.

        Delay, loss and so on are given by name for both directions (`delay=0.02`, see `Impairment`), or with
        `upward` and `downward` for each. `behind` puts it behind another site's NAT; `lan` may give two sites
        the same private addresses; `ipv6` is "none", "firewall" (as home routers do) or "open".
        `mapping_timeout` in seconds, `ports`, `hairpin` and `passage` change what the kind's table says, for
        the layer next to the host.
        """
        kind = KINDS[kind] if isinstance(kind, str) else kind
        if ipv6 != "none" and (behind or len(kind.layers) > 1):
            raise ValueError("a site behind another NAT has no IPv6 here")
        # The layers further out are sites without hosts: 100.64/10 is what this one's NAT has outside.
        for layer in kind.layers[:0:-1]:
            behind = self._build_site(kind, layer, behind, 0, str(_block(CARRIERS, 24, len(self.sites))))
        overrides = {
            "mapping_timeout": mapping_timeout,
            "ports": ports,
            "hairpin": hairpin,
            "passage": passage,
        }
        changes = {name: value for name, value in overrides.items() if value is not None}
        layer = dataclasses.replace(kind.layers[0], **changes)
        if layer.realm is Realm.KERNEL and changes.keys() - {"mapping_timeout", "passage"}:
            raise ValueError(f"{kind.name} is the kernel's own NAT: it has no setting for {sorted(changes)}")
        if both:
            upward = downward = Impairment(**both)
        site = self._build_site(kind, layer, behind, hosts, lan, ipv6, mtu, upward, downward)
        if layer.realm is Realm.KERNEL and mapping_timeout is not None:
            timeouts = ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream")
            devices.sysctl(
                site.router.namespace, {f"netfilter/{name}": round(mapping_timeout) for name in timeouts}
            )
        return site

    def _build_site(
        self,
        kind: NatKind,
        layer: Layer,
        behind: Site | None,
        hosts: int,
        lan: str | None,
        ipv6: str = "none",
        mtu: int = 1500,
        upward: Impairment | None = None,
        downward: Impairment | None = None,
    ) -> Site:
        site = Site(self, len(self.sites), kind, layer, behind, lan)
        self.sites.append(site)
        seed = None if self._seed is None else self._seed + 1000 * len(self.sites)

        def config(public_address: str) -> WireConfig:
            return WireConfig(
                layer, public_address, ipv6, upward or Impairment(), downward or Impairment(), seed=seed
            )

        site.build(config, hosts, ipv6, mtu)
        return site

    @property
    def nursery_pid(self) -> int:
        """The process whose children the wires are, and the session that they all belong to."""
        return self._nursery_process.pid

    def namespace(self, name: str) -> Namespace:
        return self._network.host(name)

    def start_wire(self, config: WireConfig, descriptors: list[int]) -> None:
        """Hand the devices to a process of their own. Our copies of the descriptors are closed."""
        try:
            socket.send_fds(self._nursery, [config.to_json()], descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def close(self) -> None:
        # Whatever goes wrong with one of them, the others end as well.
        with contextlib.ExitStack() as last_first:
            last_first.callback(self._network.close)
            last_first.callback(self._end_nursery)
            for site in self.sites:
                last_first.callback(site.hang_up)
            for server in self.servers:
                last_first.callback(server.close)

    def _end_nursery(self) -> None:
        self._nursery.close()
        try:
            self._nursery_process.wait(10)
        except subprocess.TimeoutExpired:
            self._nursery_process.kill()
            self._nursery_process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _block(network: Any, prefix_length: int, number: int) -> Any:
    """The number-th subnet of this length."""
    size = 1 << (network.max_prefixlen - prefix_length)
    return ipaddress.ip_network((int(network.network_address) + number * size, prefix_length))


def _nft_ruleset(layer: Layer) -> str:
    """What a home router with Linux loads.

    The drop on input matters: where a packet from nowhere reaches the router itself, conntrack remembers it,
    and a host that then sends to the same peer gets another port, since its own would give the same 5-tuple.
    """
    flags = " random,fully-random" if layer.random_fully else ""
    return f"""
    table ip nat {{
        chain postrouting {{
            type nat hook postrouting priority srcnat;
            oifname "wan" ip protocol {{ udp, tcp, icmp }} masquerade{flags}
        }}
    }}
    table ip filter {{
        chain input {{
            type filter hook input priority filter;
            iifname "wan" ct state established,related accept
            iifname "wan" icmp type echo-request accept
            iifname "wan" drop
        }}
        chain forward {{
            type filter hook forward priority filter;
            iifname "wan" ct state established,related accept
            iifname "wan" ct status dnat accept
            iifname "wan" drop
        }}
    }}
    """
