"""What a gateway says to everybody when its device starts."""

import pytest
from peerpath.portmap.gateways import Gateway
from peerpath.portmap.ssdp import RestartListener, boot_announced


def alive(boot: str = "", nts: str = "ssdp:alive", first: str = "NOTIFY * HTTP/1.1") -> bytes:
    lines = [first, "HOST: 239.255.255.250:1900", f"NTS: {nts}", "LOCATION: http://192.0.2.1:5000/desc.xml"]
    if boot:
        lines.append(f"BOOTID.UPNP.ORG: {boot}")
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("data", "boot"),
    [
        (alive("1700000000"), "1700000000"),
        (alive(), ""),
        (alive("1", nts="ssdp:byebye"), None),
        (alive("1", first="M-SEARCH * HTTP/1.1"), None),
        (b"", None),
        (b"NOTIFY ", None),
        (b"NOTIFY \xff\r\nnts", None),
        (b"NOTIFY *\r\n" + b"x" * 100_000, None),
    ],
)
def test_the_number_of_the_start_is_read(data, boot):
    assert boot_announced(data) == boot


def heard(*messages: tuple[float, bytes]) -> list[bool]:
    """For each message, at its time, whether it counts as a start."""
    listener, counted = RestartListener(Gateway("192.0.2.1")), []
    for now, data in messages:
        listener.restarted.clear()
        listener.hear(data, now)
        counted.append(listener.restarted.is_set())
    return counted


def test_every_other_number_is_another_start():
    at_once = [(0, alive("1")), (0, alive("1")), (900, alive("1")), (901, alive("2")), (901, alive("2"))]
    assert heard(*at_once) == [True, False, False, True, False]


def test_without_a_number_one_message_a_minute_counts():
    assert heard((0, alive()), (0.1, alive()), (59, alive()), (61, alive())) == [True, False, False, True]


def test_what_announces_no_device_counts_for_nothing():
    assert heard((0, alive("1", nts="ssdp:byebye")), (0, b"hello")) == [False, False]
