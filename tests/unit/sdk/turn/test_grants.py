"""Channels and Permissions: numbers are not given to others too early, renewals come together."""

from peerpath.turn.grants import Channels, Permissions
from stunwire import TransportAddress


def peer(number):
    return TransportAddress("198.51.100.1", number)


def test_numbers_are_given_out_in_order():
    channels = Channels()
    assert [channels.want(peer(port), 0).channel for port in (1, 2, 3)] == [0x4000, 0x4001, 0x4002]
    assert channels.want(peer(2), 0).channel == 0x4001


def test_a_number_is_free_for_others_five_minutes_after_its_binding_ended():
    channels = Channels()
    for port in range(1, 4097):
        channels.want(peer(port), 0).granted(0)
    assert channels.want(peer(5000), 0) is None

    channels.forget(peer(1).host)
    assert channels.want(peer(5000), 899) is None
    assert channels.want(peer(5000), 900).channel == 0x4000


def test_a_forgotten_peer_gets_its_old_number_back():
    channels = Channels()
    channels.want(peer(1), 0).granted(0)
    channels.forget(peer(1).host)
    assert channels.due(10_000) == []

    binding = channels.want(peer(1), 100)
    assert binding.channel == 0x4000
    assert channels.due(100) == [binding]


def test_permissions_that_fall_due_soon_are_renewed_together():
    permissions = Permissions()
    for number, asked_at in enumerate((0, 10, 30, 100)):
        permissions.want(f"10.0.0.{number}").granted(asked_at)

    assert permissions.next_renewal() == 240
    assert permissions.due(239) == []
    assert [permission.host for permission in permissions.due(240)] == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]
