"""IceEndpoint: carries the ICE core over real sockets on the event loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Self

from stunwire import TransportAddress

from peerpath.errors import TraversalError
from peerpath.ice.candidate import Candidate, CandidateType, LocalCandidate, Technique
from peerpath.ice.configuration import IceServer
from peerpath.ice.description import Description
from peerpath.ice.hard_nat import HardNat
from peerpath.ice.host_sockets import HostSockets
from peerpath.ice.mdns import MulticastResolver
from peerpath.ice.options import AgentOptions
from peerpath.ice.outputs import (
    AgentState,
    CandidateFound,
    CandidateRefused,
    DataReceived,
    GatheringComplete,
    NameToResolve,
    Output,
    PairSelected,
    Path,
    PathDoubted,
    PermissionNeeded,
    Refusal,
    StateChanged,
    Transmit,
)
from peerpath.ice.pacer import Pacer
from peerpath.ice.port_mappings import PortMappings
from peerpath.ice.relay_plan import RelayOptions, plan, uses_tcp_relays
from peerpath.ice.report import CandidateLog, IceReport, pair_entries, server_entries
from peerpath.ice.role import Role
from peerpath.ice.server_lookup import ServerLookup
from peerpath.ice.stack import IceStack
from peerpath.ice.stream_relays import StreamRelays
from peerpath.ice.tcp_candidates import TcpCandidates
from peerpath.ice.tcp_fallback import TcpFallback
from peerpath.ice.tcp_relays import TcpRelays
from peerpath.nat.behaviour import Dependence, NatBehaviour
from peerpath.net.alarm import Alarm
from peerpath.net.datagrams import DatagramSocket
from peerpath.net.interfaces import host_addresses
from peerpath.net.resolving import Resolver
from peerpath.portmap.gateways import FindGateway
from peerpath.punch.limits import PunchLimits
from peerpath.punch.plan import PunchPlan
from peerpath.punch.tactics import NoTactic, Tactic
from peerpath.turn.connection import FAREWELL_SECONDS

PROCESS_PACER = Pacer()
"""Shared by all endpoints of the process (RFC 8445 section 14.2)."""

_MAX_WAITING = 1024

OnOutput = Callable[[Output], None]


class IceEndpoint:
    """One ICE agent on the interfaces of this machine.

        async with IceEndpoint(Role.CONTROLLING, [IceServer("stun:stun.example.org")]) as endpoint:
            await endpoint.gather()
            ...                                  # endpoint.description and candidates() to the peer,
            endpoint.set_remote(description)     # the peer's to endpoint
            path = await endpoint.connect(within=10)
            endpoint.send(b"hello")
            data = await endpoint.recv()

    `hosts` tells the addresses to use, for those who do not want all of this machine's; it is asked again
    every `rescan` seconds, and candidates come and go with it. Where there is none, one is waited for up to
    `address_patience` seconds. `ports` is the range of local UDP ports.
    `gateways` switches port mapping on: it tells the gateway of a local address, as
    `peerpath.portmap.find_gateway` does. `relaying` are the ways to relays. With `tcp` connections are used
    too where one side gets nothing through by UDP; their candidates come late, so go on iterating over
    `candidates()`. Times are seconds.
    """

    def __init__(
        self,
        role: Role,
        servers: Sequence[IceServer] = (),
        *,
        options: AgentOptions | None = None,
        pacer: Pacer | None = None,
        hosts: Callable[[], Sequence[str]] = host_addresses,
        ports: tuple[int, int] = (0, 0),
        patience: float = 10.0,
        rescan: float = 3.0,
        address_patience: float = 3.0,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        gateways: FindGateway | None = None,
        punching: PunchLimits | None = None,
        relaying: RelayOptions | None = None,
        tcp: bool = False,
    ) -> None:
        self.options = options or AgentOptions()
        self._relaying = relaying or RelayOptions()
        if self._relaying.onion_only:
            # No socket is opened, so nothing can leave but what goes to Tor.
            self.options, hosts = replace(self.options, relay_only=True), tuple
        self._opens_connections = tcp and not self.options.relay_only
        if self._opens_connections or uses_tcp_relays(self._relaying):
            self.options = replace(self.options, tcp=True)
        self._loop = asyncio.get_running_loop()
        self.stack = IceStack(role, options=self.options, pacer=pacer or PROCESS_PACER, patience=patience)
        self.on_output: OnOutput | None = None
        """Told of everything that happens, data included; `recv` gets no data while it is set."""
        self.on_hosts_changed: Callable[[], None] | None = None
        """Told when addresses of this machine have come or gone since `gather`."""
        self._servers = tuple(servers)
        self._hosts = hosts
        self._rescan_seconds = rescan
        self._address_patience = address_patience
        resolver = resolver or Resolver()
        self._lookup = ServerLookup(self.stack, self._do, self._servers, self._relaying, resolver)
        self._sockets = HostSockets(
            hosts, ports, arrived=self._arrived, opened=self._opened, closed=self._closed
        )
        self._tcp_relays = TcpRelays(self.stack, self._do, self._arrived)
        self._relays = StreamRelays(
            self.stack,
            self._do,
            resolver=resolver,
            options=self._relaying,
            tcp=self._tcp_relays,
            tls=tls,
        )
        self._mappings: PortMappings | None = None
        self._hard_nat = HardNat(self.stack, self._do, punching or PunchLimits(), self._adopt)
        self._tcp = TcpCandidates(self.stack, self._do, self._arrived)
        if gateways is not None and not self.options.relay_only:
            self._mappings = PortMappings(self.stack, self._do, gateways, self._tcp.seen_as)
        self._tcp_fallback = TcpFallback(self.stack, self._tcp, self._sockets, self._mappings)
        self._alarm = Alarm(self._loop, self._on_time)
        self._arming: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._found: asyncio.Queue[LocalCandidate | None] = asyncio.Queue()
        self._received: asyncio.Queue[bytes] = asyncio.Queue(_MAX_WAITING)
        self._changed = asyncio.Event()
        self._candidates = CandidateLog()
        self._began = self._loop.time()
        self._failed_at: float | None = None
        self._reason = ""
        self._names = MulticastResolver()
        self._is_closed = False

    # -- gathering --------------------------------------------------------------------------------------

    async def gather(self) -> None:
        """Opens the sockets and begins to ask the servers. Returns as soon as there are host candidates.

        Candidates come out of `candidates()` as they are found. TraversalError when no socket can be opened,
        or the endpoint is closed meanwhile.
        """
        self._began = self._loop.time()
        if not self._relaying.onion_only:
            await self._sockets.open(self._address_patience)
        if self._is_closed:
            self._sockets.close()
            raise TraversalError("the endpoint was closed")
        if not self._sockets and not self._relaying.onion_only:
            raise TraversalError("this machine has no address that a socket could be bound to")
        self._relays.begin(plan(self._servers, self._relaying))
        self._spawn(self._lookup.run())
        if self._rescan_seconds > 0:
            self._spawn(self._keep_rescanning())
        if self._opens_connections and self._servers:
            self._spawn(self._tcp_fallback.look_out_for_silence(self._lookup.known))

    async def candidates(self) -> AsyncIterator[LocalCandidate]:
        """The candidates of this side, each as soon as it is known; ends when gathering is complete.

        Those of interfaces that come up later are in a further iteration.
        """
        while (candidate := await self._found.get()) is not None:
            yield candidate

    @property
    def description(self) -> Description:
        """Credentials, options and the candidates so far: for the peer."""
        return self.stack.description

    # -- interfaces -------------------------------------------------------------------------------------

    async def _keep_rescanning(self) -> None:
        while True:
            await asyncio.sleep(self._rescan_seconds)
            before = set(self._sockets)
            await self._sockets.rescan()
            if set(self._sockets) != before:
                self._hosts_changed()

    def _hosts_changed(self) -> None:
        self._keep(*self._tcp_fallback.hosts_changed())
        if self.on_hosts_changed is not None:
            self.on_hosts_changed()

    def _opened(self, base: TransportAddress, preference: int) -> None:
        if self._is_closed:
            return  # `gather` is under way, and lets go of it
        self._do(self.stack.add_base(base, self._now(), preference))
        if self._mappings is not None:
            self._mappings.begin(base)

    def _closed(self, base: TransportAddress) -> None:
        self._do(self.stack.remove_base(base, "the interface is gone", self._now()))
        if self._mappings is not None:
            self._keep(*self._mappings.end(base))

    # -- signaling --------------------------------------------------------------------------------------

    def set_remote(self, description: Description) -> bool:
        """The peer's description. True if this side restarted with it: send the new `description` then."""
        ufrag = self.stack.agent.credentials.ufrag
        for candidate in description.candidates:
            self._told(candidate)
        self._do(self.stack.set_remote(description, self._now()))
        self._relays.met()
        return self.stack.agent.credentials.ufrag != ufrag

    def add_remote_candidate(self, candidate: Candidate | None) -> None:
        """A candidate that trickled in; None says that there will be no more."""
        if candidate is None:
            self._do(self.stack.end_of_remote_candidates(self._now()))
            return
        self._told(candidate)
        self._do(self.stack.add_remote_candidate(candidate, self._now()))

    def _told(self, candidate: Candidate) -> None:
        """A candidate of the peer's. One for TCP says that UDP is no way for it."""
        self._candidates.told(candidate, self._now())
        if candidate.is_tcp and self._opens_connections and not self._tcp_fallback.has_begun:
            self._spawn(self._tcp_fallback.begin())
        if self.options.addresses.permits(*candidate.address):
            self._tcp_relays.told(candidate)

    def restart(self) -> Description:
        """Begins an ICE restart; the description has to reach the peer. Data keeps flowing meanwhile."""
        self._do(self.stack.restart(self._now()))
        return self.description

    # -- hard NATs --------------------------------------------------------------------------------------

    async def hard_nat_plan(self, behaviour: NatBehaviour | None = None) -> PunchPlan:
        """How our NAT maps right now, for the peer: `as_json()` goes through signaling, and its plan to us.

        For when plain checks have found no direct path. Takes two or three round trips to the servers;
        `behaviour` helps where these are too few to tell how the NAT maps. Each attempt wants a fresh plan.
        """
        if self.options.relay_only:
            return PunchPlan(None, Dependence.UNKNOWN, reason="only relayed candidates are used (relay_only)")
        hosts = [host for host in self._hosts() if ":" not in host]
        if not hosts:
            return PunchPlan(None, Dependence.UNKNOWN, reason="this machine has no IPv4 address")
        await self._lookup.known.wait()
        return await self._hard_nat.plan(hosts[0], behaviour)

    def begin_punch(self, theirs: PunchPlan) -> Tactic | NoTactic:
        """Does our part of what both plans call for, in the background, while data goes over the relay.

        Both sides call it as soon as they have both plans. What comes of it is a path like any other, and an
        entry in the report. RuntimeError without a plan of this side or a description of the peer.
        """
        if self.stack.agent.probe() is None:
            raise RuntimeError("the peer's description is not known yet")
        path = self.path
        return self._hard_nat.begin(theirs, None if path is None else path.rtt)

    def _adopt(
        self, socket: DatagramSocket, technique: Technique, data: bytes, source: TransportAddress
    ) -> None:
        """A check has got through to a socket of the punching: from now on it is one of ours."""
        self._sockets.adopt(socket)
        self.stack.adopt_base(socket.local, technique)
        self._arrived(data, socket.local, source)

    # -- the path ---------------------------------------------------------------------------------------

    @property
    def state(self) -> AgentState:
        return self.stack.agent.state

    @property
    def path(self) -> Path | None:
        """Where data goes now."""
        return self.stack.agent.path

    @property
    def consented_at(self) -> float | None:
        """When the peer last answered a check of the path, on the event loop's clock; None without one."""
        return self.stack.agent.consented_at

    def doubt(self) -> None:
        """Nothing comes back on the path: another one is looked for among what both sides know already."""
        self._do(self.stack.doubt(self._now()))

    async def connect(self, within: float | None = None) -> Path:
        """Waits for a path that works. TraversalError with everything that was tried when there is none."""
        return await self._wait_for(lambda path: path is not None, within)

    async def nominated(self, within: float | None = None) -> Path:
        """Waits until a path was nominated: the better ones were tried, or had time enough."""
        return await self._wait_for(lambda path: path is not None and path.nominated, within)

    async def direct(self, within: float | None = None) -> Path:
        """Waits for a path without a relay."""
        return await self._wait_for(lambda path: path is not None and not path.is_relayed, within)

    def send(self, data: bytes) -> None:
        """One datagram for the peer; NotConnected when there is no path."""
        self._do(self.stack.send(data, self._now()))

    async def recv(self) -> bytes:
        """The next datagram of the peer. Past 1,024 that nobody fetches, new ones are dropped."""
        return await self._received.get()

    async def _wait_for(self, enough: Callable[[Path | None], bool], within: float | None) -> Path:
        try:
            async with asyncio.timeout(within):
                while not enough(self.path):
                    if self.state in (AgentState.FAILED, AgentState.CLOSED):
                        raise self._failure(f"no path to the peer: {self._reason}")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise self._failure(f"no such path to the peer within {within:g} s") from None
        path = self.path
        assert path is not None
        return path

    def _failure(self, message: str) -> TraversalError:
        return TraversalError(message, self.report().failures())

    def report(self) -> IceReport:
        """Every server, candidate and pair, with reason and time."""
        agent = self.stack.agent
        selected = None
        path = agent.path
        if path is not None:
            key = (path.local.base, path.remote.address)
            selected = next((pair for pair in agent.pairs if pair.key == key), None)
        return IceReport(
            agent.state.value,
            self._reason,
            (self._now() if self._failed_at is None else self._failed_at) - self._began,
            server_entries(self.stack.gatherer.reports),
            self._candidates.entries(self._began),
            pair_entries(agent.pairs, selected, self._began),
            self._hard_nat.report(),
            self._relays.entries(),
        )

    # -- carrying ---------------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._loop.time()

    def _arrived(self, data: bytes, base: TransportAddress, source: TransportAddress) -> None:
        self._do(self.stack.receive(data, base, source, self._now()))

    def _on_time(self) -> None:
        self._do(self.stack.handle_timeout(self._now()))

    def _do(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if isinstance(output, Transmit):
                self._transmit(output)
                continue
            self._note(output)
            if self.on_output is not None:
                self.on_output(output)
        if self._arming is None:
            # Once for all that happens in this round of the loop: packets come and go in bursts.
            self._arming = self._loop.call_soon(self._arm)

    def _transmit(self, output: Transmit) -> None:
        if output.local in self._sockets:
            self._sockets.send(output.data, output.local, output.remote)
        elif output.local in self._tcp:
            self._tcp.send(output.local, output.remote, output.data)
        elif output.local in self._relays:
            self._relays.send(output.local, output.remote, output.data)
        elif output.local in self._tcp_relays:
            self._tcp_relays.send(output.local, output.remote, output.data)

    def _note(self, output: Output) -> None:
        if isinstance(output, DataReceived):
            if self.on_output is None and not self._received.full():
                self._received.put_nowait(output.data)
        elif isinstance(output, CandidateFound):
            self._candidates.found(output.candidate, self._now())
            self._found.put_nowait(output.candidate)
            if output.candidate.type is CandidateType.RELAYED and output.candidate.via == "udp":
                self._relays.datagrams_gave_one()
        elif isinstance(output, GatheringComplete):
            self._found.put_nowait(None)
        elif isinstance(output, CandidateRefused):
            self._candidates.refused(output.candidate, output.reason.value)
        elif isinstance(output, NameToResolve):
            self._spawn(self._resolve_name(output.candidate))
        elif isinstance(output, PermissionNeeded):
            if output.relay in self._relays:
                self._relays.permit(output.relay, output.peer)
            elif output.relay in self._tcp_relays:
                self._tcp_relays.permit(output.relay, output.peer)
        elif isinstance(output, PairSelected):
            local = output.path.local
            if local.type is CandidateType.RELAYED and local.base in self._relays:
                self._relays.bind(local.base, output.path.remote.address)
            self._relays.found_path()
            if not output.path.is_relayed:
                self._hard_nat.connected()
            if output.path.nominated and not output.path.is_relayed:
                self._relays.is_not_needed("there is a direct path")
            self._changed.set()
        elif isinstance(output, PathDoubted):
            self._relays.lost_path()
        elif isinstance(output, StateChanged):
            if output.state is AgentState.DISCONNECTED:
                self._relays.lost_path()
            self._failed_at = self._now() if output.state is AgentState.FAILED else None
            self._reason = output.reason
            self._changed.set()

    async def _resolve_name(self, candidate: Candidate) -> None:
        if self._relaying.onion_only:
            self._candidates.refused(candidate, Refusal.POLICY.value)
            return
        self._names.hosts = self._sockets.hosts
        host = await self._names.resolve(candidate.address.host)
        if host is None:
            self._candidates.refused(candidate, Refusal.UNRESOLVABLE.value)
            return
        address = TransportAddress(host, candidate.address.port)
        self._do(self.stack.add_remote_candidate(replace(candidate, address=address), self._now()))

    def _arm(self) -> None:
        self._arming = None
        self._alarm.set(self.stack.next_deadline())
        if self._is_closed:
            self._changed.set()  # perhaps the last of the relays has been given back

    def _spawn(self, work: object) -> None:
        self._keep(self._loop.create_task(work))  # type: ignore[arg-type]

    def _keep(self, *tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # -- the end ----------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Gives the relays back, waiting a second at most for the servers' word, and closes the sockets."""
        self._is_closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hard_nat.close()
        await self._tcp.close()
        if self._mappings is not None:
            await self._mappings.close()
        self._do(self.stack.close(self._now()))
        try:
            await asyncio.gather(self._relays_are_back(), self._relays.close())
            await self._tcp_relays.close()
        finally:
            self._found.put_nowait(None)
            self._sockets.close()
            if self._arming is not None:
                self._arming.cancel()
            self._alarm.cancel()

    async def _relays_are_back(self) -> None:
        """Of those reached by UDP: sockets and alarm go on, so that what gets lost is sent again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                while self.stack.gatherer.relays.is_open:
                    self._changed.clear()
                    await self._changed.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
