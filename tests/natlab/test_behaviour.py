"""What a NAT does over time and with more than UDP: timeouts, reboots, TCP, ICMP, fragments, blocks."""

import contextlib
import errno
import hashlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from natlab.lab import KINDS, MATRIX, Host, Lab, Server, Site
from natlab.lab.packets import checksum
from natlab.lab.probe import ARRIVAL_TIMEOUT, SILENCE, Blocked, Probe

IP_RECVERR = 11
MSG_ERRQUEUE = 0x2000
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_PMTUDISC_DONT = 10, 2, 0
TCP_PORT = 8080
NATS = [name for name in MATRIX if KINDS[name].translates and KINDS[name].udp_passes]
# One of each way in which packets are translated.
WAYS = ["open", "firewall", "symmetric", "linux", "cgnat"]


@pytest.fixture
def server(lab: Lab) -> Server:
    return lab.server()


@pytest.fixture
def probe(server: Server) -> Iterator[Probe]:
    with Probe(server) as probe:
        yield probe


# Time -----------------------------------------------------------------------------------------------------


def test_a_mapping_ends_after_its_timeout_and_lives_on_keepalives(lab: Lab, probe: Probe) -> None:
    """Three seconds stand for RFC 4787's two minutes; conntrack knows nothing shorter than whole seconds."""
    kinds = ["port-restricted", "symmetric", "firewall", "linux", "linux-random"]
    sites = [lab.site(kind, mapping_timeout=3) for kind in kinds]
    with contextlib.ExitStack() as stack:
        kept = {site.kind.name: stack.enter_context(site.host.socket()) for site in sites}
        forgotten = {site.kind.name: stack.enter_context(site.host.socket()) for site in sites}
        kept_at = {kind: probe.observe(kept[kind]) for kind in kinds}
        forgotten_at = {kind: probe.observe(forgotten[kind]) for kind in kinds}
        for _ in range(8):
            time.sleep(0.5)
            assert {kind: probe.observe(kept[kind]) for kind in kinds} == kept_at
        # These first: they end, too, while nothing is sent.
        for kind in kinds:
            assert probe.reaches(kept[kind], kept_at[kind], probe.first), kind
        for kind in kinds:
            assert not probe.reaches(forgotten[kind], forgotten_at[kind], probe.first, SILENCE), kind


@pytest.mark.parametrize("kind", ["full-cone", "symmetric", "linux-random"])
def test_a_reboot_closes_all_mappings(lab: Lab, probe: Probe, kind: str) -> None:
    site = lab.site(kind)
    with site.host.socket() as source:
        before = probe.observe(source)
        assert probe.reaches(source, before, probe.first)
        site.reboot()
        assert not probe.reaches(source, before, probe.first, SILENCE)
        after = probe.observe(source)
        assert after[0] == before[0]
        assert probe.reaches(source, after, probe.first)


@pytest.mark.parametrize("kind", ["port-restricted", "linux", "cgnat"])
def test_a_reboot_may_bring_another_address(lab: Lab, probe: Probe, kind: str) -> None:
    site = lab.site(kind)
    outermost = site.behind or site
    with site.host.socket() as source:
        before = probe.observe(source)
        outermost.reboot(new_address=True)
        after = probe.observe(source)
        assert after[0] == site.public_address != before[0]
        assert not probe.reaches(source, before, probe.first, SILENCE)
        assert probe.reaches(source, after, probe.first)


