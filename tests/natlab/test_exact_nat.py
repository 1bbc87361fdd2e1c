"""The userspace NAT as values in, values out: no root, no network, packets checked field by field."""

import dataclasses
import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlab.lab import KINDS, Impairment, PortAssignment
from natlab.lab.firewall import Firewall
from natlab.lab.impairment import Link
from natlab.lab.kinds import APD, Layer
from natlab.lab.nat import INSIDE, OUTSIDE, Nat
from natlab.lab.packets import ICMP, TCP, TCP_ACK, TCP_FIN, TCP_SYN, UDP, checksum

HOST, ROUTER, PUBLIC, SERVER, OTHER = "192.168.0.2", "192.168.0.1", "11.1.0.1", "11.0.0.10", "11.0.0.20"


def address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def ipv4(protocol: int, source: str, destination: str, payload: bytes, flags: int = 0, identity: int = 7):
    header = bytearray(
        struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), identity, flags, 64, protocol, 0)
        + address(source)
        + address(destination)
    )
    header[10:12] = checksum(header).to_bytes(2, "big")
    return header + payload


def transport(protocol: int, source: str, destination: str, ports: tuple[int, int], payload: bytes, flags=0):
    if protocol == UDP:
        segment = bytearray(struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload)
    else:
        segment = bytearray(struct.pack(">HHIIBBHHH", *ports, 1, 2, 0x50, flags, 1000, 0, 0) + payload)
    offset = 6 if protocol == UDP else 16
    pseudo = address(source) + address(destination) + struct.pack(">BBH", 0, protocol, len(segment))
    value = checksum(pseudo + segment)
    segment[offset : offset + 2] = (value or (0xFFFF if protocol == UDP else 0)).to_bytes(2, "big")
    return ipv4(protocol, source, destination, segment)


def udp(source: tuple[str, int], destination: tuple[str, int], payload: bytes = b"payload!"):
    return transport(UDP, source[0], destination[0], (source[1], destination[1]), payload)


def tcp(source: tuple[str, int], destination: tuple[str, int], flags: int = TCP_SYN, payload: bytes = b""):
    return transport(TCP, source[0], destination[0], (source[1], destination[1]), payload, flags)


def endpoints(packet: bytes) -> tuple[tuple[str, int], tuple[str, int]]:
    source, destination = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
    ports = struct.unpack_from(">HH", packet, 20)
    return (source, ports[0]), (destination, ports[1])


def assert_checksums(packet: bytes) -> None:
    assert checksum(packet[:20]) == 0
    protocol, segment = packet[9], bytes(packet[20:])
    if protocol == ICMP:
        assert checksum(segment) == 0
    elif not (protocol == UDP and segment[6:8] == b"\0\0"):
        assert checksum(bytes(packet[12:20]) + struct.pack(">BBH", 0, protocol, len(segment)) + segment) == 0


def nat(kind: str = "port-restricted", **changes) -> Nat:
    return Nat(dataclasses.replace(KINDS[kind].layers[0], **changes), address(PUBLIC), seed=1)


def only(emissions, side: str) -> bytearray:
    [(where, packet)] = emissions
    assert where == side
    return packet


ports = st.integers(1024, 65535)
payloads = st.binary(max_size=64)


@given(protocol=st.sampled_from([UDP, TCP]), source_port=ports, destination_port=ports, payload=payloads)
def test_both_checksums_are_right_after_each_translation(protocol, source_port, destination_port, payload):
    box = nat("symmetric")
    out = transport(protocol, HOST, SERVER, (source_port, destination_port), payload, TCP_SYN)
    out = only(box.outbound(out, 0), OUTSIDE)
    assert_checksums(out)
    (public, external), remote = endpoints(out)
    assert (public, remote) == (PUBLIC, (SERVER, destination_port))
    back = transport(protocol, SERVER, PUBLIC, (destination_port, external), payload[::-1], TCP_SYN | TCP_ACK)
    back = only(box.inbound(back, 0), INSIDE)
    assert_checksums(back)
    assert endpoints(back) == ((SERVER, destination_port), (HOST, source_port))
    assert bytes(back[20:]).endswith(payload[::-1])


def test_a_udp_packet_without_checksum_stays_without():
    packet = udp((HOST, 4000), (SERVER, 53))
    packet[26:28] = b"\0\0"
    out = only(nat("symmetric").outbound(packet, 0), OUTSIDE)
    assert out[26:28] == b"\0\0"
    assert checksum(out[:20]) == 0


@given(st.integers(0, 0xFFFF))
def test_a_udp_checksum_that_comes_out_zero_is_sent_as_all_ones(filler):
    out = only(nat().outbound(udp((HOST, 4000), (SERVER, 53), struct.pack(">H", filler)), 0), OUTSIDE)
    assert out[26:28] != b"\0\0"
    assert_checksums(out)


