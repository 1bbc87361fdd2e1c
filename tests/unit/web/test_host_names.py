"""Under which names a relay knows itself."""

import pytest
from turnrelay.web.rendezvous import HostNames

NAMES = HostNames(["relay.example", "*.wild.example", "2001:db8::1"])


@pytest.mark.parametrize(
    ("authority", "local_host", "known"),
    [
        ("relay.example", "192.0.2.1", True),
        ("Relay.Example:8443", "192.0.2.1", True),
        ("relay.example.evil.example", "192.0.2.1", False),
        ("evil.example", "192.0.2.1", False),
        ("any.wild.example", "192.0.2.1", True),
        ("wild.example", "192.0.2.1", False),
        ("192.0.2.1:9641", "192.0.2.1", True),
        ("192.0.2.2:9641", "192.0.2.1", False),
        ("[2001:db8::1]:9641", "2001:db8::9", True),
        ("[2001:db8::9]", "2001:db8::9", True),
        ("localhost:9641", "127.0.0.1", True),
        ("localhost:9641", "::1", True),
        ("localhost", "192.0.2.1", False),
        ("", "192.0.2.1", False),
        ("", "", False),
        ("localhost", "", False),
    ],
)
def test_a_host_header_names_the_relay_or_somebody_else(authority, local_host, known):
    assert NAMES.include(authority, local_host) is known


def test_names_that_change_are_asked_for_each_time():
    now = ["old.example"]
    names = HostNames(["relay.example"], lambda: now)
    assert names.include("old.example", "192.0.2.1")
    now[:] = ["New.example", "*.wild.example"]
    known = ("relay.example", "new.example:443", "any.wild.example")
    assert all(names.include(name, "192.0.2.1") for name in known)
    assert not names.include("old.example", "192.0.2.1")
