"""The relay put together from its parts. Nothing else imports everything."""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from ipaddress import ip_address

import structlog
from prometheus_client import CollectorRegistry
from stunwire import SecurityFeatures

from turnrelay import __version__
from turnrelay.client_uris import ClientUris
from turnrelay.core.addresses import family_of
from turnrelay.core.behaviour_discovery import ServerAddresses
from turnrelay.core.limits import Limits
from turnrelay.core.nonce import NonceAuthority
from turnrelay.core.server import Server
from turnrelay.http_side import HttpSide, open_http
from turnrelay.observe.log import EventLog, configure
from turnrelay.observe.metrics import Metrics
from turnrelay.operator_side import make_desk, operator_token_place
from turnrelay.policy import user_database
from turnrelay.policy.credentials import SharedSecrets, StaticUsers, UserDatabase, UserDirectory
from turnrelay.policy.errors import OperatorError
from turnrelay.policy.outcome_tokens import OutcomeTokens
from turnrelay.policy.peer_access import PeerAccessPolicy
from turnrelay.policy.secret_file import load_or_create_secret
from turnrelay.relay.hosts import RelayHostError, relay_hosts
from turnrelay.relay.kernel.attachments import Attachments, attach_kernel_plane
from turnrelay.relay.kernel.buckets import KernelBandwidth
from turnrelay.relay.kernel.errors import KernelPlaneUnavailable
from turnrelay.relay.kernel.plane import XdpPlane
from turnrelay.relay.mover import MoverUnavailable, PacketMover
from turnrelay.relay.tcp_relays import TcpRelays
from turnrelay.relay.userspace import UserspacePlane
from turnrelay.relay_parts import RelayParts
from turnrelay.settings import Settings
from turnrelay.settings.tls import Certificate, read_certificate
from turnrelay.transports.driver import Driver
from turnrelay.transports.interfaces import detect_relay_addresses, expand, local_addresses
from turnrelay.transports.listeners import ListenError, Listeners
from turnrelay.transports.tls import TlsContexts
from turnrelay.watch import Watch
from turnrelay.web.health import Readiness
from turnrelay.welcome import Welcome
from turnrelay.workers.link import SupervisorLink
from turnrelay.workers.nursery import Nursery
from turnrelay.workers.place import SUPERVISOR, Alone, Common
from turnrelay.workers.supervisor import Supervisor
from turnrelay.workers.worker import AsWorker, settings_of_worker

_RESCAN_SECONDS = 5.0
_LAST_PORT = 65535
_FIRST_CREDENTIAL_SECONDS = 24 * 3600
_FIRST_CREDENTIAL_NAME = "first-steps"


def run(settings: Settings) -> int:
    """Runs the relay until SIGINT or SIGTERM. The exit status: 0, or 1 with the reason on stderr."""
    configure(settings.log_level, settings.log_format)
    _allow_many_sockets()
    try:
        workers = settings.worker_processes
        if workers > 1:
            _run_several(settings, workers)
        else:
            _run_on_best_loop(_serve(settings, lambda _: Alone(settings)))
    except (OperatorError, RelayHostError, ListenError) as error:
        print(f"turnrelay: {error}", file=sys.stderr)
        return 1
    return 0


def _run_several(settings: Settings, workers: int) -> None:
    """As supervisor of so many workers."""
    # Once for all: what the processes share is laid out by it.
    settings = settings.model_copy(update={"relay_ip": settings.relay_ip or detect_relay_addresses()})
    common = Common(settings, workers)
    nursery = Nursery(partial(_work, common))
    _run_on_best_loop(_serve(settings, partial(Supervisor, common, nursery)))


def _work(common: Common, member: int, channel: socket.socket) -> int:
    """What a worker does, forked off the nursery. The exit status."""
    done: list[int] = []
    _run_on_best_loop(_serve_as_worker(common, member, channel, done.append))
    return done[0]


def _allow_many_sockets() -> None:
    """Every relayed address is a socket, so the soft limit of open files goes up to the hard one."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _collect_garbage_rarely() -> None:
    """A full collection looks at everything that sessions hold, and nothing is relayed meanwhile.

    The core makes no cycles, so there is little to find; what is there from the start stays to the end.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def _run_on_best_loop(main: Coroutine[None, None, None]) -> None:
    try:
        import uvloop
    except ImportError:  # not made for every system
        asyncio.run(main)
    else:
        uvloop.run(main)


