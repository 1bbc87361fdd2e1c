"""IceServer: one server as an application names it."""

from __future__ import annotations

from dataclasses import dataclass, field

from stunwire import TransportAddress

from peerpath.net.resolving import Resolver
from peerpath.stun.servers import StunServer
from peerpath.turn.carriers import RelayUri, parse_relay_uri
from peerpath.turn.credentials import LongTermCredentials
from peerpath.turn.tunnel import TunnelUri

_TURN_SERVICE = {False: "turn", True: "turns"}
_RELAY_SCHEMES = ("turn:", "turns:", "ws:", "wss:")


@dataclass(frozen=True, slots=True)
class IceServer:
    """`uri` as in `stun:host`, `turn:host:port?transport=tcp`, `turns:host`, or `wss://host/v1/tunnel` for
    TURN over WebSocket. TURN needs the credentials.

    ValueError for a URI that cannot be read, or TURN without credentials that can be sent.
    """

    uri: str
    username: str = ""
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.is_turn:
            parse_relay_uri(self.uri)
            if not self.username:
                raise ValueError(f"{self.uri}: a TURN server wants a user name and a password")
            LongTermCredentials(self.username, self.password)
        elif StunServer.parse(self.uri).transport != "udp":
            raise ValueError(f"{self.uri}: server-reflexive candidates are for UDP; write stun:host")

    @property
    def is_turn(self) -> bool:
        return self.uri.strip().lower().startswith(_RELAY_SCHEMES)

    @property
    def relay_uri(self) -> RelayUri:
        """Of a TURN server; ValueError for a STUN server."""
        return parse_relay_uri(self.uri)

    @property
    def is_tunnel(self) -> bool:
        return self.is_turn and isinstance(self.relay_uri, TunnelUri)

    @property
    def over_udp(self) -> bool:
        """Whether it is reached from the agent's own sockets."""
        return not self.is_turn or (self.relay_uri.transport == "udp" and not self.relay_uri.secure)

    @property
    def credentials(self) -> LongTermCredentials | None:
        return LongTermCredentials(self.username, self.password) if self.is_turn else None

    async def addresses(self, resolver: Resolver) -> list[TransportAddress]:
        """Where it can be reached, in the order to try. ResolveError when nowhere."""
        if not self.is_turn:
            return await StunServer.parse(self.uri).addresses(resolver)
        relay = self.relay_uri
        return await resolver.server(
            relay.host,
            relay.port,
            service=_TURN_SERVICE[relay.secure],
            protocol=relay.transport,
            default_port=relay.port,
        )
