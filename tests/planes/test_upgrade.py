"""The kernel plane while one process of the relay goes on for another: its programs run all the time."""

import time
from pathlib import Path

import pytest
from planes.lab import ACCESS, CLIENT, FAMILY, PEER, PLANES, PORT, RELAY, SERVER, Hosts, drain
from planes.turn_socket import TurnSocket, udp_socket
from reliability.upgradable import UpgradableRelay
from reliability.workers import eventually
from support.netns import Network
from support.relay import Site

_PACKETS = 3000


def _links(pid: int) -> set[str]:
    """The kernel's numbers of the links to devices that a process holds."""
    infos = [info.read_text() for info in Path(f"/proc/{pid}/fdinfo").iterdir()]
    lines = [info.splitlines() for info in infos if "link_type" in info and "raw_tracepoint" not in info]
    return {line for each in lines for line in each if line.startswith("link_id")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plane", "workers"), [("native", "1"), ("tcx", "1"), ("native", "2")], ids=["native", "tcx", "workers"]
)
def test_upgrades_lose_nothing_in_the_kernel_and_count_on(kernel_program, plane, workers, tmp_path):
    with Network() as network:
        hosts = Hosts(network, PLANES[plane])
        site = Site.prepare(tmp_path / "relay", SERVER[4], RELAY[4], namespace=hosts.server)
        with (
            UpgradableRelay(
                site, ACCESS, flags=["--plane", PLANES[plane].flag, "--workers", workers]
            ) as relay,
            TurnSocket((SERVER[4], PORT), ACCESS, CLIENT[4], hosts.client, FAMILY[4]) as client,
            udp_socket(PEER[4], hosts.peer) as peer,
        ):
            channel, links = client.bind(peer.getsockname()), _links(relay.pid)
            assert links
            for number in range(_PACKETS):
                client.send(channel, number.to_bytes(4, "big"))
                peer.sendto(number.to_bytes(4, "big"), tuple(client.relayed))
                if number in (500, 1500):
                    before = relay.pid
                    relay.ask_for_upgrade()
                if number in (1499, 2499):
                    eventually(lambda: relay.pid != before, "no upgrade")  # noqa: B023
                time.sleep(0.001)
            time.sleep(0.5)
            eventually(lambda: relay.log().count("relay took over") == 2, "they do not say it")
            assert _links(relay.pid) == links, "the programs were never off the devices"
            at_peer = [int.from_bytes(data, "big") for data in drain(peer, _PACKETS)]
            at_client = [int.from_bytes(frame[4:], "big") for frame in drain(client.sock, _PACKETS)]
            for end, came in (("peer", at_peer), ("client", at_client)):
                assert len(came) == len(set(came)), "packets came twice"
                lost = sorted(set(range(_PACKETS)) - set(came))
                assert not lost, f"lost on the way to the {end}: {lost}"

            def relayed(**labels: str) -> list[float]:
                page = relay.scrape()
                return [
                    page.total("turnrelay_relayed_packets_total", direction=direction, **labels)
                    for direction in ("to_peer", "from_peer")
                ]

            eventually(lambda: relayed() == [_PACKETS, _PACKETS], "packets are counted twice or not at all")
            # The rest came while a process was busy starting.
            assert min(relayed(plane="xdp")) > 0.7 * _PACKETS
