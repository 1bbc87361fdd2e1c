"""ClientUris: what clients are told to connect to, as things are now."""

from collections.abc import Callable, Sequence

from turnrelay.relay.plane import RelayHost
from turnrelay.settings.tls import Certificate
from turnrelay.transports.listeners import Listeners
from turnrelay.transports.tunnel import PATH as TUNNEL_PATH
from turnrelay.welcome import tunnel_urls, turn_uris


class ClientUris:
    """Where the listeners are reached from outside, by the names that the certificate is for."""

    def __init__(
        self, hosts: Sequence[RelayHost], listeners: Listeners, certificate: Callable[[], Certificate | None]
    ) -> None:
        """`certificate` is that of TLS clients now, None where there is no TLS."""
        self._hosts = hosts
        self._listeners = listeners
        self._certificate = certificate

    def turn(self) -> list[str]:
        """TURN URIs (RFC 7065), UDP first."""
        certificate = self._certificate()
        tls_ports = [] if certificate is None else [self._listeners.tls_port, *self._shared_ports()]
        names = () if certificate is None else certificate.names
        return turn_uris(self._reachable(), self._listeners.port, tls_ports, names)

    def tunnels(self) -> list[str]:
        """URLs of the tunnel on the shared ports."""
        certificate = self._certificate()
        names = () if certificate is None else certificate.names
        secure = certificate is not None
        return tunnel_urls(
            self._reachable(), self._shared_ports(), TUNNEL_PATH, secure=secure, tls_names=names
        )

    def _shared_ports(self) -> list[int]:
        return list(dict.fromkeys(self._listeners.over_http.ports))

    def _reachable(self) -> list[str]:
        """The addresses where the relay is reached from outside, if it listens there."""
        listening = self._listeners.hosts
        return [host.advertised for host in self._hosts if host.local in listening] or listening
