"""NATTraversal: what an application needs of NAT traversal, in five calls."""

from __future__ import annotations

from collections.abc import Sequence

from peerpath.errors import TraversalError
from peerpath.nat.behaviour import NatBehaviour, NatType
from peerpath.nat.compatibility import can_connect_directly, typical
from peerpath.nat.discoverer import discover_behaviour
from peerpath.net.interfaces import host_addresses
from peerpath.net.ports import bindable_port
from peerpath.punch.puncher import punch
from peerpath.settings import Settings
from peerpath.stun.client import ServerLike
from peerpath.stun.simple import STUNClient, STUNResponse


class NATTraversal:
    """Finds out about the NAT, and makes ways through it.

    The calls that use the network are coroutines. None of them raises for what the network does: they return
    "unknown", None or False, and `failure` holds a TraversalError with the reason of each server or attempt.
    With `automatic` off in the settings nothing is sent, with `relay_only` no address is shown to anybody.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.load()
        self.stun_client = STUNClient(settings=self.settings)
        self.public_address: STUNResponse | None = None
        """What was last learned."""
        self.nat_type: str = NatType.UNKNOWN.value
        """What `discover_nat_type` last returned."""
        self.behaviour: NatBehaviour | None = None
        """The same in the terms of RFC 4787, and more of it."""
        self.failure: TraversalError | None = None

    async def discover_nat_type(self) -> str:
        """The class of the NAT in front of this machine, a value of `peerpath.nat.NatType`.

        "open_internet", "firewall", "full_cone", "address_restricted", "port_restricted", "symmetric",
        "blocked" (no UDP passes) or "unknown". Takes 0.1 to 12 s.
        """
        self.failure = None
        if not self._is_allowed("discovery"):
            return self.nat_type
        servers = [*self.settings.primary_servers, *self.settings.backup_stun_servers]
        try:
            discovery = await discover_behaviour(servers)
        except TraversalError as failure:
            self.failure = failure
            self.nat_type = NatType.UNKNOWN.value
            return self.nat_type
        behaviour = self.behaviour = discovery.behaviour
        self.nat_type = behaviour.nat_type.value
        if behaviour.public_address is not None and behaviour.server is not None:
            self.public_address = STUNResponse(*behaviour.public_address, *behaviour.server)
        else:
            self.failure = TraversalError("No STUN server answered:", discovery.failures)
        return self.nat_type

    async def get_public_address(
        self, stun_servers: Sequence[ServerLike] | None = None
    ) -> STUNResponse | None:
        """The public address as seen by the fastest of the servers, or None when none tells it.

        ValueError for a server that cannot be parsed.
        """
        self.failure = None
        if not self._is_allowed("asking for the public address"):
            return None
        found = await self.stun_client.get_public_address(stun_servers=stun_servers)
        self.failure = self.stun_client.failure
        self.public_address = found or self.public_address
        return found

    async def setup_hole_punch(self, peer_address: str, peer_port: int, local_port: int) -> bool:
        """Punches a hole from UDP port `local_port` to the peer, who must do the same towards us meanwhile.

        True once both directions have been seen to work and both sides know of it. The socket is closed then,
        and the hole stays open for as long as the NATs remember it, half a minute at least: bind the same
        port and use it. `peerpath.punch.punch` leaves the socket open instead. False after `retry_attempts`
        attempts of `punch_timeout` seconds each.
        """
        self.failure = None
        if not self._is_allowed("hole punching"):
            return False
        if self.settings.relay_only:
            self.failure = TraversalError("relay_only is set: no packet goes to the peer itself")
            return False
        try:
            hole = await punch(
                (peer_address, peer_port),
                ("", local_port),
                seconds=self.settings.punch_timeout,
                attempts=self.settings.retry_attempts,
            )
        except TraversalError as failure:
            self.failure = failure
            return False
        except OSError as error:
            self.failure = TraversalError(f"UDP port {local_port}: {error.strerror or error}")
            return False
        hole.close()
        return True

    async def get_connection_candidates(self, local_port: int) -> list[tuple[str, int]]:
        """Where a peer could reach UDP port `local_port`: addresses of this host, then the public one.

        With `local_port` 0 a free one of `local_ports` is chosen; it is the port of the first candidate.
        """
        self.failure = None
        if self.settings.relay_only or self.settings.onion_only:
            return []
        port = local_port or bindable_port(*self.settings.local_ports)
        candidates = [(host, port) for host in host_addresses()]
        if self._is_allowed("asking for the public address"):
            try:
                found = await self.stun_client.get_public_address(port)
            except OSError as error:
                # The application listens there already: what the NAT makes of that port it can ask itself.
                self.failure = TraversalError(f"UDP port {port}: {error.strerror or error}")
            else:
                self.failure = self.stun_client.failure
                if found is not None:
                    self.public_address = found
                    candidates.append((found.public_ip, found.public_port))
        return list(dict.fromkeys(candidates))

    def can_connect_directly(self, peer_nat_type: str) -> bool:
        """Whether hole punching will connect this machine with a peer behind a NAT of that class.

        Our own side is what `discover_nat_type` found, taken for the strictest before that. A class that
        nobody knows is the peer's word, not a bug here: False.
        """
        try:
            theirs = typical(NatType.parse(peer_nat_type))
        except ValueError:
            return False
        ours = self.behaviour or typical(NatType.parse(self.nat_type))
        return can_connect_directly(ours, theirs)

    def _is_allowed(self, what: str) -> bool:
        if not self.settings.automatic:
            self.failure = TraversalError(f"automatic is off in the settings: no {what}")
        elif self.settings.onion_only:
            self.failure = TraversalError(f"onion_only is set: no {what}")
        return self.failure is None
