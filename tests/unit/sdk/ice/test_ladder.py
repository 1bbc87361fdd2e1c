"""When the next fallback begins, and when it never does."""

import pytest
from peerpath.fallbacks import USUAL_FALLBACKS, Fallback, with_tcp_relay
from peerpath.ice.ladder import Ladder
from peerpath.ice.relay_plan import RelayOptions, plan
from peerpath.net.proxy_rules import ProxyRules
from unit.sdk.ice.test_relay_plan import EVERYTHING, PROXY, STUN, TCP, TLS, TOR, TUNNEL, UDP

TURN, TCP_RELAY, HTTP_TUNNEL, VIA_PROXY, ONION = Fallback


def ladder(servers=EVERYTHING, **options):
    given = {"proxies": ProxyRules.always(PROXY), "tor": TOR} | options
    return Ladder(plan(servers, RelayOptions(**given)), 0.5, 3.0)


def names(stages):
    return [stage.fallback for stage in stages]


def test_the_first_one_begins_at_once_and_each_other_after_a_head_start():
    climbing = ladder()
    assert names(climbing.begin(10.0)) == [TURN]
    for number, fallback in enumerate((HTTP_TUNNEL, VIA_PROXY, ONION), 1):
        due = 10.0 + number * 0.5
        assert climbing.next_deadline() == due
        assert climbing.handle_timeout(due - 0.01) == []
        assert names(climbing.handle_timeout(due)) == [fallback]
    assert climbing.next_deadline() is None


def test_one_that_is_first_for_want_of_others_waits_for_nothing():
    climbing = ladder((STUN, TUNNEL), proxies=ProxyRules(), tor=None)
    assert names(climbing.begin(0)) == [HTTP_TUNNEL]
    assert climbing.next_deadline() is None


def test_when_all_attempts_have_failed_the_next_one_begins_at_once():
    climbing = ladder((TCP, TLS, TUNNEL))
    climbing.begin(0)
    assert climbing.failed(TURN, 0.1) == []
    assert names(climbing.failed(TURN, 0.2)) == [HTTP_TUNNEL]
    assert climbing.next_deadline() == pytest.approx(0.7)


def test_servers_over_udp_may_still_answer_so_the_head_start_is_kept():
    climbing = ladder((UDP, TCP, TUNNEL))
    climbing.begin(0)
    assert climbing.failed(TURN, 0.1) == []
    assert names(climbing.handle_timeout(0.5)) == [HTTP_TUNNEL]


def test_a_relayed_address_ends_the_climb():
    climbing = ladder()
    climbing.begin(0)
    assert names(climbing.succeeded(TURN, 0.6)) == [HTTP_TUNNEL, VIA_PROXY, ONION]
    assert climbing.next_deadline() is None
    assert climbing.failed(TURN, 1) == []
    assert climbing.handle_timeout(100) == []
    entries = {entry.fallback: (entry.tried, entry.reason) for entry in climbing.entries()}
    assert entries["turn"] == (True, "1 relayed address")
    assert entries["onion"] == (False, "turn gave a relayed address first")


def test_a_late_success_of_an_earlier_fallback_counts_too():
    climbing = ladder()
    climbing.begin(0)
    climbing.handle_timeout(0.5)
    assert names(climbing.succeeded(TURN, 0.6)) == [VIA_PROXY, ONION]
    assert climbing.succeeded(HTTP_TUNNEL, 0.7) == []
    entries = {entry.fallback: entry.reason for entry in climbing.entries()}
    assert (entries["turn"], entries["http_tunnel"]) == ("1 relayed address", "1 relayed address")


def test_a_direct_path_ends_the_climb():
    climbing = ladder()
    climbing.begin(0)
    assert names(climbing.finish("there is a direct path")) == [HTTP_TUNNEL, VIA_PROXY, ONION]
    assert [entry.reason for entry in climbing.entries()][1:4] == ["there is a direct path"] * 3


