"""Sides that are reached through relays alone: whoever guesses where they are is told nothing."""

import asyncio
import socket
from pathlib import Path

from peerpath.ice import Role
from peerpath.ice.connectivity_check import form_request
from peerpath.ice.json_form import description_from_json
from support.relay import Access
from support.relay import Site as RelaySite
from support.turnrelay_server import TurnRelayServer

from natlab import ice_peer
from natlab.calls import Call, exchange
from natlab.lab import Host, Lab, Site


def udp_ports(host: Host) -> list[int]:
    """Those that programs on `host` have sockets at."""
    lines = host.run(["ss", "-Hlun"]).splitlines()
    return [int(line.split()[3].rpartition(":")[2]) for line in lines]


def is_for_others(packet: bytes, source: str, relay: str) -> bool:
    """Whether it is UDP or ICMP of `source`, and not for `relay`."""
    return (
        packet[0] >> 4 == 4
        and packet[9] in (socket.IPPROTO_UDP, socket.IPPROTO_ICMP)
        and socket.inet_ntoa(packet[12:16]) == source
        and socket.inet_ntoa(packet[16:20]) != relay
    )


def guess(guesser: Site, hidden: Site, call: Call) -> int:
    """Checks from outside that know the password, to every socket of the hidden host; how many."""
    theirs, ours = (description_from_json(side.description).credentials for side in call.sides)
    check, _ = form_request(theirs, ours, Role.CONTROLLING, 1, 100)
    ports = udp_ports(hidden.host)
    with guesser.host.socket() as prober:
        for port in ports:
            prober.sendto(check, (hidden.public_address, port))
        prober.settimeout(0.5)
        try:
            raise AssertionError(f"an answer came: {prober.recvfrom(1500)}")
        except TimeoutError:
            return len(ports)


async def test_checks_that_reach_its_own_sockets_are_not_answered(lab: Lab, tmp_path: Path) -> None:
    server = lab.server()
    peer, hidden = lab.site("full-cone", delay=0.005), lab.site("open", delay=0.005)
    access = Access(ice_peer.USER, ice_peer.PASSWORD)
    relay = TurnRelayServer(RelaySite.prepare(tmp_path, server.address, namespace=server.namespace), access)
    uris = [f"turn:{server.address}:{TurnRelayServer.port}?transport=udp"]
    with relay:
        async with exchange({"peer": peer, "hidden": hidden}, uris, "--relay-only") as board:
            with hidden.host.capture() as capture:
                async with board.call("peer", "hidden") as call:
                    assert await call.until(lambda call: call.has_heard, 60), str(call)
                    assert await asyncio.to_thread(guess, peer, hidden, call) > 0
            assert all(side.path is not None and side.path["relayed"] for side in call.sides), str(call)
            packets = capture.ip_packets()
            assert any(socket.inet_ntoa(packet[12:16]) == peer.public_address for packet in packets)
            source = hidden.host.address
            assert not [packet for packet in packets if is_for_others(packet, source, server.address)]
