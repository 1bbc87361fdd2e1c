"""The relay put together from its parts. Nothing else imports everything."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from prometheus_client import CollectorRegistry
from stunwire import SecurityFeatures

from turnrelay import __version__
from turnrelay.client_uris import ClientUris
from turnrelay.core.addresses import family_of
from turnrelay.core.alternates import Alternates
from turnrelay.core.limits import Limits
from turnrelay.core.nonce import NonceAuthority
from turnrelay.core.server import Server
from turnrelay.data_path import DataPath
from turnrelay.discovery_addresses import discovery_addresses
from turnrelay.handover.estate import Estate
from turnrelay.http_side import HttpSide, open_http
from turnrelay.observe.log import EventLog
from turnrelay.observe.metrics import Metrics
from turnrelay.operator_side import operator_token_place
from turnrelay.policy import user_database
from turnrelay.policy.credentials import SharedSecrets, StaticUsers, UserDatabase, UserDirectory
from turnrelay.policy.outcome_tokens import OutcomeTokens
from turnrelay.policy.peer_access import PeerAccessPolicy
from turnrelay.policy.secret_file import load_or_create_secret
from turnrelay.relay.hosts import relay_hosts
from turnrelay.relay.network_changes import NetworkChanges
from turnrelay.relay_parts import RelayParts
from turnrelay.served_certificate import ServedCertificate
from turnrelay.settings import Settings
from turnrelay.transports.driver import Driver
from turnrelay.transports.interfaces import detect_relay_addresses, expand, local_addresses
from turnrelay.transports.listeners import Listeners
from turnrelay.watch import Watch
from turnrelay.web.health import Readiness
from turnrelay.welcome import Welcome
from turnrelay.workers.place import SUPERVISOR, Alone

_RESCAN_SECONDS = 5.0
_IDLE_POLL_SECONDS = 0.1
_FIRST_CREDENTIAL_SECONDS = 24 * 3600
_FIRST_CREDENTIAL_NAME = "first-steps"


class Relay:
    """One running relay, or one process of it."""

    def __init__(self, settings: Settings, place: Alone | None = None) -> None:
        self._settings = settings
        self._place = place = place or Alone(settings)
        self._log = structlog.get_logger()
        shared_secrets = [secret.get_secret_value() for secret in settings.shared_secrets]
        self._has_own_secret = not shared_secrets and not settings.users
        if self._has_own_secret:
            shared_secrets = [load_or_create_secret(settings.data_dir)]
        self._shared = SharedSecrets(shared_secrets, settings.realm)
        self._outcome_tokens = OutcomeTokens(shared_secrets)
        self._watch = Watch(settings, place.self_test_user)
        users = [(user.name, user.password.get_secret_value()) for user in settings.users]
        users.append(place.self_test_user)
        database = UserDatabase(settings.data_dir / user_database.FILE_NAME, settings.realm)
        database.check()
        directory = UserDirectory(StaticUsers(users, settings.realm), self._shared, database)
        external = [str(mapping) for mapping in settings.external_ip]
        self._hosts = relay_hosts(settings.relay_ip or detect_relay_addresses(), external)
        self._families = frozenset(family_of(host.local) for host in self._hosts)
        self._discovery = discovery_addresses(settings, self._hosts)
        self._peers = PeerAccessPolicy(allow=settings.allow_peer, deny=settings.deny_peer)
        self._path = path = DataPath(settings, self._hosts, place)
        self._metrics = Metrics(__version__, path.plane_name, path.mover_name)
        self._readiness = Readiness(lambda: place.is_ready)
        self._certificate = ServedCertificate(settings.tls, self._metrics.health.certificate)
        self._driver = Driver(
            self._server(directory),
            directory,
            asyncio.get_running_loop(),
            time.monotonic,
            time.time,
            self._watch.observers(self._metrics.observe, EventLog(settings.log_level).observe),
            self._metrics.answered,
            path.mover,
        )
        self._plane = path.make_plane(self._driver)
        self._driver.use_plane(self._plane)
        self._listeners = self._make_listeners()
        place.connect(self._driver, self._listeners)
        self._uris = ClientUris(self._hosts, self._listeners, lambda: self._certificate.current)
        self.http: HttpSide | None = None
        self._following: asyncio.Task[None] | None = None
        self._is_succeeded = False
        self._known: tuple[list[str], set[int]] = [], set()

    async def start(self, go_on: Callable[[], Awaitable[None]] | None = None) -> None:
        """Listens and gets ready; OperatorError or ListenError names what is in the way. `go_on` is called
        before anything is read, to go on with another process' clients."""
        self._listeners.open()
        self._notice_addresses()
        if go_on is not None:
            # From then on nobody else listens, and nobody may hear that this relay is not ready.
            self._readiness.takes_clients = True
            await go_on()
        readiness = self._readiness
        self._metrics.watch(
            self._driver.server,
            self._plane,
            self._listeners,
            lambda: readiness.ready,
            lambda: readiness.draining,
        )
        self.http = await open_http(self.parts())
        self._notice_addresses()
        await self._place.start_others(self._metrics, self._own_ports)
        self._following = asyncio.create_task(self._follow_interfaces())
        self._readiness.takes_clients = True
        self._watch.start(self._metrics.health, (self._own_client(), self._listeners.port), self._families)
        if self._place.member == SUPERVISOR:
            plane, mover = self._path.plane_name, self._path.mover_name
            self._log.info("relay started", version=__version__, plane=plane, mover=mover)

    async def linger(self, seconds: float | None) -> None:
        """Another process goes on; returns when the connections that could not be moved there have ended."""
        self._is_succeeded = True
        if self._following is not None:
            self._following.cancel()
        await self._watch.stop()
        if self.http is not None:
            await self.http.stop_listening()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._place.linger_others()
                while self._listeners.remaining:  # noqa: ASYNC110 - no connection is to pay for an event
                    await asyncio.sleep(_IDLE_POLL_SECONDS)

    @property
    def remaining(self) -> int:
        """Connections of clients that are open."""
        return self._listeners.remaining

    async def drain(self) -> None:
        """Makes no new allocations; returns when none is left in any process of the relay."""
        self._readiness.takes_clients, self._readiness.draining = False, True
        # Its own allocations would be refused from now on, and taken for a failure.
        await self._watch.stop_self_test()
        self._driver.server.drain()
        await self._place.drain_others()
        while not self._driver.server.is_idle:  # noqa: ASYNC110 - no request is to pay for an event
            await asyncio.sleep(_IDLE_POLL_SECONDS)

    async def stop(self) -> None:
        """Ends every allocation and closes every socket."""
        was_ready, self._readiness.takes_clients = self._readiness.takes_clients, False
        if self._following is not None:
            self._following.cancel()
        await self._watch.stop()
        await self._place.stop_others()
        self._listeners.close()
        await self._driver.close()
        await self._watch.flush()
        if self.http is not None:
            await self.http.close()
        self._path.close()
        if was_ready and not self._is_succeeded and self._place.member == SUPERVISOR:
            self._log.info("relay stopped")

    @property
    def registry(self) -> CollectorRegistry:
        """The metrics of this process."""
        return self._metrics.registry

    @property
    def http_authority(self) -> str | None:
        """Host and port of the HTTP side's own listener; None if there is none."""
        return None if self.http is None else self.http.authority

    def welcome(self) -> Welcome:
        """What to tell whoever started the relay. A credential only if nobody configured any."""
        settings = self._settings
        username = password = expires_at = None
        if self._has_own_secret:
            now = time.time()
            expires_at = now + _FIRST_CREDENTIAL_SECONDS
            username, password = self._shared.mint(_FIRST_CREDENTIAL_NAME, _FIRST_CREDENTIAL_SECONDS, now)
        return Welcome(
            version=__version__,
            uris=self._uris.turn(),
            username=username,
            password=password,
            expires_at=expires_at,
            relay_addresses=[host.advertised for host in self._hosts],
            ports=(settings.min_port, settings.max_port),
            relays_tcp=settings.tcp_relay == "on",
            http=self.http_authority,
            tunnels=self._uris.tunnels() if settings.tunnel == "on" else [],
            operator_token=operator_token_place(settings),
            data_dir=str(settings.data_dir),
            plane=self._path.plane_name,
        )

    def reload_certificate(self) -> None:
        """Reads the certificate again, for new connections; a bad one leaves the old one in use."""
        try:
            self._certificate.read()
        except (OSError, ValueError) as error:
            self._log.error("certificate not reloaded, the old one stays in use", error=str(error))
            return
        if self._certificate.contexts is not None:
            self._listeners.use_tls(self._certificate.contexts)
            self._place.reload_others()
            self._log.info("certificate reloaded")

    # -- the parts --------------------------------------------------------------------------------------

    def _server(self, directory: UserDirectory) -> Server:
        settings, limits = self._settings, self._settings.limits
        features = SecurityFeatures.PASSWORD_ALGORITHMS
        if directory.supports_userhash:
            features |= SecurityFeatures.USERNAME_ANONYMITY
        return Server(
            realm=settings.realm,
            nonces=NonceAuthority(self._place.nonce_keys, limits.nonce_lifetime_seconds, features),
            peers=self._peers,
            quotas=self._place.quotas(settings.allocations_total(len(self._hosts))),
            rate_limit=self._place.rate_limit(),
            limits=Limits(
                default_lifetime=limits.default_lifetime_seconds,
                max_lifetime=limits.max_lifetime_seconds,
                nonce_lifetime=limits.nonce_lifetime_seconds,
                permissions_per_allocation=limits.permissions_per_allocation,
                channels_per_allocation=limits.channels_per_allocation,
                requests_per_allocation=limits.requests_per_allocation_per_second,
                requests_burst=limits.requests_per_allocation_burst,
            ),
            families=self._families,
            discovery=self._discovery,
            tcp_relays=settings.tcp_relay == "on",
            processes=self._place.processes,
            alternates=self._alternates(),
        )

    def _alternates(self) -> Alternates:
        """All of the fleet may have one list, with themselves in it."""
        own = {*expand(list(self._settings.listen))}
        own |= {address for host in self._hosts for address in host}
        return Alternates(server for server in self._settings.alternate_server if server.host not in own)

    def _make_listeners(self) -> Listeners:
        settings, limits = self._settings, self._settings.limits
        listen, discovery = list(settings.listen), self._discovery
        if discovery is not None and listen:
            listen += [host for host in (discovery.primary, discovery.alternate) if host not in listen]
        return self._place.listeners(
            self._driver,
            listen,
            settings.port,
            settings.tls_port,
            self._certificate.contexts,
            self._place.connection_limits(),
            limits.tcp_idle_seconds,
            [] if discovery is None else discovery.alternate_port_addresses(),
        )

    def parts(self) -> RelayParts:
        """What the HTTP side and the operator's desk are made from."""
        return RelayParts(
            self._settings,
            self._readiness,
            self._metrics,
            self._driver,
            self._listeners,
            self._shared,
            self._outcome_tokens,
            self._path.plane_name,
            self._hosts,
            self._uris.turn,
            lambda: self._certificate.current,
            self._place.ask_others,
            self._place.given,
        )

    def estate(self) -> Estate:
        """What is handed over to another process."""
        return Estate(
            self._place,
            self._readiness,
            self._driver,
            self._plane,
            self._path.attachments,
            self._listeners,
            self.http,
            self._metrics,
            self._outcome_tokens,
            self._own_ports,
        )

    # -- the machine around it --------------------------------------------------------------------------

    async def _follow_interfaces(self) -> None:
        with NetworkChanges() as changes:
            while True:
                await changes.wait(_RESCAN_SECONDS)
                try:
                    self.look_around()
                except OSError as error:  # a device that went while it was looked at
                    self._log.warning("network not followed", error=str(error))

    def look_around(self) -> None:
        """Follows what changed on this machine."""
        self._notice_addresses()
        self._listeners.follow_interfaces()
        self._path.follow_interfaces()

    def _notice_addresses(self) -> None:
        """Tells the peer policy what this machine's own addresses and ports are."""
        addresses, ports = local_addresses(link_local=True), self._own_ports()
        if (addresses, ports) == self._known:
            return
        self._known = addresses, ports
        external = [host.advertised for host in self._hosts]
        self._peers.update_local([*addresses, *external], ports)
        self._plane.forget_admitted()

    def _own_ports(self) -> set[int]:
        """Every port that the relay serves."""
        ports = {*self._listeners.ports, *self._place.other_ports()}
        if self._discovery is not None:
            ports.add(self._discovery.alternate_port)
        http = self._settings.http
        if self.http is not None and self.http.port is not None:
            ports.add(self.http.port)
        elif http is not None:
            ports.add(http.port)  # it will be
        return ports

    def _own_client(self) -> str:
        """A listening address that is also one that a client may come from, for the self-test."""
        hosts = self._listeners.hosts
        return next((host for host in hosts if self._peers.admits_client(host)), hosts[0])