def test_tcp_relays_begin_where_they_are_asked_for_and_a_relay_for_udp_leads_nowhere():
    climbing = ladder(fallbacks=with_tcp_relay(USUAL_FALLBACKS))
    climbing.begin(0)
    climbing.met(0)
    assert names(climbing.succeeded(TURN, 0.1)) == [TCP_RELAY, HTTP_TUNNEL, VIA_PROXY, ONION]
    assert names(climbing.handle_timeout(3.1)) == [TCP_RELAY]


def test_what_was_tried_in_vain_says_so():
    climbing = ladder((TLS, TUNNEL), tor=None, proxies=ProxyRules())
    climbing.begin(0)
    assert climbing.entries()[0].reason == "no relayed address yet"
    assert climbing.entries(datagrams_over=True)[0].reason == "no relayed address yet"
    climbing.failed(TURN, 1)
    climbing.failed(HTTP_TUNNEL, 2)
    entries = climbing.entries()
    assert [(entry.tried, entry.reason) for entry in entries[:2]] == [(True, "no relayed address")] * 2
    assert not any(entry.tried for entry in entries[2:])


# -- what was not needed, and is after all ----------------------------------------------------------------


def test_a_relayed_address_that_leads_to_no_path_lets_the_next_one_begin():
    climbing = ladder()
    climbing.begin(0)
    climbing.succeeded(TURN, 0.1)
    assert climbing.next_deadline() is None  # nobody to have a path to
    climbing.met(1.0)
    assert climbing.next_deadline() == 4.0
    assert climbing.handle_timeout(3.9) == []
    assert names(climbing.handle_timeout(4.0)) == [HTTP_TUNNEL]
    assert names(climbing.handle_timeout(4.5)) == [VIA_PROXY]
    assert names(climbing.succeeded(HTTP_TUNNEL, 4.6)) == [ONION]
    assert climbing.next_deadline() == 7.6
    assert names(climbing.handle_timeout(7.6)) == [ONION]


def test_a_relayed_address_after_the_peer_is_known_is_given_its_time_too():
    climbing = ladder()
    climbing.begin(0)
    climbing.met(0.1)
    climbing.succeeded(TURN, 0.2)
    assert climbing.next_deadline() == pytest.approx(3.2)


def test_a_path_ends_all_doubt():
    climbing = ladder()
    climbing.begin(0)
    climbing.met(0)
    climbing.succeeded(TURN, 0.2)
    climbing.found_path()
    assert climbing.next_deadline() is None
    climbing.succeeded(TURN, 0.3)
    assert climbing.next_deadline() is None


def test_when_a_path_is_lost_what_was_not_needed_begins_at_once():
    climbing = ladder()
    climbing.begin(0)
    climbing.met(0)
    climbing.found_path()
    climbing.finish("there is a direct path")
    assert names(climbing.lost_path(60)) == [HTTP_TUNNEL]
    assert climbing.lost_path(60.1) == []  # it is climbing already
    assert names(climbing.handle_timeout(60.5)) == [VIA_PROXY]
    climbing.found_path()
    assert names(climbing.finish("there is a direct path")) == [ONION]
    assert names(climbing.lost_path(120)) == [ONION]
    assert climbing.lost_path(180) == []


def test_a_path_that_is_lost_while_climbing_changes_nothing():
    climbing = ladder()
    climbing.begin(0)
    climbing.met(0)
    climbing.found_path()
    assert climbing.lost_path(0.1) == []
    assert names(climbing.handle_timeout(0.5)) == [HTTP_TUNNEL]


def test_servers_over_udp_that_have_all_refused_are_waited_for_no_more():
    climbing = ladder((UDP,), tor=None, proxies=ProxyRules())
    climbing.begin(0)
    assert climbing.entries()[0].reason == "no relayed address yet"
    assert climbing.entries(datagrams_over=True)[0].reason == "no relayed address"
