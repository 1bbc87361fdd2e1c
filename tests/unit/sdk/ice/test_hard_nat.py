"""Punching by an endpoint on loopback: its plan, its packets, and what it takes in as a socket of its own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from peerpath.ice import AddressPolicy, AgentOptions, Pacer, Role
from peerpath.ice.candidate import Technique
from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.stack import IceStack
from peerpath.nat.behaviour import Dependence, NatBehaviour
from peerpath.net.datagrams import DatagramSocket
from peerpath.punch.limits import PunchLimits
from peerpath.punch.plan import PunchPlan
from peerpath.punch.tactics import NoTactic, Part, Tactic
from stunwire import XOR_MAPPED_ADDRESS, Message, TransportAddress
from unit.sdk.stun.servers_on_loopback import LoopbackServer

HOST = "127.0.0.1"
APD = Dependence.ADDRESS_AND_PORT_DEPENDENT
HERE = AddressPolicy(allow=["127.0.0.0/8"])
LIMITS = PunchLimits(rate=1000, sockets=20, probes=100)


@asynccontextmanager
async def endpoint(
    options: AgentOptions | None = None,
    mapped: list[TransportAddress] | None = None,
    servers: int = 2,
    more: Sequence[LoopbackServer] = (),
) -> AsyncIterator[IceEndpoint]:
    """With STUN servers that see what is the case, or what `mapped` says."""
    async with AsyncExitStack() as stack:
        made = [IceServer(f"stun:{server.address.host}:{server.address.port}") for server in more]
        for number in range(0 if more else servers):
            seen = None if mapped is None else mapped[number]
            server = LoopbackServer(f"127.0.0.{10 + number}", mapped=seen)
            await stack.enter_async_context(server)
            made.append(IceServer(f"stun:{server.address.host}:{server.address.port}"))
        tried = IceEndpoint(
            Role.CONTROLLING,
            made,
            options=options or AgentOptions(addresses=HERE),
            hosts=lambda: [HOST],
            pacer=Pacer(0.005),
            punching=LIMITS,
        )
        await stack.enter_async_context(tried)
        await tried.gather()
        yield tried


def peer_of(tried: IceEndpoint) -> IceStack:
    """Somebody who knows our description, and whom we know."""
    peer = IceStack(Role.CONTROLLED, options=AgentOptions(addresses=HERE))
    tried.set_remote(peer.description)
    peer.set_remote(tried.description, 0.0)
    return peer


def counting(*ports: int, host: str = HOST) -> PunchPlan:
    return PunchPlan(host, APD, ports=ports, sockets=4, rate=1000, round_trip=0.001)


async def test_without_a_nat_the_plan_names_the_socket_that_will_send() -> None:
    async with endpoint() as tried:
        plan = await tried.hard_nat_plan()
        assert plan.is_easy
        assert plan.host == HOST
        assert PunchPlan.from_json(plan.as_json()) == plan


async def test_what_keeps_this_side_from_taking_part_is_said_in_the_plan() -> None:
    async with endpoint(AgentOptions(relay_only=True)) as tried:
        assert "relay_only" in (await tried.hard_nat_plan()).reason
    async with endpoint(servers=0) as tried:
        assert (await tried.hard_nat_plan()).reason == "no STUN server of this family is known"


async def test_an_address_that_is_gone_is_the_reason_in_the_plan() -> None:
    async with endpoint() as tried:
        await tried._lookup.known.wait()
        plan = await tried._hard_nat.plan("192.0.2.77", None)
        assert "no socket can be opened on 192.0.2.77" in plan.reason


async def test_there_is_nothing_to_begin_without_a_peer_or_a_plan() -> None:
    async with endpoint() as tried:
        await tried.hard_nat_plan()
        with pytest.raises(RuntimeError, match="description"):
            tried.begin_punch(counting(5000, 5001, 5002))
    async with endpoint() as tried:
        peer_of(tried)
        with pytest.raises(RuntimeError, match="plan"):
            tried.begin_punch(counting(5000, 5001, 5002))


async def test_guesses_are_checks_of_ice_and_the_answer_makes_the_socket_a_base() -> None:
    async with endpoint() as tried:
        peer = peer_of(tried)
        target = await DatagramSocket.open((HOST, 0))
        arrived: asyncio.Queue[tuple[bytes, TransportAddress]] = asyncio.Queue()
        target.on_datagram = lambda data, source: arrived.put_nowait((data, source))
        await tried.hard_nat_plan()
        port = target.local.port
        tactic = tried.begin_punch(counting(port - 4, port - 3, port - 2))
        assert isinstance(tactic, Tactic)
        assert tactic.part is Part.GUESS
        data, source = await asyncio.wait_for(arrived.get(), 10)
        assert peer.agent.is_check(data)
        # Whoever can't seal it gets nowhere; the peer's own check does.
        stranger = IceStack(Role.CONTROLLED)
        stranger.set_remote(IceStack(Role.CONTROLLING).description, 0.0)
        forged, check = stranger.agent.probe(), peer.agent.probe()
        assert forged is not None
        assert check is not None
        target.send(forged, source)
        target.send(check, source)
        while source not in {pair.local.base for pair in tried.stack.agent.pairs}:
            await asyncio.wait_for(arrived.get(), 10)
        [pair] = [pair for pair in tried.stack.agent.pairs if pair.local.base == source]
        assert pair.remote.address == target.local
        assert pair.local.technique is Technique.PREDICTION
        target.close()


async def test_the_hard_side_opens_its_sockets_towards_the_peers_address() -> None:
    ports = iter([5000, 35300, 15100, 62000, 1050, 23456, 44444, 9999, 51111, 8000])
    nat = LoopbackServer(
        "127.0.0.12",
        answer=lambda request, _: Message.success_to(request).add(
            XOR_MAPPED_ADDRESS, TransportAddress("11.0.0.9", next(ports))
        ),
    )
    async with nat, endpoint(more=[nat]) as tried:
        peer = peer_of(tried)
        target = await DatagramSocket.open((HOST, 0))
        sources: set[TransportAddress] = set()
        opened = asyncio.Event()

        def came(data: bytes, source: TransportAddress) -> None:
            assert peer.agent.is_check(data)
            sources.add(source)
            if len(sources) == LIMITS.sockets:
                opened.set()

        target.on_datagram = came
        # Each question is given another port. That one server alone does not show whose doing that is.
        plan = await tried.hard_nat_plan(NatBehaviour(mapping=APD))
        assert not plan.is_easy
        easy = PunchPlan(HOST, Dependence.ENDPOINT_INDEPENDENT, port=target.local.port, rate=1000)
        tactic = tried.begin_punch(easy)
        assert isinstance(tactic, Tactic)
        assert tactic.part is Part.OPEN
        await asyncio.wait_for(opened.wait(), 10)
        target.close()


async def test_too_few_samples_are_the_reason_to_leave_it() -> None:
    seen = [TransportAddress("11.0.0.9", 5000), TransportAddress("11.0.0.9", 42000)]
    async with endpoint(mapped=seen) as tried:
        peer_of(tried)
        await tried.hard_nat_plan()
        easy = PunchPlan("11.0.0.8", Dependence.ENDPOINT_INDEPENDENT, port=4000)
        decision = tried.begin_punch(easy)
        assert isinstance(decision, NoTactic)
        assert "servers at two addresses" in decision.reason
        assert decision.reason in str(tried.report())


@pytest.mark.parametrize("host", ["169.254.169.254", "127.0.0.5", "224.0.0.1"])
async def test_nothing_is_sent_to_an_address_that_is_no_peers(host: str) -> None:
    async with endpoint(AgentOptions()) as tried:
        peer_of(tried)
        await tried.hard_nat_plan()
        decision = tried.begin_punch(counting(5000, 5001, 5002, host=host))
        assert isinstance(decision, NoTactic)
        assert "nothing may be sent to" in decision.reason


async def test_a_peer_that_sends_plan_after_plan_has_not_more_sent_than_five_attempts() -> None:
    async with endpoint() as tried:
        peer_of(tried)
        decisions = []
        for _ in range(7):
            await tried.hard_nat_plan()
            decisions.append(tried.begin_punch(counting(5000, 5001, 5002)))
            if isinstance(decisions[-1], Tactic):
                again = tried.begin_punch(counting(5000, 5001, 5002))
                assert again == NoTactic("an attempt is under way")
        assert [isinstance(decision, Tactic) for decision in decisions] == [True] * 5 + [False] * 2


async def test_while_it_goes_on_ice_does_not_give_up_and_afterwards_it_does() -> None:
    async with endpoint() as tried:
        peer_of(tried)
        await tried.hard_nat_plan()
        tried.begin_punch(counting(5000, 5001, 5002))
        await asyncio.sleep(0.05)
        assert tried.stack.agent.is_punching
        assert "running" in str(tried.report())
        await tried.close()
        assert not tried.stack.agent.is_punching
