"""IceServer: one server as an application names it."""

from __future__ import annotations

from dataclasses import dataclass, field

from stunwire import TransportAddress, TurnUri

from peerpath.net.resolving import Resolver
from peerpath.stun.servers import StunServer
from peerpath.turn.credentials import LongTermCredentials

_TURN_SERVICE = {False: "turn", True: "turns"}


@dataclass(frozen=True, slots=True)
class IceServer:
    """`uri` as in `stun:host`, `turn:host:port?transport=tcp` or `turns:host`; TURN needs the credentials.

    ValueError for a URI that cannot be read, or TURN without a user name.
    """

    uri: str
    username: str = ""
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.is_turn:
            TurnUri.parse(self.uri)
            if not self.username:
                raise ValueError(f"{self.uri}: a TURN server wants a user name and a password")
        elif StunServer.parse(self.uri).transport != "udp":
            raise ValueError(f"{self.uri}: server-reflexive candidates are for UDP; write stun:host")

    @property
    def is_turn(self) -> bool:
        return self.uri.strip().lower().startswith(("turn:", "turns:"))

    @property
    def turn(self) -> TurnUri | None:
        return TurnUri.parse(self.uri) if self.is_turn else None

    @property
    def over_udp(self) -> bool:
        """Whether it is reached from the agent's own sockets."""
        turn = self.turn
        return turn is None or (turn.transport == "udp" and not turn.secure)

    @property
    def credentials(self) -> LongTermCredentials | None:
        return LongTermCredentials(self.username, self.password) if self.is_turn else None

    async def addresses(self, resolver: Resolver) -> list[TransportAddress]:
        """Where it can be reached, in the order to try. ResolveError when nowhere."""
        turn = self.turn
        if turn is None:
            return await StunServer.parse(self.uri).addresses(resolver)
        return await resolver.server(
            turn.host,
            turn.port,
            service=_TURN_SERVICE[turn.secure],
            protocol=turn.transport,
            default_port=turn.port,
        )
