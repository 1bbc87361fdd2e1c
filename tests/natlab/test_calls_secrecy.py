"""What a session shows on the wire: nothing of what the applications say."""

import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from natlab.callers import Person, rendezvous_of, start_relay, uris_of
from natlab.lab import Lab

SECRET = b"Nobody-else-reads-this."
CONTROL = b"A packet in clear, to see that the capture would show it."

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.parametrize(
    "kinds", [("full-cone", "linux"), ("symmetric", "symmetric"), ("udp-blocked", "linux")]
)
def test_a_whole_session_shows_no_application_byte_in_clear(
    lab: Lab, tmp_path: Path, kinds: tuple[str, str]
) -> None:
    with ExitStack() as stack:
        relay = stack.enter_context(start_relay(lab, tmp_path))
        left, right = lab.site(kinds[0]), lab.site(kinds[1])
        alice, bob = (
            Person(site.host, tmp_path, uris_of(relay), rendezvous_of(relay)) for site in (left, right)
        )
        captures = [stack.enter_context(host.capture()) for host in (left.host, right.host, lab.servers[0])]
        listener = bob.listen(alice.key)
        stack.callback(listener.stop)
        dialer = alice.dial(bob.key, send=200, size=700, more=["--fill", SECRET.decode()])
        stack.callback(dialer.stop)
        events = dialer.finish(60)
        with left.host.socket(kind=socket.SOCK_DGRAM) as clear:
            clear.sendto(CONTROL, (relay.site.address, 9))
        deadline = time.monotonic() + 5
        while not any(CONTROL in packet for packet in captures[0].ip_packets()):
            assert time.monotonic() < deadline, "the capture does not show what is sent"
            time.sleep(0.05)
        path = next(event["path"] for event in events if event["event"] == "connected")
        packets = [packet for capture in captures for packet in capture.ip_packets()]

    carried = sum(len(packet) for packet in packets)
    print(f"{kinds}: {path['kind']} by {path['transport']}, {len(packets)} packets, {carried} bytes")
    assert carried > 2 * 200 * 700  # the messages and their echoes did pass here
    # Half of the secret is enough to give it away; message boundaries may cut it anywhere.
    assert not [packet for packet in packets if SECRET[:12] in packet or SECRET[-12:] in packet]
