"""`peerpath discover`: the public address, what the NAT does, and what that means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from peerpath.commands import console
from peerpath.nat.behaviour import NatBehaviour, NatType
from peerpath.nat.compatibility import Method, predict, typical
from peerpath.nat.discoverer import Discovery, discover_behaviour
from peerpath.nat.lifetime import measure_mapping_lifetime
from peerpath.net.addresses import join_host_port
from peerpath.stun.client import ServerLike

_PEERS = (
    NatType.OPEN_INTERNET,
    NatType.FIREWALL,
    NatType.FULL_CONE,
    NatType.ADDRESS_RESTRICTED,
    NatType.PORT_RESTRICTED,
    NatType.SYMMETRIC,
    NatType.BLOCKED,
)
_MEANING = {
    Method.DIRECT: "connects directly",
    Method.HOLE_PUNCHING: "connects by hole punching",
    Method.PORT_PREDICTION: "connects if the next port can be guessed",
    Method.BIRTHDAY: "often connects after many guesses, else by a relay",
    Method.RELAY: "needs a relay (TURN)",
}

Servers = Annotated[
    list[str] | None,
    typer.Option("--stun", metavar="HOST[:PORT]", help="A STUN server; may be given several times."),
]
Config = Annotated[str | None, typer.Option("--config", metavar="FILE", help="Settings as TOML.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]


def discover(
    stun: Servers = None,
    as_json: AsJson = False,
    lifetime: Annotated[
        bool, typer.Option("--lifetime", help="Also measure how long a mapping lives. Takes minutes.")
    ] = False,
    config: Config = None,
) -> None:
    """Find out the public address, what the NAT does, and what that means for connecting.

    One server with two addresses (RFC 5780) tells everything, two plain ones tell how the NAT maps. Without
    --stun those of the settings are asked.
    """
    chosen = console.settings(config, stun_servers=stun)
    servers: Sequence[ServerLike] = stun or (*chosen.primary_servers, *chosen.backup_stun_servers)
    with console.working("Asking STUN servers") as task:
        found = console.run(discover_behaviour(servers, on_progress=task.tell))
    seconds = None
    if lifetime and found.behaviour.server is not None and not found.behaviour.udp_blocked:
        with console.working("Measuring how long mappings live") as task:
            measuring = measure_mapping_lifetime(
                found.behaviour.server, on_progress=lambda text: task.tell(text, 0.0)
            )
            seconds = console.run(measuring)
    if as_json:
        console.print_json(_as_json(found, seconds))
    else:
        _explain(found, seconds)
    if found.behaviour.public_address is None:
        raise typer.Exit(console.FAILED)


def _as_json(found: Discovery, seconds: float | None) -> dict[str, Any]:
    behaviour = found.behaviour
    public, local, server = behaviour.public_address, behaviour.local_address, behaviour.server
    return {
        "public_address": join_host_port(public) if public else None,
        "local_address": join_host_port(local) if local else None,
        "nat_type": behaviour.nat_type.value,
        "mapping": behaviour.mapping.value,
        "filtering": behaviour.filtering.value,
        "hairpinning": behaviour.hairpinning,
        "translated": behaviour.translated,
        "udp_blocked": behaviour.udp_blocked,
        "port_assignment": behaviour.port_assignment.value,
        "mapping_lifetime_seconds": seconds,
        "server": join_host_port(server) if server else None,
        "notes": list(behaviour.notes),
        "failures": [{"server": failure.server, "reason": failure.reason} for failure in found.failures],
    }


def _explain(found: Discovery, seconds: float | None) -> None:
    behaviour = found.behaviour
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(behaviour, seconds):
        facts.add_row(name, value)
    console.output.print(facts)
    console.output.print()
    if behaviour.nat_type is NatType.BLOCKED:
        console.output.print("No UDP passes: connections need a relay over TCP or TLS.")
    elif behaviour.public_address is not None:
        peers = Table("A peer behind", "What happens", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for peer in _PEERS:
            peers.add_row(peer.spoken, _MEANING[predict(behaviour, typical(peer))])
        console.output.print(peers)
    for note in behaviour.notes:
        console.output.print(f"Note: {note}", markup=False)
    for failure in found.failures:
        console.output.print(f"No help from {failure.server}: {failure.reason}", markup=False)


def _facts(behaviour: NatBehaviour, seconds: float | None) -> list[tuple[str, str]]:
    public, local = behaviour.public_address, behaviour.local_address
    facts = [
        ("Public address", join_host_port(public) if public else "unknown"),
        ("Local address", join_host_port(local) if local else "unknown"),
        ("NAT type", behaviour.nat_type.spoken),
        ("Mapping", behaviour.mapping.value),
        ("Filtering", behaviour.filtering.value),
        ("Ports", behaviour.port_assignment.value),
    ]
    if behaviour.hairpinning is not None:
        facts.append(("Hairpinning", "yes" if behaviour.hairpinning else "no"))
    if seconds is not None:
        facts.append(("Mappings live", f"{seconds:.0f} s or more"))
    return facts