def test_a_mapping_expires_without_outbound_packets():
    box = nat(mapping_timeout=10)
    (_, external), _ = endpoints(only(box.outbound(udp((HOST, 4000), (SERVER, 53)), 0), OUTSIDE))

    def answer():
        return udp((SERVER, 53), (PUBLIC, external))

    assert box.inbound(answer(), 9.9)
    # RFC 4787 REQ-6: inbound packets need not keep it, so a host that only listens loses it.
    assert not box.inbound(answer(), 10.1)


def test_outbound_packets_keep_a_mapping():
    box = nat("symmetric", mapping_timeout=10)
    first = endpoints(only(box.outbound(udp((HOST, 4000), (SERVER, 53)), 0), OUTSIDE))
    again = endpoints(only(box.outbound(udp((HOST, 4000), (SERVER, 53)), 9), OUTSIDE))
    assert box.inbound(udp((SERVER, 53), (PUBLIC, first[0][1])), 18)
    assert first == again
    late = endpoints(only(box.outbound(udp((HOST, 4000), (SERVER, 53)), 30), OUTSIDE))
    assert late != first


def test_a_permission_expires_by_itself_while_the_mapping_lives():
    box = nat(mapping_timeout=10)
    (_, external), _ = endpoints(only(box.outbound(udp((HOST, 4000), (SERVER, 53)), 0), OUTSIDE))
    box.outbound(udp((HOST, 4000), (OTHER, 53)), 8)
    assert box.inbound(udp((OTHER, 53), (PUBLIC, external)), 12)
    assert not box.inbound(udp((SERVER, 53), (PUBLIC, external)), 12)


def test_a_reboot_forgets_and_moves():
    box = nat("symmetric")
    (_, external), _ = endpoints(only(box.outbound(udp((HOST, 4000), (SERVER, 53)), 0), OUTSIDE))
    box.reboot(address("11.1.0.2"))
    assert not box.inbound(udp((SERVER, 53), (PUBLIC, external)), 1)
    (public, _), _ = endpoints(only(box.outbound(udp((HOST, 4000), (SERVER, 53)), 1), OUTSIDE))
    assert public == "11.1.0.2"


def test_only_a_syn_opens_a_tcp_mapping():
    box = nat()
    assert not box.outbound(tcp((HOST, 4000), (SERVER, 80), TCP_ACK), 0)
    assert box.outbound(tcp((HOST, 4000), (SERVER, 80), TCP_SYN), 0)
    assert box.outbound(tcp((HOST, 4000), (SERVER, 80), TCP_ACK), 0)


def test_tcp_is_filtered_as_udp_is():
    for kind, lets_in in (("full-cone", True), ("address-restricted", False), ("port-restricted", False)):
        box = nat(kind)
        (_, external), _ = endpoints(only(box.outbound(tcp((HOST, 4000), (SERVER, 80)), 0), OUTSIDE))
        assert bool(box.inbound(tcp((OTHER, 9999), (PUBLIC, external)), 0)) == lets_in


def test_an_ended_connection_is_soon_forgotten_and_may_come_again():
    box = nat()
    host, server = (HOST, 4000), (SERVER, 80)
    box.outbound(tcp(host, server), 0)
    box.inbound(tcp(server, (PUBLIC, 4000), TCP_SYN | TCP_ACK), 0)
    box.outbound(tcp(host, server, TCP_ACK), 0)
    assert box.inbound(tcp(server, (PUBLIC, 4000), TCP_ACK), 7000)
    box.outbound(tcp(host, server, TCP_FIN | TCP_ACK), 7000)
    box.inbound(tcp(server, (PUBLIC, 4000), TCP_FIN | TCP_ACK), 7000)
    assert box.outbound(tcp(host, server, TCP_ACK), 7001)
    assert not box.inbound(tcp(server, (PUBLIC, 4000), TCP_ACK), 7010)
    assert box.outbound(tcp(host, server, TCP_SYN), 7010)
    assert box.inbound(tcp(server, (PUBLIC, 4000), TCP_SYN | TCP_ACK), 7100)