# TCP ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def tcp_echo(server: Server) -> Iterator[list[tuple[str, int]]]:
    """Sends back what it gets until the client has finished. Yields the list of clients it has seen."""
    seen: list[tuple[str, int]] = []

    def echo(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionResetError):
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, client = listener.accept()
                seen.append(client)
                threading.Thread(target=echo, args=[connection], daemon=True).start()

    with server.socket(port=TCP_PORT, kind=socket.SOCK_STREAM) as listener:
        listener.listen()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield seen
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def echoed_intact(host: Host, server: Server, size: int) -> bool:
    data = random.Random(size).randbytes(size)
    with host.socket(kind=socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect((server.address, TCP_PORT))
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        sender.start()
        digest = hashlib.sha256()
        while received := client.recv(1 << 16):
            digest.update(received)
        sender.join()
    return digest.digest() == hashlib.sha256(data).digest()


def test_tcp_passes_every_kind_intact(lab: Lab, server: Server) -> None:
    with tcp_echo(server) as seen:
        for site in [lab.site(name) for name in MATRIX]:
            assert echoed_intact(site.host, server, 500_000), site.kind.name
            assert seen[-1][0] == site.public_address


def test_tcp_connections_from_outside_are_filtered_as_udp_is(lab: Lab, server: Server) -> None:
    same, other = server.addresses
    let_in = {
        ("open", same),
        ("open", other),
        ("full-cone", same),
        ("full-cone", other),
        ("address-restricted", same),
    }
    with tcp_echo(server):
        got_in = {}
        for name in ("open", "full-cone", "address-restricted", "port-restricted", "linux", "symmetric"):
            host = lab.site(name).host
            with contextlib.ExitStack() as stack:
                client = stack.enter_context(_reusable(host))
                client.settimeout(5)
                client.connect((server.address, TCP_PORT))
                listener = stack.enter_context(_reusable(host, client.getsockname()[1]))
                listener.listen()
                client.sendall(b"where am I seen?")
                mapped = (
                    lab.sites[-1].public_address,
                    _tcp_port(lab.sites[-1], client.getsockname()[1]),
                )
                for sender in server.addresses:
                    with server.socket(sender, kind=socket.SOCK_STREAM) as caller:
                        caller.settimeout(_patience((name, sender) in let_in))
                        got_in[name, sender] = caller.connect_ex(mapped) == 0
    assert {pair for pair, done in got_in.items() if done} == let_in


def _tcp_port(site: Site, internal_port: int) -> int:
    """What the exact NAT made of it; the kernel's NATs here preserve it."""
    for internal, external in site.state()["mappings"].get("tcp", []):
        if internal.endswith(f":{internal_port}"):
            return external
    return internal_port


def _reusable(host: Host, port: int = 0) -> socket.socket:
    with host.inside():
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((host.address, port))
    return made


@pytest.mark.parametrize("kind", ["port-restricted", "linux", "firewall"])
def test_tcp_simultaneous_open_connects_two_hosts(lab: Lab, kind: str) -> None:
    """RFC 5382 REQ-2: what TCP hole punching and ICE-TCP stand on."""
    # The delay lets both SYNs leave before one arrives.
    hosts = [lab.site(kind, delay=0.01).host for _ in range(2)]
    addresses = [(site.public_address, 7001) for site in lab.sites]
    with _reusable(hosts[0], 7001) as left, _reusable(hosts[1], 7001) as right:
        for end, remote in ((left, addresses[1]), (right, addresses[0])):
            end.setblocking(False)
            assert end.connect_ex(remote) == errno.EINPROGRESS
        for end in (left, right):
            end.settimeout(5)
        left.sendall(b"met")
        assert right.recv(10) == b"met"


# ICMP and IP ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WAYS)
def test_ping_passes(lab: Lab, server: Server, kind: str) -> None:
    host = lab.site(kind).host
    message = bytearray(struct.pack(">BBHHH", 8, 0, 0, 4711, 1) + b"ping")
    message[2:4] = checksum(message).to_bytes(2, "big")
    with host.inside(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(5)
        raw.sendto(message, (server.address, 0))
        answer, sender = raw.recvfrom(2048)
    assert sender[0] == server.address
    assert answer[20:22] == b"\0\0"
    assert answer[24:] == message[4:]


@pytest.mark.parametrize("kind", WAYS)
def test_the_host_learns_that_a_port_is_closed(lab: Lab, server: Server, kind: str) -> None:
    with lab.site(kind).host.socket() as source:
        source.settimeout(5)
        source.connect((server.address, 9))
        source.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            source.recv(100)


@pytest.mark.parametrize("kind", WAYS)
def test_the_outside_learns_that_the_hosts_port_is_closed(lab: Lab, server: Server, kind: str) -> None:
    host = lab.site(kind).host
    with server.socket(port=6000) as remote:
        remote.settimeout(5)
        with host.socket() as source:
            source.sendto(b"hello", remote.getsockname())
            _, mapped = remote.recvfrom(100)
        remote.connect(mapped)
        remote.send(b"are you still there?")
        with pytest.raises(ConnectionRefusedError):
            remote.recv(100)


@pytest.mark.parametrize(("kind", "hops"), [("open", 3), ("symmetric", 3), ("linux", 3), ("cgnat", 4)])
def test_each_hop_takes_one_from_the_ttl_and_says_so(lab: Lab, server: Server, kind: str, hops: int) -> None:
    """A packet with a small TTL opens the own filter and never arrives; what a traceroute sees besides."""
    host = lab.site(kind).host
    with server.socket(port=6000) as remote:
        remote.settimeout(SILENCE)
        for ttl in range(1, hops):
            with host.socket() as source:
                source.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
                source.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                source.sendto(b"too far", remote.getsockname())
                origin, kind_of_error = _read_error(source)
                assert (origin, kind_of_error) == (2, 11)  # SO_EE_ORIGIN_ICMP, time exceeded
            with pytest.raises(TimeoutError):
                remote.recv(100)
        with host.socket() as source:
            source.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
            remote.settimeout(ARRIVAL_TIMEOUT)
            source.sendto(b"far enough", remote.getsockname())
            assert remote.recv(100) == b"far enough"


def _read_error(source: socket.socket) -> tuple[int, int]:
    """Origin and ICMP type of the next extended error of a socket."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            _, ancillary, _, _ = source.recvmsg(2048, 512, MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            _, origin, icmp_type = struct.unpack_from("=IBB", ancillary[0][2])
            return origin, icmp_type
        time.sleep(0.01)
    raise TimeoutError("no ICMP error came")


@pytest.mark.parametrize("kind", WAYS)
def test_fragmented_datagrams_pass_both_ways(lab: Lab, server: Server, kind: str) -> None:
    data = random.Random(1).randbytes(6000)
    with lab.site(kind).host.socket() as source, server.socket(port=6000) as remote:
        for end in (source, remote):
            end.settimeout(5)
            end.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        source.sendto(data, remote.getsockname())
        received, mapped = remote.recvfrom(1 << 16)
        assert received == data
        remote.sendto(data[::-1], mapped)
        assert source.recv(1 << 16) == data[::-1]


@pytest.mark.parametrize("kind", WAYS)
def test_a_smaller_mtu_on_the_way_is_reported(lab: Lab, server: Server, kind: str) -> None:
    with lab.site(kind, mtu=1400).host.socket() as source, server.socket(port=6000) as remote:
        remote.settimeout(5)
        source.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        source.sendto(bytes(1300), remote.getsockname())
        _, mapped = remote.recvfrom(2048)
        remote.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        for end, to in ((source, remote.getsockname()), (remote, mapped)):
            # The first one is too large for the path and not yet for the host; the error tells it.
            end.sendto(bytes(1450), to)
            with pytest.raises(OSError, match="too long"):
                _send_on(end, bytes(1450), to)


def _send_on(end: socket.socket, data: bytes, to: tuple[str, int]) -> None:
    """For seconds, unless the system refuses it."""
    for _ in range(100):
        time.sleep(0.05)
        end.sendto(data, to)


# What does not pass ---------------------------------------------------------------------------------------


def _patience(expected: bool) -> float:
    return ARRIVAL_TIMEOUT if expected else SILENCE


def udp_passes(probe: Probe, host: Host, timeout: float = ARRIVAL_TIMEOUT) -> bool:
    with host.socket() as source:
        try:
            probe.observe(source, timeout=timeout)
        except Blocked:
            return False
        return True


def tcp_passes(host: Host, server: Server, port: int, timeout: float = ARRIVAL_TIMEOUT) -> bool:
    with host.socket(kind=socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        # A refusal came from the server, so the way is free.
        return client.connect_ex((server.address, port)) in (0, errno.ECONNREFUSED)


@pytest.mark.parametrize(
    ("kind", "udp", "tcp", "https"),
    [
        ("port-restricted", True, True, True),
        ("udp-blocked", False, True, True),
        ("tcp-443-only", False, False, True),
        ("offline", False, False, False),
        ("http-proxy", False, False, False),
    ],
)
def test_what_passes(
    lab: Lab, server: Server, probe: Probe, kind: str, udp: bool, tcp: bool, https: bool
) -> None:
    host = lab.site(kind).host
    assert udp_passes(probe, host, _patience(udp)) == udp
    assert tcp_passes(host, server, 80, _patience(tcp)) == tcp
    assert tcp_passes(host, server, 443, _patience(https)) == https


@pytest.mark.parametrize("kind", ["linux", "firewall", "full-cone", "cgnat"])
def test_udp_can_be_blocked_on_any_kind(lab: Lab, server: Server, probe: Probe, kind: str) -> None:
    host = lab.site(kind, passage="tcp").host
    assert not udp_passes(probe, host, SILENCE)
    assert tcp_passes(host, server, 80)


def test_behind_a_proxy_only_the_proxy_gets_out(lab: Lab, server: Server, probe: Probe) -> None:
    site = lab.site("http-proxy")
    assert site.proxy is not None
    assert udp_passes(probe, site.proxy)
    assert tcp_passes(site.proxy, server, 443)
    with site.proxy.socket(port=3128) as proxy, site.host.socket() as client:
        proxy.settimeout(5)
        client.sendto(b"please", proxy.getsockname())
        assert proxy.recvfrom(100) == (b"please", client.getsockname())
