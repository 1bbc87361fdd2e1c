"""SimRelay: the real core of the relay on a simulated host, with a plane in memory."""

from __future__ import annotations

from collections.abc import Callable

from stunwire import (
    DATA,
    XOR_PEER_ADDRESS,
    DecodeError,
    Message,
    MessageClass,
    Method,
    PasswordAlgorithm,
    SecurityFeatures,
    TransportAddress,
    decode_channel_data,
    encode_channel_data,
    is_channel_data,
    long_term_key,
)
from turnrelay.core.addresses import (
    ClientAddress,
    FiveTuple,
    PeerAddress,
    RelayedAddress,
    ServerAddress,
    Transport,
)
from turnrelay.core.nonce import NonceAuthority
from turnrelay.core.outputs import (
    ChannelFlow,
    CloseRelay,
    Flow,
    Grant,
    LookUpKey,
    OpenRelay,
    Output,
    Reply,
    Revoke,
    SendToPeer,
)
from turnrelay.core.protocols import Credential, DenyRule
from turnrelay.core.server import Server

from sim.network import Packet, Realm
from sim.world import Alarm

REALM = "sim"
USERNAME, PASSWORD = "alice", "open sesame"

_KEYS = {algorithm: long_term_key(USERNAME, REALM, PASSWORD, algorithm) for algorithm in PasswordAlgorithm}
_CREDENTIAL = Credential(USERNAME, USERNAME, _KEYS)
_LOCAL_DELAY = 0.0001


class _Policy:
    """Whatever is asked is allowed, but for the host of the relay itself: policies have their own tests."""

    def __init__(self, host: str) -> None:
        self._host = host

    def check(self, peer: PeerAddress) -> DenyRule | None:
        return DenyRule.LOCAL_ADDRESS if peer.host == self._host else None

    def admits_client(self, client_host: str) -> bool:
        return True

    def allow(self, client_host: str, now: float) -> bool:
        return True

    def lease_allocation(self, account: str, client_host: str) -> _Policy:
        return self

    def release(self) -> None:
        pass


class SimRelay:
    """Answers on `address` in the internet; relayed addresses are further ports of the same host."""

    def __init__(self, realm: Realm, host: str = "203.0.113.1", port: int = 3478) -> None:
        policy = _Policy(host)
        self.address = TransportAddress(host, port)
        self.is_down = False
        self.core = Server(
            realm=REALM,
            nonces=NonceAuthority([b"k" * 16], 3600, SecurityFeatures.PASSWORD_ALGORITHMS),
            peers=policy,
            quotas=policy,
            rate_limit=policy,
        )
        self._realm = realm
        self._world = realm.world
        self._alarm = Alarm(realm.world, self._on_timer)
        self._flows: dict[Flow, float] = {}
        self._channels: dict[tuple[FiveTuple, int], ChannelFlow] = {}
        self._bound: dict[tuple[RelayedAddress, TransportAddress], ChannelFlow] = {}
        self._permitted: dict[tuple[RelayedAddress, str], Flow] = {}
        self._relays: set[RelayedAddress] = set()
        self._streams: dict[FiveTuple, Callable[[bytes], None]] = {}
        self._next_port = 50_000
        realm.attach(host, self._receive)

    # -- what arrives -----------------------------------------------------------------------------------

    def _receive(self, packet: Packet) -> None:
        if self.is_down:
            return
        if packet.destination == self.address:
            server, client = ServerAddress(self.address), ClientAddress(packet.source)
            self._from_client(packet.data, FiveTuple(Transport.UDP, server, client))
        else:
            self._from_peer(RelayedAddress(packet.destination), packet.source, packet.data)

    def connect(self, client: TransportAddress, on_frame: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """A TCP connection that neither loses nor breaks: takes whole frames, and hands them over."""
        path = FiveTuple(Transport.TCP, ServerAddress(self.address), ClientAddress(client))
        self._streams[path] = on_frame
        delay = self._realm.impairments.delay
        return lambda frame: self._world.after(delay, lambda: self._from_client(frame, path))

    def _from_client(self, data: bytes, path: FiveTuple) -> None:
        if self.is_down:
            return
        if not is_channel_data(data):
            self._carry_out(self.core.receive(data, path, self._world.now))
            return
        try:
            channel, payload = decode_channel_data(data)
        except DecodeError:
            return
        flow = self._channels.get((path, channel))
        if flow is not None and self._is_live(flow):
            self._send(flow.relay, flow.peer, bytes(payload))

    def _from_peer(self, relay: RelayedAddress, peer: TransportAddress, data: bytes) -> None:
        channel = self._bound.get((relay, peer))
        if channel is not None and self._is_live(channel):
            frame = encode_channel_data(channel.channel, data, pad=channel.path.transport.reliable)
            self._to_client(channel.path, frame)
            return
        permission = self._permitted.get((relay, peer.host))
        if permission is not None and self._is_live(permission):
            message = Message(MessageClass.INDICATION, Method.DATA)
            message.add(XOR_PEER_ADDRESS, peer).add(DATA, data)
            self._to_client(permission.path, message.encode())

    def _is_live(self, flow: Flow) -> bool:
        return self._flows.get(flow, 0.0) > self._world.now

    # -- what leaves ------------------------------------------------------------------------------------

    def _to_client(self, path: FiveTuple, data: bytes) -> None:
        if path.transport is Transport.UDP:
            self._realm.send(Packet(self.address, path.client, data))
        else:
            self._world.after(self._realm.impairments.delay, lambda: self._streams[path](data))

    def _send(self, relay: RelayedAddress, peer: TransportAddress, data: bytes) -> None:
        packet = Packet(relay, peer, data)
        if RelayedAddress(peer) in self._relays:
            self._world.after(_LOCAL_DELAY, lambda: self._receive(packet))
        else:
            self._realm.send(packet)

    def _carry_out(self, outputs: list[Output]) -> None:
        now = self._world.now
        for output in outputs:
            if isinstance(output, Reply):
                self._to_client(output.path, output.data)
            elif isinstance(output, LookUpKey):
                self._carry_out(self.core.key_found(output.ticket, [_CREDENTIAL], now))
            elif isinstance(output, OpenRelay):
                relay = RelayedAddress(TransportAddress(self.address.host, self._next_port))
                self._next_port += 1
                self._relays.add(relay)
                self._carry_out(self.core.relay_opened(output.ticket, relay, None, now))
            elif isinstance(output, CloseRelay):
                self._relays.discard(output.relay)
            elif isinstance(output, Grant):
                self._grant(output.flow, output.expires_at)
            elif isinstance(output, Revoke):
                self._flows.pop(output.flow, None)
            elif isinstance(output, SendToPeer):
                self._send(output.relay, output.peer, output.data)
        self._alarm.set(self.core.next_deadline())

    def _grant(self, flow: Flow, expires_at: float) -> None:
        self._flows[flow] = expires_at
        if isinstance(flow, ChannelFlow):
            self._channels[flow.path, flow.channel] = self._bound[flow.relay, flow.peer] = flow
        else:
            self._permitted[flow.relay, flow.peer_host] = flow

    def _on_timer(self) -> None:
        self._carry_out(self.core.handle_timeout(self._world.now))
