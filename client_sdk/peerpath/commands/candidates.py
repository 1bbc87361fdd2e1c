"""`peerpath candidates`: the addresses that a peer could try."""

from __future__ import annotations

from typing import Annotated

import typer

from peerpath.commands import console
from peerpath.commands.discover import AsJson, Config, Servers
from peerpath.net.addresses import join_host_port
from peerpath.traversal import NATTraversal

Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="The UDP port; 0 chooses a free one.")]


def candidates(stun: Servers = None, port: Port = 0, as_json: AsJson = False, config: Config = None) -> None:
    """List the addresses at which a peer could reach a UDP port of this machine."""
    traversal = NATTraversal(console.settings(config, stun_servers=stun))
    with console.working("Asking STUN servers"):
        found = console.run(traversal.get_connection_candidates(port))
    public = traversal.public_address
    seen = (public.public_ip, public.public_port) if public is not None else None
    kinds = [(address, "public" if address == seen else "host") for address in found]
    if as_json:
        console.print_json([{"host": host, "port": port, "kind": kind} for (host, port), kind in kinds])
    else:
        for address, kind in kinds:
            console.output.print(f"{kind:7} {join_host_port(address)}", markup=False)
    if traversal.failure is not None:
        console.messages.print(str(traversal.failure), style="yellow", markup=False)