def fragments(packet: bytearray, at: int) -> list[bytearray]:
    """Cut an IPv4 packet in two, the second part beginning `at` bytes into the payload."""
    payload = bytes(packet[20:])
    source, destination = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
    first = ipv4(packet[9], source, destination, payload[:at], flags=0x2000)
    return [first, ipv4(packet[9], source, destination, payload[at:], flags=at // 8)]


def joined(pieces: list[bytearray]) -> bytearray:
    pieces = sorted(pieces, key=lambda piece: int.from_bytes(piece[6:8]) & 0x1FFF)
    for piece in pieces:
        assert checksum(piece[:20]) == 0
    source, destination = socket.inet_ntoa(pieces[0][12:16]), socket.inet_ntoa(pieces[0][16:20])
    return ipv4(pieces[0][9], source, destination, b"".join(bytes(piece[20:]) for piece in pieces))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_fragments_pass_in_any_order(order):
    box = nat("symmetric")
    pieces = fragments(udp((HOST, 4000), (SERVER, 53), bytes(range(200))), at=96)
    out = joined([packet for i in order for _, packet in box.outbound(pieces[i], 0)])
    assert_checksums(out)
    (_, external), _ = endpoints(out)
    pieces = fragments(udp((SERVER, 53), (PUBLIC, external), bytes(range(200))), at=96)
    back = joined([packet for i in order for _, packet in box.inbound(pieces[i], 0)])
    assert_checksums(back)
    assert endpoints(back) == ((SERVER, 53), (HOST, 4000))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_all_fragments_of_a_filtered_packet_are_dropped(order):
    box = nat()
    box.outbound(udp((HOST, 4000), (SERVER, 53)), 0)
    pieces = fragments(udp((OTHER, 53), (PUBLIC, 4000), bytes(200)), at=96)
    assert [box.inbound(pieces[i], 0) for i in order] == [[], []]


def icmp_error(source: str, destination: str, quoted: bytes, kind: int = 3, code: int = 3) -> bytearray:
    message = bytearray(struct.pack(">BBHI", kind, code, 0, 0) + quoted)
    message[2:4] = checksum(message).to_bytes(2, "big")
    return ipv4(ICMP, source, destination, message)


@pytest.mark.parametrize("protocol", [UDP, TCP])
def test_an_icmp_error_from_a_router_reaches_the_host_as_if_there_were_no_nat(protocol):
    box = nat("symmetric")
    original = transport(protocol, HOST, SERVER, (4000, 53), b"12345678", TCP_SYN)
    sent = only(box.outbound(bytearray(original), 0), OUTSIDE)
    got = only(box.inbound(icmp_error("11.9.9.9", PUBLIC, sent, kind=11, code=0), 0), INSIDE)
    assert_checksums(got)
    assert socket.inet_ntoa(got[12:16]) == "11.9.9.9"
    assert socket.inet_ntoa(got[16:20]) == HOST
    assert got[28:] == original  # the quoted packet is the host's own, checksums and all


def test_an_icmp_error_about_nobodys_packet_is_dropped():
    box = nat()
    box.outbound(udp((HOST, 4000), (SERVER, 53)), 0)
    assert not box.inbound(icmp_error(SERVER, PUBLIC, udp((PUBLIC, 4000), (OTHER, 53))), 0)
    assert not box.inbound(icmp_error(SERVER, PUBLIC, udp((PUBLIC, 4001), (SERVER, 53))), 0)


def test_a_hosts_icmp_error_goes_out_in_the_words_of_the_outside():
    box = nat("symmetric")
    (_, external), _ = endpoints(only(box.outbound(udp((HOST, 4000), (SERVER, 53)), 0), OUTSIDE))
    sent = udp((SERVER, 53), (PUBLIC, external))
    came = only(box.inbound(bytearray(sent), 0), INSIDE)
    got = only(box.outbound(icmp_error(HOST, SERVER, came), 0), OUTSIDE)
    assert_checksums(got)
    assert socket.inet_ntoa(got[12:16]) == PUBLIC
    assert got[28:] == sent


def test_two_hosts_that_ping_with_one_identifier_are_told_apart():
    box = nat()

    def echo(kind: int, source: str, destination: str, identifier: int) -> bytearray:
        message = bytearray(struct.pack(">BBHHH", kind, 0, 0, identifier, 1) + b"ping")
        message[2:4] = checksum(message).to_bytes(2, "big")
        return ipv4(ICMP, source, destination, message)

    for host in (HOST, "192.168.0.3"):
        out = only(box.outbound(echo(8, host, SERVER, 77), 0), OUTSIDE)
        assert_checksums(out)
        reply = echo(0, SERVER, PUBLIC, int.from_bytes(out[24:26]))
        back = only(box.inbound(reply, 0), INSIDE)
        assert_checksums(back)
        assert (socket.inet_ntoa(back[16:20]), int.from_bytes(back[24:26])) == (host, 77)


def test_an_exhausted_nat_opens_nothing():
    """RFC 4787 REQ-3: better no mapping than one that is somebody else's."""
    box = nat(ports=PortAssignment.SEQUENTIAL, mapping_timeout=1000)
    table = box.tables[UDP]
    for port in range(1024, 65536):
        box.outbound(udp((HOST, port), (SERVER, 53)), 0)
    assert len(table.by_port) == 65536 - 1024
    assert not box.outbound(udp(("192.168.0.3", 5000), (SERVER, 53)), 1)
    assert box.outbound(udp(("192.168.0.3", 5000), (SERVER, 53)), 1001)


def test_a_firewall_lets_in_answers_only():
    wall = Firewall(APD, udp_timeout=10, tcp_timeout=100, icmp_timeout=10)
    out = udp(("11.1.0.2", 4000), (SERVER, 53))
    assert wall.outbound(bytearray(out), 0) == [(OUTSIDE, out)]
    assert wall.inbound(udp((SERVER, 53), ("11.1.0.2", 4000)), 9)
    assert not wall.inbound(udp((SERVER, 54), ("11.1.0.2", 4000)), 9)
    assert not wall.inbound(udp((SERVER, 53), ("11.1.0.2", 4000)), 11)
    assert wall.inbound(icmp_error("11.9.9.9", "11.1.0.2", out), 5)
    assert not wall.inbound(icmp_error("11.9.9.9", "11.1.0.2", udp(("11.1.0.2", 1), (OTHER, 2))), 5)


def leaving_times(link: Link, arrivals: list[float], size: int = 1000) -> list[tuple[float, int]]:
    """When each packet leaves, and which one it is."""
    for number, at in enumerate(arrivals):
        link.push(bytearray([number]) + bytes(size - 1), at)
    times = []
    while (at := link.next_at) is not None:
        times += [(round(at, 6), packet[0]) for packet in link.due(at)]
    return times


def test_a_delay_delays():
    assert leaving_times(Link(Impairment(delay=0.02)), [0, 1]) == [(0.02, 0), (1.02, 1)]


def test_jitter_keeps_the_order():
    times = leaving_times(Link(Impairment(jitter=0.05), seed=1), [i / 100 for i in range(100)])
    assert [number for _, number in times] == list(range(100))
    assert max(at - number / 100 for at, number in times) <= 0.051


def test_reordering_lets_later_packets_overtake():
    times = leaving_times(
        Link(Impairment(reorder=0.2, reorder_by=0.025), seed=1), [i / 100 for i in range(100)]
    )
    numbers = [number for _, number in times]
    assert sorted(numbers) == list(range(100))
    assert numbers != list(range(100))


def test_loss_loses_its_share():
    link = Link(Impairment(loss=0.3), seed=1)
    for _ in range(10_000):
        link.push(bytearray(10), 0)
    assert 2_800 < link.dropped < 3_200


def test_a_rate_spaces_packets_and_drops_what_would_wait_too_long():
    link = Link(Impairment(rate=80_000, queue=0.25))  # a thousand bytes take 0.1 s
    assert leaving_times(link, [0.0] * 10) == [(0.1, 0), (0.2, 1), (0.3, 2)]
    assert link.dropped == 7


def test_a_cut_link_passes_nothing_until_it_is_whole_again():
    link = Link()
    link.cut_until = 2.0
    assert leaving_times(link, [1.0, 1.9, 2.0]) == [(2.0, 2)]


def test_a_share_above_one_is_refused():
    with pytest.raises(ValueError, match="loss"):
        Impairment(loss=20)


def test_every_row_of_the_table_is_a_layer_that_can_be_built():
    for kind in KINDS.values():
        assert all(isinstance(layer, Layer) for layer in kind.layers)


# Punishment -----------------------------------------------------------------------------------------------


def test_who_sends_without_being_asked_is_not_let_in_for_a_while_not_even_as_an_answer() -> None:
    nat = Nat(KINDS["punishing"].layers[0], address(PUBLIC))
    early, polite = (OTHER, 7000), (OTHER, 7001)
    [(_, out)] = nat.outbound(udp((HOST, 5000), (SERVER, 3478)), 0)
    (_, port), _ = endpoints(out)
    assert nat.inbound(udp(early, (PUBLIC, port)), 1) == []
    for peer in (early, polite):
        nat.outbound(udp((HOST, 5000), peer), 2)
    assert nat.inbound(udp(early, (PUBLIC, port)), 3) == []
    assert len(nat.inbound(udp(polite, (PUBLIC, port)), 3)) == 1
    assert nat.inbound(udp(early, (PUBLIC, port)), 30.9) == []
    assert len(nat.inbound(udp(early, (PUBLIC, port)), 31.1)) == 1


def test_a_path_of_many_hops_ends_what_may_not_go_so_far() -> None:
    link = Link(Impairment(hops=5))
    for ttl in (5, 6, 64):
        packet = udp((HOST, 5000), (SERVER, 3478))
        packet[8], packet[10:12] = ttl, b"\0\0"
        packet[10:12] = checksum(packet[:20]).to_bytes(2, "big")
        link.push(packet, 0)
    left = link.due(0)
    assert [packet[8] for packet in left] == [1, 59]
    assert all(checksum(packet[:20]) == 0 for packet in left)
    assert link.dropped == 1
