"""The structured log: text on a terminal, JSON otherwise; no addresses, names or secrets unless asked for."""

import logging
import sys
from contextlib import suppress
from typing import Any, Literal, TextIO

import structlog

from turnrelay.core.events import (
    AllocationCreated,
    AllocationEnded,
    AllocationRefused,
    AuthenticationFailed,
    AuthenticationFailure,
    Event,
    PeerDenied,
)
from turnrelay.observe.libraries import listen_to_libraries

Format = Literal["auto", "text", "json"]

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str, form: Format, stream: TextIO | None = None) -> None:
    """Sets structlog up for the whole process. Level is debug, info, warning or error."""
    stream = stream or sys.stderr
    log: Any = _Undisturbed(stream)
    text = stream.isatty() if form == "auto" else form == "text"
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty())
        if text
        else structlog.processors.JSONRenderer(sort_keys=True)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        # A line is one write, so that lines of several processes do not mix.
        logger_factory=structlog.WriteLoggerFactory(log),
        cache_logger_on_first_use=True,
    )
    listen_to_libraries(with_identities=level == "debug")


class _Undisturbed:
    """A line that cannot be written, since the disk is full or its reader is gone, is lost: nobody else is to
    have trouble with that."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        with suppress(OSError):
            self._stream.write(line)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


class EventLog:
    """Writes the core's events down.

    At the level `info` a line names an allocation by its id and says nothing of who or where. Addresses and
    accounts appear at `debug`, which an operator must ask for.
    """

    def __init__(self, level: str) -> None:
        self._log = structlog.get_logger()
        self._with_identities = level == "debug"
        self._is_silent = _LEVELS[level] > logging.INFO

    def observe(self, event: Event) -> None:
        """Logs one event of the core, if it is worth a line."""
        if self._is_silent:
            return
        match event:
            case AllocationCreated():
                self._log.info(
                    "allocation created",
                    allocation=event.allocation_id,
                    transport=event.path.transport.value,
                    lifetime=event.lifetime,
                    **self._identity(event, relays=[f"{r.host} {r.port}" for r in event.relays]),
                )
            case AllocationEnded():
                self._log.info(
                    "allocation ended",
                    allocation=event.allocation_id,
                    reason=event.reason.value,
                    age=round(event.age, 1),
                    **self._identity(event),
                )
            case AllocationRefused():
                self._log.info(
                    "allocation refused",
                    reason=event.reason.value,
                    code=int(event.code),
                    **self._identity(event),
                )
            case PeerDenied():
                self._log.info(
                    "peer denied",
                    allocation=event.allocation_id,
                    reason=event.rule.value,
                    **self._identity(event),
                )
            case AuthenticationFailed(path, reason, allocation_id):
                if reason in WORTH_A_LINE:
                    more = {} if allocation_id is None else {"allocation": allocation_id}
                    if self._with_identities:
                        more["client"] = path.client.host
                    self._log.info("authentication failed", reason=reason.value, **more)

    def _identity(
        self,
        event: AllocationCreated | AllocationEnded | AllocationRefused | PeerDenied,
        **more: object,
    ) -> dict[str, object]:
        if not self._with_identities:
            return {}
        return {"account": event.account, "client": event.path.client.host, **more}


WORTH_A_LINE = {
    AuthenticationFailure.UNKNOWN_USER,
    AuthenticationFailure.WRONG_PASSWORD,
    AuthenticationFailure.WRONG_USER,
    AuthenticationFailure.BID_DOWN,
}
"""A challenge and a stale nonce are steps of every session, not failures."""
