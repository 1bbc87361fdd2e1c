"""Relays: the allocations that are reached from the agent's own sockets (RFC 8445 section 5.1.1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stunwire import TransportAddress

from peerpath.ice.outputs import Transmit
from peerpath.ice.servers import GatheringServer, ServerReport
from peerpath.turn import outputs as turn
from peerpath.turn.client import BOTH_FAMILIES, TurnClient


@dataclass(frozen=True, slots=True)
class RelayOpened:
    """An allocation exists."""

    base: TransportAddress
    server: GatheringServer
    report: ServerReport
    relayed: tuple[TransportAddress, ...]
    """One of each family that the server gave."""
    mapped: TransportAddress


@dataclass(frozen=True, slots=True)
class RelayRedirected:
    """The server sends its clients to another one (300)."""

    base: TransportAddress
    server: GatheringServer


@dataclass(frozen=True, slots=True)
class RelayData:
    """A datagram of `peer` came to the relayed address `relay`."""

    relay: TransportAddress
    peer: TransportAddress
    data: bytes


@dataclass(frozen=True, slots=True)
class PeerRefused:
    """The server carries nothing between `relay` and `host`."""

    relay: TransportAddress
    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class RelayClosed:
    """The relayed address is no more."""

    relay: TransportAddress
    reason: str


RelayOutput = Transmit | RelayOpened | RelayRedirected | RelayData | PeerRefused | RelayClosed


@dataclass(slots=True, eq=False)
class _Relay:
    client: TurnClient
    base: TransportAddress
    server: GatheringServer
    report: ServerReport
    refusal: str = ""


class Relays:
    """One TurnClient for each pair of base and server, and the way from a relayed address to its client."""

    def __init__(self) -> None:
        self._by_path: dict[tuple[TransportAddress, TransportAddress], _Relay] = {}
        self._by_address: dict[TransportAddress, _Relay] = {}

    def __contains__(self, relayed: TransportAddress) -> bool:
        return relayed in self._by_address

    @property
    def is_open(self) -> bool:
        """Whether a server holds an allocation, or may be about to make one."""
        return bool(self._by_path)

    def allocate(
        self, base: TransportAddress, server: GatheringServer, report: ServerReport, rto: float, now: float
    ) -> list[RelayOutput]:
        """Asks `server`, which has credentials, for a relayed address of each family that it has."""
        assert server.credentials is not None
        client = TurnClient(server.credentials, reliable=False, families=BOTH_FAMILIES, rto=rto)
        relay = _Relay(client, base, server, report)
        self._by_path[base, server.address] = relay
        return self._translate(relay, client.start(now), now)

    def receive(
        self, data: bytes, local: TransportAddress, remote: TransportAddress, now: float
    ) -> list[RelayOutput] | None:
        """A datagram at a base; None if it is not from the server of an allocation there."""
        relay = self._by_path.get((local, remote))
        return None if relay is None else self._translate(relay, relay.client.receive(data, now), now)

    def send(
        self, relayed: TransportAddress, peer: TransportAddress, data: bytes, now: float
    ) -> list[RelayOutput]:
        """A datagram from `relayed` to `peer`; nothing if there is no such relay any more."""
        relay = self._by_address.get(relayed)
        return [] if relay is None else self._translate(relay, relay.client.send(peer, data, now), now)

    def permit(self, relayed: TransportAddress, peer: TransportAddress, now: float) -> list[RelayOutput]:
        relay = self._by_address.get(relayed)
        if relay is None:
            return []
        if needs_channel(relayed, peer):
            return self.bind(relayed, peer, now)
        return self._translate(relay, relay.client.permit([peer], now), now)

    def bind(self, relayed: TransportAddress, peer: TransportAddress, now: float) -> list[RelayOutput]:
        """A channel for the pair that was selected: 4 bytes of overhead instead of 36."""
        relay = self._by_address.get(relayed)
        return [] if relay is None else self._translate(relay, relay.client.bind(peer, now), now)

    def next_deadline(self) -> float | None:
        moments = [relay.client.next_deadline() for relay in self._by_path.values()]
        return min((moment for moment in moments if moment is not None), default=None)

    def handle_timeout(self, now: float) -> list[RelayOutput]:
        outputs: list[RelayOutput] = []
        for relay in list(self._by_path.values()):
            outputs += self._translate(relay, relay.client.handle_timeout(now), now)
        return outputs

    def remove_base(self, base: TransportAddress, now: float) -> list[RelayOutput]:
        """The socket is gone: there is no way to its servers any more."""
        outputs: list[RelayOutput] = []
        for relay in [relay for relay in self._by_path.values() if relay.base == base]:
            outputs += self._translate(relay, relay.client.disconnected(now), now)
        return outputs

    def close(self, now: float) -> list[RelayOutput]:
        """Gives everything back: `is_open` until the servers have answered."""
        outputs: list[RelayOutput] = []
        for relay in list(self._by_path.values()):
            outputs += self._translate(relay, relay.client.close(now), now)
        return outputs

    def _translate(self, relay: _Relay, results: Sequence[turn.Output], now: float) -> list[RelayOutput]:
        outputs: list[RelayOutput] = []
        for result in results:
            if isinstance(result, turn.Transmit):
                outputs.append(Transmit(result.data, relay.base, relay.server.address))
            elif isinstance(result, turn.PeerData):
                relayed = of_family(relay.client.relayed, result.peer.host)
                if relayed is not None:
                    outputs.append(RelayData(relayed, result.peer, result.data))
            elif isinstance(result, turn.Allocated):
                for relayed in result.relayed:
                    self._by_address[relayed] = relay
                relay.report.succeeded(result.relayed[0], now)
                outputs.append(
                    RelayOpened(relay.base, relay.server, relay.report, result.relayed, result.mapped)
                )
            elif isinstance(result, turn.PermissionRefused):
                outputs += self._peer_refused(relay, result)
            elif isinstance(result, turn.Refused):
                relay.refusal = f"{result.code} {result.reason}".rstrip()
            elif isinstance(result, turn.TryAlternate):
                relay.refusal = "it sends its clients elsewhere"
                redirected = GatheringServer(
                    relay.server.name, result.server, relay.server.credentials, relay.server.index
                )
                outputs.append(RelayRedirected(relay.base, redirected))
            elif isinstance(result, turn.Ended):
                outputs += self._ended(relay, result, now)
        return outputs

    def _peer_refused(self, relay: _Relay, refused: turn.PermissionRefused) -> list[RelayOutput]:
        relayed = of_family(relay.client.relayed, refused.host)
        if relayed is None:
            return []
        answer = "did not answer" if refused.code is None else f"answered {refused.code}"
        return [PeerRefused(relayed, refused.host, f"{relay.server.name} {answer} when asked to permit it")]

    def _ended(self, relay: _Relay, ended: turn.Ended, now: float) -> list[RelayOutput]:
        reason = relay.refusal or ended.reason.value
        relay.report.failed(reason, now)
        self._by_path.pop((relay.base, relay.server.address), None)
        gone = [address for address, owner in self._by_address.items() if owner is relay]
        for address in gone:
            del self._by_address[address]
        return [RelayClosed(address, f"{relay.server.name}: {reason}") for address in gone]


def needs_channel(relayed: TransportAddress, peer: TransportAddress) -> bool:
    """Whether `peer` is a relayed address of the same server, so that a channel stands for a permission.

    A permission names a host and no port (RFC 8656 section 9), and a relay does well to permit nobody its own
    host. A channel names the port, by which the relay knows its own relayed addresses.
    """
    return relayed.host == peer.host


def of_family(relayed: Sequence[TransportAddress], peer_host: str) -> TransportAddress | None:
    """The one of an allocation that talks to peers of this family."""
    return next((address for address in relayed if (":" in address.host) == (":" in peer_host)), None)
