"""StunServer: whom to ask, as a person writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stunwire import StunUri, TransportAddress

from peerpath.net.addresses import join_host_port, split_host_port
from peerpath.net.resolving import Resolver

Transport = Literal["udp", "tcp", "tls"]

_DEFAULT_PORTS: dict[Transport, int] = {"udp": 3478, "tcp": 3478, "tls": 5349}


@dataclass(frozen=True, slots=True)
class StunServer:
    """`port` None: what SRV records say, else the default port of the transport."""

    host: str
    port: int | None = None
    transport: Transport = "udp"

    @classmethod
    def parse(cls, given: str | tuple[str, int] | StunUri | StunServer) -> StunServer:
        """`host`, `host:port`, `stun:host:port`, `stun:host?transport=tcp`, `stuns:host`, (host, port).

        ValueError, saying what to write instead, for anything else.
        """
        if isinstance(given, StunServer):
            return given
        if isinstance(given, StunUri):
            return cls(given.host, given.port, "tls" if given.secure else given.transport)
        if not isinstance(given, str):
            if not (isinstance(given, Sequence) and len(given) == 2):
                raise ValueError(f"{given!r}: write a server as 'host:port' or (host, port)")
            return cls(*split_host_port(join_host_port((str(given[0]), int(given[1]))), 0))
        text, transport = given.strip(), "udp"
        scheme, colon, rest = text.partition(":")
        if colon and scheme.lower() in ("stun", "stuns"):
            text = rest
            transport = "tls" if scheme.lower() == "stuns" else "udp"
        text, question, query = text.partition("?")
        if question:
            # RFC 7064 has no query; this one is borrowed from TURN URIs for want of a way to say TCP.
            if query.lower() not in ("transport=udp", "transport=tcp") or transport == "tls":
                raise ValueError(
                    f"{given!r}: after a stun: server only ?transport=tcp or ?transport=udp goes"
                )
            transport = query.lower().removeprefix("transport=")
        host, port = split_host_port(text, 0)
        return cls(host.lower(), port or None, _TRANSPORTS[transport])

    def __str__(self) -> str:
        where = self.host if self.port is None else join_host_port((self.host, self.port))
        scheme = "stuns" if self.transport == "tls" else "stun"
        return f"{scheme}:{where}" + ("?transport=tcp" if self.transport == "tcp" else "")

    async def addresses(self, resolver: Resolver) -> list[TransportAddress]:
        """Where it can be reached, in the order to try. ResolveError when nowhere."""
        secure = self.transport == "tls"
        return await resolver.server(
            self.host,
            self.port,
            service="stuns" if secure else "stun",
            protocol="udp" if self.transport == "udp" else "tcp",
            default_port=_DEFAULT_PORTS[self.transport],
        )


_TRANSPORTS: dict[str, Transport] = {"udp": "udp", "tcp": "tcp", "tls": "tls"}
