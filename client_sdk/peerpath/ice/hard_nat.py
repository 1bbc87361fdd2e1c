"""HardNat: carries sampling and punching for an endpoint, and hands it the socket that got through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import SystemRandom

from stunwire import TransportAddress

from peerpath.ice.candidate import Technique
from peerpath.ice.outputs import Output
from peerpath.ice.report import PunchEntry
from peerpath.ice.stack import IceStack
from peerpath.nat.behaviour import NatBehaviour
from peerpath.net.datagrams import DatagramSocket
from peerpath.net.limits import spare_descriptors
from peerpath.predict.pattern import Pattern
from peerpath.predict.sampling import Sampled, Sampler
from peerpath.punch.campaign import Campaign, Probe
from peerpath.punch.limits import PunchLimits
from peerpath.punch.plan import PunchPlan
from peerpath.punch.tactics import NoTactic, Part, Tactic, choose_tactic

_MAX_ADOPTED = 4
_MAX_ATTEMPTS = 5
"""Of one endpoint: a peer that sends plan after plan has not more sent than that."""

_Arrival = tuple[int, bytes, TransportAddress]
Adopt = Callable[[DatagramSocket, Technique, bytes, TransportAddress], None]


class HardNat:
    """One at a time; a new plan ends the attempt before."""

    def __init__(
        self, stack: IceStack, do: Callable[[Sequence[Output]], None], limits: PunchLimits, adopt: Adopt
    ) -> None:
        self._stack = stack
        self._do = do
        self._limits = limits
        self._adopt = adopt
        self._loop = asyncio.get_running_loop()
        self._random = SystemRandom()
        self._sockets: dict[int, DatagramSocket] = {}
        self._handed_over: dict[int, DatagramSocket] = {}
        """What is the endpoint's now; guesses still leave from there, should nothing come of it."""
        self._host = ""
        self._inbox: asyncio.Queue[_Arrival] | None = None
        """Where packets go while samples are taken."""
        self._ours: PunchPlan | None = None
        self._campaign: Campaign | None = None
        self._running: asyncio.Task[None] | None = None
        self._attempts = 0
        self._adopted = 0
        self._began = self._ended = 0.0
        self._result = ""

    # -- the plan ---------------------------------------------------------------------------------------

    async def plan(self, host: str, behaviour: NatBehaviour | None) -> PunchPlan:
        """Samples the NAT from `host`, an address of this machine; `behaviour` is what is known of it."""
        await self.close()
        self._host = host
        ipv6 = ":" in host
        servers = [server for server in self._stack.gatherer.servers if (":" in server.host) == ipv6]
        sockets = max(1, min(self._limits.sockets, spare_descriptors() // 2))
        limits = replace(self._limits, sockets=sockets)
        try:
            sampled = await self._sample(servers) if servers else None
            self._ours = PunchPlan.made_of(sampled, behaviour, limits)
        except OSError as error:
            no_socket = f"no socket can be opened on {host}: {error.strerror or error}"
            self._ours = replace(PunchPlan.made_of(None, None, limits), reason=no_socket)
        return self._ours

    async def _sample(self, servers: list[TransportAddress]) -> Sampled:
        sampler = Sampler(servers)
        inbox: asyncio.Queue[_Arrival] = asyncio.Queue()
        self._inbox = inbox
        outputs = sampler.start(self._loop.time())
        try:
            while True:
                for output in outputs:
                    if isinstance(output, Sampled):
                        return output
                    (await self._socket(output.socket)).send(output.data, output.to)
                try:
                    async with asyncio.timeout_at(sampler.next_deadline()):
                        number, data, source = await inbox.get()
                    outputs = sampler.receive(number, data, source, self._loop.time())
                except TimeoutError:
                    outputs = sampler.handle_timeout(self._loop.time())
        finally:
            self._inbox = None

    async def _socket(self, number: int) -> DatagramSocket:
        socket = self._handed_over.get(number) or self._sockets.get(number)
        if socket is None:
            socket = await DatagramSocket.open((self._host, 0))
            socket.on_datagram = lambda data, source: self._arrived(number, data, source)
            self._sockets[number] = socket
        return socket

    def _arrived(self, number: int, data: bytes, source: TransportAddress) -> None:
        if self._inbox is not None:
            self._inbox.put_nowait((number, data, source))
            return
        if self._campaign is None or self._adopted >= _MAX_ADOPTED or not self._stack.agent.is_check(data):
            return
        self._adopted += 1
        self._campaign.hold(self._loop.time())
        socket = self._handed_over[number] = self._sockets.pop(number)
        self._adopt(socket, technique_of(self._campaign.tactic), data, source)

    # -- the attempt ------------------------------------------------------------------------------------

    def begin(self, theirs: PunchPlan, round_trip: float | None) -> Tactic | NoTactic:
        """Begins what both plans call for; returns at once. RuntimeError before there is a plan of ours.

        A plan is good for one attempt.
        """
        if self._running is not None and not self._running.done():
            return NoTactic("an attempt is under way")
        if self._ours is None:
            raise RuntimeError("make a plan of this side first")
        decision = choose_tactic(self._ours, theirs, round_trip=round_trip)
        if isinstance(decision, Tactic):
            decision = self._permitted(decision)
        self._ours, self._campaign = None, None
        if isinstance(decision, NoTactic):
            self._result = decision.reason
            self._clear()
            return decision
        self._attempts += 1
        self._adopted = 0
        self._campaign = Campaign(decision, self._limits, self._random)
        self._running = self._loop.create_task(self._run(self._campaign))
        return decision

    def _permitted(self, tactic: Tactic) -> Tactic | NoTactic:
        if not self._stack.agent.options.addresses.permits(tactic.target.host, 1):
            return NoTactic("the peer's address is one that nothing may be sent to")
        if self._attempts >= _MAX_ATTEMPTS:
            return NoTactic(f"there were {_MAX_ATTEMPTS} attempts already")
        return tactic

    async def _run(self, campaign: Campaign) -> None:
        self._began, self._result = self._loop.time(), "running"
        self._do(self._stack.set_punching(True, self._began))
        try:
            await self._send(campaign, campaign.start(self._began))
            while not campaign.is_over:
                deadline = campaign.next_deadline()
                assert deadline is not None
                await asyncio.sleep(max(0.0, deadline - self._loop.time()))
                await self._send(campaign, campaign.handle_timeout(self._loop.time()))
            if self._result == "running":
                self._result = "nothing came through"
        finally:
            self._ended = self._loop.time()
            self._do(self._stack.set_punching(False, self._ended))
            self._clear()

    async def _send(self, campaign: Campaign, probes: list[Probe]) -> None:
        for probe in probes:
            data = self._stack.agent.probe()
            if data is None or campaign.is_over:
                return
            try:
                socket = await self._socket(probe.socket)
            except OSError:
                continue  # as many as the system gives
            socket.send(data, probe.to, ttl=probe.ttl)

    def connected(self) -> None:
        """There is a direct path: nothing further is sent, and what got no answer is closed."""
        if self._campaign is not None and not self._campaign.is_over:
            self._result = "connected"
            self._campaign.stop()
            if self._running is not None:
                self._running.cancel()

    def report(self) -> PunchEntry | None:
        if not self._result:
            return None
        if self._campaign is None:
            return PunchEntry("", "", "", 0, 0, 0.0, 0.0, self._result)
        tactic = self._campaign.tactic
        until = self._ended if self._result != "running" else self._loop.time()
        return PunchEntry(
            tactic.part.value,
            technique_of(tactic).value,
            tactic.pattern.kind.value,
            1 if tactic.part is Part.GUESS else tactic.sockets,
            self._campaign.sent,
            tactic.chance,
            max(0.0, until - self._began),
            self._result,
        )

    # -- the end ----------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Ends the attempt that is under way, and closes what belongs to it."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self._clear()

    def _clear(self) -> None:
        self._handed_over.clear()
        sockets, self._sockets = list(self._sockets.values()), {}
        for socket in sockets:
            socket.close()


def technique_of(tactic: Tactic) -> Technique:
    is_foretold = tactic.pattern.kind is Pattern.INCREMENT
    return Technique.PREDICTION if is_foretold else Technique.BIRTHDAY
