"""DatagramSocket: how far a packet may go, and how many are taken at a time."""

import asyncio
import socket
import sys

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


class Burst:
    """Datagrams that wait at a DatagramSocket together, and when each was handed over."""

    def __init__(self, count: int) -> None:
        self.sent = [b"%d" % number for number in range(count)]
        self.taken: list[bytes] = []
        self.rounds: list[int] = []
        self._round = 0

    async def play(self, receiving: DatagramSocket) -> None:
        """Returns when all were taken, or when nothing more comes."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            for data in self.sent:
                sending.sendto(data, tuple(receiving.local))
        for _ in range(1000):
            self._round += 1
            await asyncio.sleep(0)
            if len(self.taken) == len(self.sent) or receiving.is_closing:
                break

    def take(self, data: bytes, _: TransportAddress) -> None:
        self.taken.append(data)
        self.rounds.append(self._round)


async def test_datagrams_that_wait_together_are_taken_together() -> None:
    burst = Burst(20)
    receiving = await DatagramSocket.open(("127.0.0.1", 0), burst.take)
    await burst.play(receiving)
    receiving.close()
    assert burst.taken == burst.sent
    assert len(set(burst.rounds)) == 1


async def test_a_flood_leaves_the_loop_its_turn() -> None:
    burst = Burst(80)
    receiving = await DatagramSocket.open(("127.0.0.1", 0), burst.take)
    await burst.play(receiving)
    receiving.close()
    assert burst.taken == burst.sent
    assert max(burst.rounds.count(each) for each in burst.rounds) == 32


async def test_nothing_is_handed_over_once_it_is_closed() -> None:
    burst = Burst(20)

    def take_and_close(data: bytes, source: TransportAddress) -> None:
        burst.take(data, source)
        if len(burst.taken) == 3:
            receiving.close()

    receiving = await DatagramSocket.open(("127.0.0.1", 0), take_and_close)
    await burst.play(receiving)
    await asyncio.sleep(0)
    assert burst.taken == burst.sent[:3]


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system for what only Linux tells")
@pytest.mark.parametrize(
    ("host", "option"),
    [("127.0.0.1", (socket.IPPROTO_IP, 10)), ("::1", (socket.IPPROTO_IPV6, 23))],
)
async def test_from_the_first_large_packet_on_none_is_cut_into_pieces(
    host: str, option: tuple[int, int]
) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.setblocking(False)
        bound.bind((host, 0))
        usual = bound.getsockopt(*option)
        sending = await DatagramSocket.adopt(bound)
        to = sending.local
        sending.send(bytes(1252), to)
        assert bound.getsockopt(*option) == usual
        sending.send(bytes(1253), to)
        assert bound.getsockopt(*option) == 3  # IP_PMTUDISC_PROBE
        sending.close()
        await asyncio.sleep(0)
