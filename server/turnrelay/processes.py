"""The processes of a relay, one alone or a supervisor with its workers: their loop, signals, and end."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from functools import partial

from turnrelay.app import Relay
from turnrelay.as_worker import collect_garbage_rarely, serve_as_worker
from turnrelay.data_path import load_kernel_plane
from turnrelay.departure import Departure
from turnrelay.handover.successor import Successor
from turnrelay.observe.log import configure
from turnrelay.observe.service_manager import tell_service_manager
from turnrelay.pid_file import PidFile
from turnrelay.policy.errors import OperatorError
from turnrelay.relay.hosts import RelayHostError, relay_hosts
from turnrelay.settings import Settings
from turnrelay.succession import Succession, take_over
from turnrelay.transports.interfaces import detect_relay_addresses
from turnrelay.transports.listeners import ListenError
from turnrelay.workers.nursery import Nursery
from turnrelay.workers.place import Alone, Common, Legacy
from turnrelay.workers.supervisor import Supervisor


def run(settings: Settings) -> int:
    """Runs the relay until SIGINT, or SIGTERM and the end of its allocations. The exit status: 0, or 1 with
    the reason on stderr."""
    configure(settings.log_level, settings.log_format)
    _allow_many_sockets()
    successor = None
    try:
        successor = Successor.from_environment()
        workers = settings.worker_processes
        legacy = None if successor is None else successor.receive_offer(workers)
        if workers > 1:
            _run_several(settings, workers, successor, legacy)
        else:
            _run_on_best_loop(_serve(settings, lambda _: Alone(settings, legacy), successor))
    except (OperatorError, RelayHostError, ListenError) as error:
        with contextlib.suppress(OSError):
            print(f"turnrelay: {error}", file=sys.stderr)
        if successor is not None:
            successor.tell_failed(str(error))
        return 1
    return 0


def _run_several(
    settings: Settings, workers: int, successor: Successor | None, legacy: Legacy | None
) -> None:
    """As supervisor of so many workers."""
    # Once for all: what the processes share is laid out by it.
    settings = settings.model_copy(update={"relay_ip": settings.relay_ip or detect_relay_addresses()})
    hosts = relay_hosts(settings.relay_ip, [str(mapping) for mapping in settings.external_ip])
    kernel = load_kernel_plane(settings, hosts, [] if legacy is None else legacy.devices)
    common = Common(settings, workers, kernel, legacy)
    work = partial(_work, common)
    nursery = Nursery(work) if successor is None else Nursery(work, successor.close_in_nursery)
    _run_on_best_loop(_serve(settings, partial(Supervisor, common, nursery), successor))


def _work(common: Common, member: int, channel: socket.socket) -> int:
    """What a worker does, forked off the nursery. The exit status."""
    done: list[int] = []
    _run_on_best_loop(serve_as_worker(common, member, channel, done.append))
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


def _show(text: str) -> None:
    """On standard output. Where that is full or closed, the relay serves all the same."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def _run_on_best_loop(main: Coroutine[None, None, None]) -> None:
    try:
        import uvloop
    except ImportError:  # not made for every system
        asyncio.run(main)
    else:
        uvloop.run(main)


async def _serve(
    settings: Settings,
    make_place: Callable[[Callable[[], None]], Alone],
    predecessor: Successor | None = None,
) -> None:
    lost = asyncio.Event()

    def give_up() -> None:
        lost.set()
        departure.stop()

    relay = Relay(settings, make_place(give_up))
    departure = Departure(relay.drain, settings.drain_timeout)
    succession = Succession(relay, settings, departure)
    loop = asyncio.get_running_loop()
    pid_file: PidFile | None = None
    loop.add_signal_handler(signal.SIGHUP, relay.reload_certificate)
    loop.add_signal_handler(signal.SIGUSR2, succession.upgrade)
    try:
        if predecessor is None:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, departure.stop)
            await relay.start()
        else:
            # Whoever ends it before it serves leaves the predecessor as it was.
            await take_over(relay, predecessor, settings)
            loop.add_signal_handler(signal.SIGINT, departure.stop)
        loop.add_signal_handler(signal.SIGTERM, departure.leave)
        if predecessor is not None and predecessor.pid_file is not None:
            pid_file = PidFile(predecessor.pid_file, relay.http_authority)
        else:
            pid_file = await PidFile.take(settings.data_dir, relay.http_authority)
        if predecessor is None:
            _show(relay.welcome().render())
        tell_service_manager("READY=1")
        succession.begin(pid_file)
        collect_garbage_rarely()
        await departure.over.wait()
    finally:
        succession.close()
        departure.close()
        await relay.stop()
        if pid_file is not None:
            pid_file.close()
    if lost.is_set():
        raise OperatorError(
            "a worker is gone, and so is everything that starts workers; start the relay again"
        )
