"""TurnClient against the server's own core: what both say to each other is what the RFCs say."""

import pytest
from peerpath.turn import (
    Allocated,
    ChannelBound,
    Ended,
    EndReason,
    FamilyRefused,
    LongTermCredentials,
    PermissionInstalled,
    PermissionRefused,
    Refused,
)
from stunwire import (
    PASSWORD_ALGORITHM,
    USERHASH,
    USERNAME,
    AddressFamily,
    ErrorCode,
    Integrity,
    Message,
    Method,
    PasswordAlgorithm,
    SecurityFeatures,
    TransportAddress,
)
from unit.sdk.turn.relay_in_memory import BOTH, DENIED_HOST, OTHER_PEER, PEER, Relay, joined

CLIENT = TransportAddress("192.0.2.7", 41000)


def requests(cable, method):
    decoded = [Message.decode(data) for data in cable.transmitted if data[0] < 0x40]
    return [message for message in decoded if message.method == method]


def test_an_allocation_is_granted_after_one_challenge():
    cable = joined()

    assert cable.start() == [Allocated((TransportAddress("203.0.113.5", 50001),), CLIENT, 600)]
    first, second = requests(cable, Method.ALLOCATE)
    assert first.integrity is None
    assert second.integrity is Integrity.SHA256


def test_sha256_and_userhash_are_used_where_the_nonce_offers_them():
    cable = joined()
    cable.start()

    signed = requests(cable, Method.ALLOCATE)[1]
    assert USERHASH in signed
    assert USERNAME not in signed
    assert signed.get(PASSWORD_ALGORITHM).algorithm == PasswordAlgorithm.SHA256
    assert cable.relay.queries[0].username is None


def test_a_server_without_anonymity_gets_the_user_name():
    cable = joined(Relay(features=SecurityFeatures.PASSWORD_ALGORITHMS))

    assert isinstance(cable.start()[0], Allocated)
    assert requests(cable, Method.ALLOCATE)[1].get(USERNAME) == "alice"


def test_a_dual_allocation_has_an_address_of_each_family():
    [allocated] = joined(families=BOTH).start()

    assert [":" in address.host for address in allocated.relayed] == [False, True]


def test_half_a_dual_allocation_says_which_family_is_missing():
    said = joined(Relay(families=frozenset({AddressFamily.IPV4})), families=BOTH).start()

    assert len(said[0].relayed) == 1
    assert said[1] == FamilyRefused(
        AddressFamily.IPV6,
        ErrorCode.ADDRESS_FAMILY_NOT_SUPPORTED,
        ErrorCode.ADDRESS_FAMILY_NOT_SUPPORTED.reason,
    )


def test_ipv6_alone_can_be_had():
    [allocated] = joined(families=[AddressFamily.IPV6]).start()

    assert [address.host for address in allocated.relayed] == ["2001:db8::5"]


def test_a_server_of_ipv6_alone_gives_that_unless_ipv4_was_asked_for():
    families = frozenset({AddressFamily.IPV6})
    [allocated] = joined(Relay(families=families)).start()
    assert [":" in relayed.host for relayed in allocated.relayed] == [True]
    [refused, ended] = joined(Relay(families=families), families=[AddressFamily.IPV4]).start()
    assert (refused.code, ended.reason) == (440, EndReason.REFUSED)


def test_data_goes_out_once_the_host_is_permitted():
    cable = joined()
    cable.start()

    assert cable.do(cable.client.permit([PEER], cable.now)) == [PermissionInstalled(PEER.host)]
    cable.do(cable.client.send(PEER, b"hello", cable.now))
    assert cable.relay.sent_to_peers == [(PEER, b"hello")]


def test_sending_to_a_host_that_was_never_named_permits_it():
    cable = joined()
    cable.start()

    assert cable.do(cable.client.send(PEER, b"hello", cable.now)) == [PermissionInstalled(PEER.host)]
    assert cable.relay.sent_to_peers == [(PEER, b"hello")]


def test_peers_named_before_the_allocation_are_permitted_with_it():
    cable = joined()
    cable.do(cable.client.permit([PEER, OTHER_PEER], 0))
    said = cable.start()

    assert said[1:] == [PermissionInstalled(PEER.host), PermissionInstalled(OTHER_PEER.host)]
    assert len(requests(cable, Method.CREATE_PERMISSION)) == 1


