"""DatagramSocket: how far a packet may go."""

import asyncio
import socket

import pytest
from peerpath.net.datagrams import DatagramSocket
from stunwire import TransportAddress


@pytest.mark.parametrize(
    ("host", "level", "receive", "kind"),
    [
        ("127.0.0.1", socket.IPPROTO_IP, getattr(socket, "IP_RECVTTL", 12), socket.IP_TTL),
        ("::1", socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, socket.IPV6_HOPLIMIT),
    ],
)
@pytest.mark.skipif(not hasattr(socket.socket, "recvmsg"), reason="this system does not tell hops")
async def test_one_packet_ends_after_few_hops_and_the_next_does_not(
    host: str, level: int, receive: int, kind: int
) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.setsockopt(level, receive, 1)
        target.settimeout(10)
        target.bind((host, 0))
        sending = await DatagramSocket.open((host, 0))
        to = TransportAddress(host, target.getsockname()[1])
        sending.send(b"near", to, ttl=3)
        sending.send(b"far", to)
        hops = {}
        for _ in range(2):
            data, ancillary, _, _ = await asyncio.to_thread(target.recvmsg, 100, 100)
            [(_, _, value)] = [each for each in ancillary if each[:2] == (level, kind)]
            hops[data] = int.from_bytes(value[:4], "little")
        sending.close()
    assert hops[b"near"] == 3
    assert hops[b"far"] > 30
