"""`peerpath punch`: a hole to a peer that punches at the same time."""

from __future__ import annotations

from typing import Annotated

import typer

from peerpath.commands import console
from peerpath.commands.discover import AsJson, Config
from peerpath.net.addresses import join_host_port, split_host_port
from peerpath.punch import punch as punch_hole


def punch(
    peer: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The peer's public address and port.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The local UDP port.")] = 0,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.1, help="How long one attempt lasts.")
    ] = None,
    attempts: Annotated[
        int | None, typer.Option("--attempts", min=1, max=20, help="How many attempts.")
    ] = None,
    password: Annotated[
        str | None, typer.Option("--password", help="A secret that both sides know keeps strangers out.")
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Punch a hole to a peer who runs the same command towards this machine."""
    chosen = console.settings(config, punch_timeout=seconds, retry_attempts=attempts)
    try:
        host, peer_port = split_host_port(peer, 0)
    except ValueError as error:
        raise console.fail(str(error), console.MISUSED) from error
    if not peer_port:
        raise console.fail(f"{peer}: a port is missing, as in 203.0.113.7:40000", console.MISUSED)

    async def work() -> dict[str, object]:
        hole = await punch_hole(
            (host, peer_port),
            ("", port),
            seconds=chosen.punch_timeout,
            attempts=chosen.retry_attempts,
            password=password,
        )
        local_port = hole.socket.local.port
        hole.close()
        return {
            "remote": join_host_port(hole.remote),
            "local_port": local_port,
            "mapped": join_host_port(hole.mapped) if hole.mapped else None,
            "round_trip_ms": round(hole.round_trip * 1000, 1),
        }

    with console.working(f"Punching towards {peer}"):
        result = console.run(work())
    if as_json:
        console.print_json(result)
    else:
        console.output.print(
            f"Through: UDP port {result['local_port']} reaches {result['remote']}"
            f" in {result['round_trip_ms']} ms, both ways.",
            markup=False,
        )
