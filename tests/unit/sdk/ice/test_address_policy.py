"""Where a peer can make us send packets."""

import pytest
from peerpath.ice import AddressPolicy

FORBIDDEN = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "224.0.0.251",
    "239.255.255.250", "255.255.255.255", "240.0.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "::", "::1", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254",
    # The same in other clothes: mapped, translated, tunnelled.
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b::7f00:1",
    "2002:7f00:1::", "2002:a9fe:a9fe::1",
    "", "localhost", "example.org", "1.2.3", "1.2.3.4.5", "2001:db8::1::2", "0x7f.1",
]  # fmt: skip
PERMITTED = [
    "192.0.2.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "100.64.0.1", "8.8.8.8", "2001:db8::1", "fd12::1",
    "64:ff9b::8.8.8.8", "::ffff:8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("host", FORBIDDEN)
def test_forbidden(host):
    assert not AddressPolicy().permits(host, 4000)


@pytest.mark.parametrize("host", PERMITTED)
def test_permitted(host):
    assert AddressPolicy().permits(host, 4000)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none(port):
    assert not AddressPolicy().permits("192.0.2.1", port)


def test_what_is_allowed_explicitly_is_permitted():
    policy = AddressPolicy(allow=["127.0.0.0/8", "fe80::/10"])
    assert policy.permits("127.0.0.1", 1)
    assert policy.permits("fe80::1", 1)
    assert policy.permits("::ffff:127.0.0.1", 1)
    assert not policy.permits("169.254.169.254", 1)


def test_a_network_that_is_none():
    with pytest.raises(ValueError):
        AddressPolicy(allow=["127.0.0.1/8"])