async def _serve(settings: Settings, make_place: Callable[[Callable[[], None]], Alone]) -> None:
    stop, lost = asyncio.Event(), asyncio.Event()

    def give_up() -> None:
        lost.set()
        stop.set()

    relay = Relay(settings, make_place(give_up))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, relay.reload_certificate)
    try:
        await relay.start()
        _collect_garbage_rarely()
        print(relay.welcome().render(), flush=True)
        await stop.wait()
    finally:
        await relay.stop()
    if lost.is_set():
        raise OperatorError("the process that starts workers is gone; start the relay again")


async def _serve_as_worker(
    common: Common, member: int, channel: socket.socket, done: Callable[[int], None]
) -> None:
    """Until the supervisor says so, or is gone; it hears why a worker cannot serve."""
    link = SupervisorLink(channel)
    try:
        await link.wait_for_sockets()
        relay = Relay(settings_of_worker(common.settings), AsWorker(common, member, link))
    except (OperatorError, RelayHostError, OSError) as error:
        link.tell_unfit(str(error))
        done(1)
        return
    link.on_sockets, link.on_reload = relay.look_around, relay.reload_certificate
    try:
        await relay.start()
        link.on_question = make_desk(relay.parts()).answer
        _collect_garbage_rarely()
        link.tell_ready()
        reporting = asyncio.create_task(link.report(relay.registry))
        await link.stop.wait()
        reporting.cancel()
    except (OperatorError, ListenError) as error:
        link.tell_unfit(str(error))
        done(1)
    else:
        done(0)
    finally:
        await relay.stop()


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
        self._discovery = self._behaviour_discovery()
        self._peers = PeerAccessPolicy(allow=settings.allow_peer, deny=settings.deny_peer)
        self._kernel = self._load_kernel_plane()
        self._plane_name = "userspace" if self._kernel is None else "xdp"
        self._mover = self._make_mover()
        self._mover_name = "python" if self._mover is None else "c"
        self._metrics = Metrics(__version__, self._plane_name, self._mover_name)
        self._readiness = Readiness(lambda: place.is_ready)
        self._certificate: Certificate | None = None
        self._tls = self._tls_contexts()
        self._driver = Driver(
            self._server(directory),
            directory,
            asyncio.get_running_loop(),
            time.monotonic,
            time.time,
            self._watch.observers(self._metrics.observe, EventLog(settings.log_level).observe),
            self._metrics.answered,
            self._mover,
        )
        self._plane = self._make_plane()
        self._driver.use_plane(self._plane)
        self._listeners = self._make_listeners()
        self._uris = ClientUris(self._hosts, self._listeners, lambda: self._certificate)
        self.http: HttpSide | None = None
        self._following: asyncio.Task[None] | None = None
        self._known: tuple[list[str], set[int]] = [], set()

    async def start(self) -> None:
        """Listens and gets ready; OperatorError or ListenError names what is in the way."""
        self._listeners.open()
        self._metrics.watch(self._driver.server, self._plane, self._listeners, lambda: self._readiness.ready)
        self.http = await open_http(self.parts())
        self._notice_addresses()
        await self._place.start_others(self._metrics, self._own_ports)
        self._following = asyncio.create_task(self._follow_interfaces())
        self._readiness.takes_clients = True
        self._watch.start(self._metrics.health, (self._own_client(), self._listeners.port), self._families)
        if self._place.member == SUPERVISOR:
            self._log.info(
                "relay started", version=__version__, plane=self._plane_name, mover=self._mover_name
            )

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
        if self._kernel is not None:
            self._kernel.close()
        if self._mover is not None:
            self._mover.close()
        if was_ready and self._place.member == SUPERVISOR:
            self._log.info("relay stopped")

    @property
    def registry(self) -> CollectorRegistry:
        """The metrics of this process."""
        return self._metrics.registry

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
            http=self.http.authority if self.http is not None else None,
            tunnels=self._uris.tunnels() if settings.tunnel == "on" else [],
            operator_token=operator_token_place(settings),
            data_dir=str(settings.data_dir),
            plane=self._plane_name,
        )

    def reload_certificate(self) -> None:
        """Reads the certificate again, for new connections; a bad one leaves the old one in use."""
        try:
            # A context of its own: loading into the one in use would change it even where it fails.
            tls = self._tls_contexts()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self._log.error("certificate not reloaded, the old one stays in use", error=str(error))
            return
        if tls is not None:
            self._tls = tls
            self._listeners.use_tls(tls)
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
            peers=self._place.peers(self._peers),
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
        )

    def _load_kernel_plane(self) -> Attachments | None:
        """The programs of the kernel plane on this machine's interfaces, None if userspace carries all."""
        settings = self._settings
        if settings.plane == "userspace" or settings.worker_processes > 1:
            return None
        limited = settings.limits.bandwidth_per_allocation or settings.limits.bandwidth_per_user
        try:
            return attach_kernel_plane(self._plane_addresses(), limited=bool(limited))
        except KernelPlaneUnavailable as reason:
            if settings.plane == "xdp":
                raise OperatorError(f"--plane xdp: {reason}") from reason
            self._log.info("userspace relays, the kernel plane is not to be had", reason=str(reason))
            return None

    def _make_mover(self) -> PacketMover | None:
        """What moves packets in userspace besides Python, None for nothing."""
        if self._settings.mover == "python":
            return None
        try:
            return PacketMover(asyncio.get_running_loop(), time.monotonic)
        except MoverUnavailable as reason:
            if self._settings.mover == "c":
                raise OperatorError(f"--mover c: {reason}") from reason
            self._log.info("packets are moved by Python alone", reason=str(reason))
            return None

    def _plane_addresses(self) -> list[str]:
        """Where packets of clients and peers come in."""
        return [*(host.local for host in self._hosts), *expand(self._settings.listen)]

    def _make_plane(self) -> UserspacePlane | XdpPlane:
        bandwidth = self._place.bandwidth()
        if self._kernel is not None:
            bandwidth = KernelBandwidth(bandwidth, self._kernel.kernel.buckets, time.monotonic)
        loop, pools = asyncio.get_running_loop(), {host: self._place.port_pool(host) for host in self._hosts}
        tcp = None
        if self._settings.tcp_relay == "on":
            tcp = TcpRelays(loop, pools, bandwidth, time.monotonic, self._driver)
            self._driver.use_tcp_relays(tcp)
        userspace = UserspacePlane(
            loop,
            self._hosts,
            pools.__getitem__,
            bandwidth,
            self._driver,
            time.monotonic,
            self._mover,
            self._place.neighbours,
            tcp,
        )
        return userspace if self._kernel is None else XdpPlane(self._kernel, userspace)

    def _tls_contexts(self) -> TlsContexts | None:
        if self._settings.tls is None:
            return None
        contexts, certificate = TlsContexts.load(*self._settings.tls), read_certificate(self._settings.tls[0])
        self._certificate = certificate
        self._metrics.health.certificate(certificate.not_after)
        return contexts

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
            self._tls,
            self._place.connection_limits(),
            limits.tcp_idle_seconds,
            [] if discovery is None else discovery.alternate_port_addresses(),
        )

    def _behaviour_discovery(self) -> ServerAddresses | None:
        settings, alternate = self._settings, self._settings.alternate_ip
        if alternate is None:
            return None
        family = family_of(alternate)
        candidates = [*settings.listen, *(host.local for host in self._hosts)]
        others = [
            host
            for host in candidates
            if family_of(host) is family and host != alternate and not ip_address(host).is_unspecified
        ]
        if not others or not 0 < settings.port < _LAST_PORT:
            raise OperatorError(
                f"--alternate-ip {alternate}: NAT behaviour discovery needs a first address of the same "
                "family beside it (--listen ADDR or --relay-ip ADDR) and a port below 65535"
            )
        advertised = {host.local: host.advertised for host in self._hosts}
        return ServerAddresses(others[0], alternate, settings.port, settings.port + 1, advertised)

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
            self._plane_name,
            self._hosts,
            self._uris.turn,
            lambda: self._certificate,
            self._place.ask_others,
        )

    # -- the machine around it --------------------------------------------------------------------------

    async def _follow_interfaces(self) -> None:
        while True:
            await asyncio.sleep(_RESCAN_SECONDS)
            self.look_around()

    def look_around(self) -> None:
        """Follows what changed on this machine."""
        self._notice_addresses()
        self._listeners.follow_interfaces()

    def _notice_addresses(self) -> None:
        """Tells the peer policy what this machine's own addresses and ports are."""
        addresses, ports = local_addresses(link_local=True), self._own_ports()
        if (addresses, ports) == self._known:
            return
        self._known = addresses, ports
        external = [host.advertised for host in self._hosts]
        self._peers.update_local([*addresses, *external], ports)

    def _own_ports(self) -> set[int]:
        """Every port that the relay serves."""
        ports = {*self._listeners.ports, *self._place.other_ports()}
        if self._discovery is not None:
            ports.add(self._discovery.alternate_port)
        if self.http is not None and self.http.port is not None:
            ports.add(self.http.port)
        return ports

    def _own_client(self) -> str:
        """A listening address that is also one that a client may come from, for the self-test."""
        hosts = self._listeners.hosts
        return next((host for host in hosts if self._peers.admits_client(host)), hosts[0])
