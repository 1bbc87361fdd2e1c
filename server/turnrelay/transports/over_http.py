"""ClientsOverHttp: what comes through HTTP's ports, tunnels on any of them and TURN on those it shares."""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from turnrelay.core.addresses import FiveTuple
from turnrelay.policy.connection_limits import ConnectionLimits
from turnrelay.transports.driver import Driver
from turnrelay.transports.shared import MakeHttp, SharedListener
from turnrelay.transports.stream import StreamClients
from turnrelay.transports.tunnel import ClientOf, Tunnel


class ClientsOverHttp:
    """Makes the tunnel for each HTTP server, and the listeners of the ports that TURN and HTTP share."""

    def __init__(
        self, driver: Driver, limits: ConnectionLimits, idle_seconds: float, tls: ssl.SSLContext | None
    ) -> None:
        self._driver = driver
        self._limits = limits
        self._idle_seconds = idle_seconds
        self._tls = tls
        self._tunnels: list[Tunnel] = []
        self._shared: list[SharedListener] = []

    @property
    def ports(self) -> list[int]:
        """The shared ports."""
        return [listener.acceptor.port for listener in self._shared]

    def tunnel(self, client_of: ClientOf, *, on_shared_port: bool) -> Tunnel:
        """The routes of a tunnel. On a shared port connections are counted when they are accepted."""
        limits = None if on_shared_port else self._limits
        self._tunnels.append(Tunnel(self._driver, limits, self._idle_seconds, client_of))
        return self._tunnels[-1]

    def share(self, host: str, port: int, make_http: MakeHttp, given: socket.socket | None = None) -> None:
        """Listens for TURN and HTTP on one port; raises OSError. `given` is a listening socket that somebody
        else opened."""
        listener = SharedListener(self._driver, self._limits, self._idle_seconds, self._tls, make_http)
        listener.open(asyncio.get_running_loop(), host, port, given)
        self._shared.append(listener)

    def use_tls(self, tls: ssl.SSLContext) -> None:
        """Takes another certificate for new connections."""
        self._tls = tls
        for listener in self._shared:
            listener.tls = tls

    def close_idle(self, is_in_use: Callable[[FiveTuple], bool]) -> None:
        """Closes streams without an allocation that were silent for too long; tunnels do it themselves."""
        for listener in self._shared:
            for clients in listener.clients:
                clients.close_idle(is_in_use)

    def counts(self) -> Counter[str]:
        """What clients sent that is nothing to answer, by reason."""
        clients: list[StreamClients | Tunnel] = [*self._tunnels]
        for listener in self._shared:
            clients += listener.clients
        return Counter(
            unbound_channel=sum(each.unbound for each in clients),
            garbage=sum(listener.strangers for listener in self._shared),
            broken_stream=sum(each.broken for each in clients),
            too_many_connections=sum(listener.acceptor.refused for listener in self._shared)
            + sum(tunnel.refused for tunnel in self._tunnels),
        )

    @property
    def sockets(self) -> list[socket.socket]:
        """What the shared ports are listened on with."""
        return [listener.acceptor.sock for listener in self._shared if listener.acceptor.sock is not None]

    def stream_clients(self) -> list[StreamClients]:
        """Those who came by the shared ports for TURN, by listening address and kind."""
        return [clients for listener in self._shared for clients in listener.clients]

    def tunnels(self) -> int:
        """How many clients there are whose TURN is in a WebSocket."""
        return sum(len(tunnel.connections) for tunnel in self._tunnels)

    def stop_listening(self) -> None:
        for listener in self._shared:
            listener.acceptor.stop_accepting()

    def close(self) -> None:
        for listener in self._shared:
            listener.close()
