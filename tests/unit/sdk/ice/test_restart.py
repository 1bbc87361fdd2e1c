"""ICE restarts (RFC 8445 section 9): new credentials, the old path until the new one is there."""

from peerpath.ice import AgentState, ConsentLost, Role
from stunwire import USERNAME, Message, MessageClass
from unit.sdk.ice.duet import Duet, host_candidate


def connected():
    duet = Duet()
    duet.give(duet.a, host_candidate("192.0.2.1"))
    duet.give(duet.b, host_candidate("192.0.2.2"))
    duet.start()
    duet.run(1)
    return duet


def restart(duet, player):
    duet.do(player, player.agent.restart(duet.now))


def test_credentials_are_new():
    duet = connected()
    before = duet.a.agent.credentials
    restart(duet, duet.a)
    assert duet.a.agent.credentials.ufrag != before.ufrag
    assert duet.a.agent.credentials.password != before.password


def test_data_keeps_flowing_until_the_new_path_is_there():
    duet = connected()
    restart(duet, duet.a)
    for number in range(20):
        duet.send(duet.a, b"a%d" % number)
        duet.send(duet.b, b"b%d" % number)
        duet.run(duet.now + 1)
        if number == 5:
            duet.describe(duet.a)
        if number == 10:
            duet.describe(duet.b)
    assert duet.b.data == [b"a%d" % number for number in range(20)]
    assert duet.a.data == [b"b%d" % number for number in range(20)]


def test_the_peer_restarts_with_it():
    duet = connected()
    restart(duet, duet.a)
    before = duet.b.agent.credentials
    duet.describe(duet.a)
    assert duet.b.agent.credentials != before
    duet.describe(duet.b)
    duet.run(3)
    assert duet.a.agent.state is duet.b.agent.state is AgentState.COMPLETED


def test_the_new_session_uses_the_new_credentials_only():
    duet = connected()
    restart(duet, duet.a)
    duet.describe(duet.a)
    duet.describe(duet.b)
    duet.run(30)  # the old session has been forgotten
    before = len(duet.sent)
    duet.run(60)
    names = {
        message.get(USERNAME)
        for _, name, packet in duet.sent[before:]
        if name == "a" and (message := Message.decode(packet.data)).message_class is MessageClass.REQUEST
    }
    assert names == {f"{duet.b.agent.credentials.ufrag}:{duet.a.agent.credentials.ufrag}"}


def test_consent_of_the_old_path_is_kept_up_while_signaling_takes_its_time():
    duet = connected()
    restart(duet, duet.a)
    duet.run(120)
    assert not duet.a.said(ConsentLost)
    assert not duet.b.said(ConsentLost)
    duet.send(duet.a, b"still the old path")
    duet.run(121)
    assert duet.b.data == [b"still the old path"]


def test_both_restarting_at_once_is_no_problem():
    duet = connected()
    restart(duet, duet.a)
    restart(duet, duet.b)
    duet.describe(duet.a)
    duet.describe(duet.b)
    duet.run(3)
    assert duet.a.agent.state is duet.b.agent.state is AgentState.COMPLETED


def test_a_description_from_before_the_restart_is_stale():
    duet = connected()
    stale = duet.b.agent.description
    restart(duet, duet.a)
    duet.do(duet.a, duet.a.agent.set_remote(stale, duet.now))
    assert duet.a.agent._current.remote is None


def test_an_end_of_candidates_from_before_the_restart_ends_nothing():
    duet = connected()
    restart(duet, duet.a)
    duet.do(duet.a, duet.a.agent.end_of_remote_candidates(duet.now))
    assert not duet.a.agent._current.remote_ended


def test_roles_outlive_a_restart():
    duet = connected()
    restart(duet, duet.a)
    duet.describe(duet.a)
    duet.describe(duet.b)
    duet.run(3)
    assert (duet.a.agent.role, duet.b.agent.role) == (Role.CONTROLLING, Role.CONTROLLED)


def test_a_restart_before_the_first_path():
    duet = Duet()
    duet.give(duet.a, host_candidate("192.0.2.1"))
    duet.give(duet.b, host_candidate("192.0.2.2"))
    restart(duet, duet.a)
    duet.start()
    duet.run(1)
    assert duet.a.agent.state is AgentState.COMPLETED


def test_many_restarts_in_a_row():
    duet = connected()
    for _ in range(5):
        restart(duet, duet.a)
        duet.describe(duet.a)
        duet.describe(duet.b)
        duet.run(duet.now + 0.5)
        duet.send(duet.a, b"x")
    duet.run(duet.now + 1)
    assert duet.b.data == [b"x"] * 5