def test_one_denied_host_does_not_keep_the_others_out():
    cable = joined()
    cable.start()

    said = cable.do(cable.client.permit([PEER.host, DENIED_HOST, OTHER_PEER.host], cable.now))
    assert said == [
        PermissionInstalled(PEER.host),
        PermissionRefused(DENIED_HOST, ErrorCode.FORBIDDEN),
        PermissionInstalled(OTHER_PEER.host),
    ]


def test_a_peer_of_a_family_that_was_not_allocated_is_refused_at_once():
    cable = joined()
    cable.start()

    said = cable.do(cable.client.permit(["2001:db8::9"], cable.now))
    assert said == [PermissionRefused("2001:db8::9", ErrorCode.PEER_ADDRESS_FAMILY_MISMATCH)]


def test_a_channel_brings_its_permission():
    cable = joined()
    cable.start()

    said = cable.do(cable.client.bind(PEER, cable.now))
    assert said == [PermissionInstalled(PEER.host), ChannelBound(PEER, 0x4000)]
    cable.do(cable.client.send(PEER, b"hello", cable.now))
    assert cable.transmitted[-1] == b"\x40\x00\x00\x05hello"


def test_everything_is_renewed_before_it_lapses():
    cable = joined()
    cable.start()
    cable.do(cable.client.bind(PEER, cable.now))
    cable.do(cable.client.permit([OTHER_PEER], cable.now))

    assert cable.run_until(7200) == []
    assert cable.relay.revoked == []
    # Two hours: a permission each 240 s, an allocation and a channel each 540 s, and half of it for luck.
    assert len(cable.transmitted) < 7200 / 25 + 7200 / 240 + 2 * 7200 / 540 + 20


def test_an_idle_client_keeps_the_nats_on_its_way_open():
    cable = joined()
    cable.start()
    cable.transmitted.clear()
    cable.run_until(200)

    assert len(requests(cable, Method.BINDING)) == 8


def test_a_stale_nonce_is_replaced_and_nobody_notices():
    cable = joined(Relay(nonce_lifetime=300))
    cable.start()

    assert cable.run_until(3600) == []
    assert len(cable.relay.server.state.allocations) == 1


def test_a_wrong_password_is_refused_after_one_try():
    cable = joined(credentials=LongTermCredentials("alice", "looking-glass"))

    said = cable.start()
    assert said == [Refused(401, "Unauthenticated", Method.ALLOCATE), Ended(EndReason.REFUSED)]
    assert len(requests(cable, Method.ALLOCATE)) == 2


def test_a_spent_quota_is_486():
    relay = Relay()
    relay.policy.room = 0

    said = joined(relay).start()
    assert said[0].code == ErrorCode.ALLOCATION_QUOTA_REACHED
    assert said[1] == Ended(EndReason.REFUSED)


def test_a_relay_without_ports_is_508():
    said = joined(Relay(sockets_left=0)).start()

    assert said[0].code == ErrorCode.INSUFFICIENT_CAPACITY


def test_a_used_five_tuple_asks_for_a_new_port():
    relay = Relay()
    joined(relay).start()

    said = joined(relay).start()
    assert said[0].code == ErrorCode.ALLOCATION_MISMATCH
    assert said[1] == Ended(EndReason.NEW_FIVE_TUPLE_NEEDED)


def test_closing_gives_the_allocation_back():
    cable = joined()
    cable.start()

    assert cable.do(cable.client.close(cable.now)) == [Ended(EndReason.CLOSED)]
    assert cable.relay.server.state.allocations == {}
    assert cable.client.next_deadline() is None


def test_a_server_that_forgot_the_allocation_ends_it():
    cable = joined()
    cable.start()
    cable.relay.server.shut_down(10)

    assert cable.run_until(700) == [Ended(EndReason.LOST)]


def test_a_server_that_falls_silent_is_given_up():
    cable = joined(keepalive=None)
    cable.start()
    cable.cut = True

    assert cable.run_until(700) == [Ended(EndReason.NO_ANSWER)]
    # 540 s, then the seven transmissions of RFC 8489 section 6.2.1.
    assert cable.now == pytest.approx(700)
    assert len(requests(cable, Method.REFRESH)) == 7


def test_a_forgotten_host_lapses():
    cable = joined()
    cable.start()
    cable.do(cable.client.bind(PEER, cable.now))
    cable.do(cable.client.forget([PEER], cable.now))
    cable.run_until(1000)

    assert [flow.channel for flow in cable.relay.revoked if hasattr(flow, "channel")] == [0x4000, 0x4000]
