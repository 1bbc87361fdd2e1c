"""What `turnrelay serve` prints when it starts: what to paste into a client, and where things are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address


@dataclass(frozen=True, slots=True)
class Welcome:
    """The facts of a started relay."""

    version: str
    uris: Sequence[str]
    username: str | None
    password: str | None
    expires_at: float | None
    """Unix time at which the printed credential ends."""
    relay_addresses: Sequence[str]
    ports: tuple[int, int]
    relays_tcp: bool
    http: str | None
    tunnels: Sequence[str]
    """URLs of the tunnel on the shared ports."""
    operator_token: str
    """Where it is, never what it is."""
    data_dir: str
    plane: str

    def render(self) -> str:
        """Plain text, one fact a line, nothing wrapped, so that every value can be copied whole."""
        lines = ["", f"  turnrelay {self.version} is running. Stop it with Ctrl-C.", ""]
        if self.username is not None and self.expires_at is not None:
            until = datetime.fromtimestamp(self.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
            lines += [f"  Paste into a TURN client (valid until {until}):", ""]
        lines += _rows("URI", self.uris)
        if self.username is not None:
            lines += [f"    user       {self.username}", f"    password   {self.password}", ""]
            servers = {"urls": list(self.uris), "username": self.username, "credential": self.password}
            lines += ["  Or into a WebRTC page:", "", f"    iceServers: [{json.dumps(servers)}]"]
        first, last = self.ports
        transports = "UDP and TCP" if self.relays_tcp else "UDP"
        addresses = ", ".join(self.relay_addresses)
        lines += ["", f"  Relay addresses  {addresses}, ports {first}-{last}, {transports}"]
        lines += [f"  Data plane       {self.plane}"]
        if self.http is not None:
            lines += [f"  Console, test    http://{self.http}/, /test"]
            lines += [f"  Operator token   {self.operator_token}"]
            lines += [f"  Metrics, health  http://{self.http}/metrics, /healthz, /readyz"]
        lines += [f"  Tunnel           {url}" for url in self.tunnels]
        lines += [f"  Data directory   {self.data_dir}"]
        if all(ip_address(host).is_private for host in self.relay_addresses):
            lines += [
                "",
                "  These relay addresses are private, so only clients of this network are relayed.",
                "  Behind a one-to-one NAT, as in most clouds, add: --external-ip PUBLIC_ADDRESS",
            ]
        return "\n".join([*lines, ""])


def _rows(label: str, values: Sequence[str]) -> list[str]:
    labels = [label] + [""] * (len(values) - 1)
    return [f"    {name:<10} {value}" for name, value in zip(labels, values, strict=True)]


def turn_uris(
    hosts: Sequence[str], port: int, tls_ports: Sequence[int], tls_names: Sequence[str] = ()
) -> list[str]:
    """The URIs (RFC 7065) that clients may use, UDP first; without a certificate there are no `tls_ports`.

    Over TLS clients compare the host with the certificate, so its names stand in those URIs if it has any.
    """
    uris: list[str] = []
    for name in map(_bracketed, hosts):
        uris += [f"turn:{name}:{port}?transport=udp", f"turn:{name}:{port}?transport=tcp"]
        if not tls_names:
            uris += [f"turns:{name}:{tls_port}?transport=tcp" for tls_port in tls_ports]
    return uris + [f"turns:{name}:{tls_port}?transport=tcp" for name in tls_names for tls_port in tls_ports]


def tunnel_urls(
    hosts: Sequence[str], ports: Sequence[int], path: str, *, secure: bool, tls_names: Sequence[str] = ()
) -> list[str]:
    """The URLs of the tunnel on the shared ports, for the settings of clients."""
    scheme, names = ("wss", tls_names or hosts) if secure else ("ws", hosts)
    return [f"{scheme}://{_bracketed(name)}:{port}{path}" for name in names for port in ports]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
