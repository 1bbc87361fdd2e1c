"""The default gateway, from what each operating system says."""

from peerpath.portmap.gateways import find_gateway, gateway6_in, gateway_in, gateway_said

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t00000000\t0201A8C0\t0003\t0\t0\t50\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0
"""
ROUTES6 = (
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "fe800000000000000000000000000001 00000400 00000001 00000000 00000003    eth0\n"
    "20010db8000000000000000000000000 40 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 00000100 00000001 00000000 00000001    eth0\n"
)


def test_linux_says_it_per_interface_and_the_lowest_metric_wins() -> None:
    assert gateway_in(ROUTES, "eth0") == "192.168.1.2"
    assert gateway_in(ROUTES, "wlan0") == "192.168.0.1"


def test_an_interface_without_a_gateway_has_none() -> None:
    assert gateway_in(ROUTES, "tun0") is None
    assert gateway_in("", "eth0") is None


def test_a_link_local_gateway_of_ipv6_comes_with_its_interface() -> None:
    assert gateway6_in(ROUTES6, "eth0") == "fe80::1%eth0"
    assert gateway6_in(ROUTES6, "eth1") is None


def test_macos_says_it_in_words() -> None:
    text = "   route to: default\ndestination: default\n    gateway: 192.168.1.254\n  interface: en0\n"
    assert gateway_said(text) == "192.168.1.254"
    assert gateway_said("    gateway: link#14\n") is None


def test_loopback_has_no_gateway() -> None:
    assert find_gateway("127.0.0.1") is None
