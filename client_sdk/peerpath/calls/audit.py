"""Who was called or has called, by which way, with which result: one event for each attempt and its end."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from peerpath.connection import Path as ConnectionPath
from peerpath.identity import PublicKey

_ADDRESS = re.compile(
    r"\b[a-z]+://\S+"  # a server
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?:[: ]\d+)?\b"
    r"|(?<![\w:])\[?(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?:%\w+)?(?:\](?::\d+)?)?",
    re.IGNORECASE,
)


class AuditResult(StrEnum):
    CONNECTED = "connected"
    FAILED = "failed"
    REFUSED = "refused"
    """By the policy: this side's, or the peer's."""
    LIMITED = "limited"
    """The peer made too many attempts."""
    REJECTED = "rejected"
    """What came was not what the peer's key signed, or was there before."""
    CLOSED = "closed"
    """The connection has ended."""
    CANCELLED = "cancelled"
    """The application did not want to wait any more."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One attempt, or the end of a connection. It names no address unless the application asks for them."""

    at: float
    """Seconds since 1970."""
    direction: str
    """"dialed" or "answered"."""
    peer: PublicKey | None
    """None where nobody has proven to be anybody."""
    result: AuditResult
    method: str
    """The kind of path, as in `Path.kind`; "none" without one."""
    seconds: float
    """How long the attempt took, or the connection lasted."""
    reason: str = ""
    local: str = ""
    remote: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "at": round(self.at, 3),
            "direction": self.direction,
            "peer": None if self.peer is None else str(self.peer),
            "result": self.result.value,
            "method": self.method,
            "seconds": round(self.seconds, 3),
            "reason": self.reason,
            **({"local": self.local, "remote": self.remote} if self.local or self.remote else {}),
        }


OnAudit = Callable[[AuditEvent], None]


class AuditFile:
    """Appends each event to a file of JSON lines, mode 0600: `Traversal(..., audit=AuditFile("audit.log"))`.

    The file is opened for each event, so that it may be renamed and taken away at any time.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __call__(self, event: AuditEvent) -> None:
        line = json.dumps(event.as_json(), ensure_ascii=False) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(line)


class AuditLog:
    """Hands events to the application. A mistake in its callback is its own and stops no connection."""

    def __init__(
        self, tell: OnAudit | None, *, addresses: bool, on_error: Callable[[Exception], None]
    ) -> None:
        self._tell = tell
        self._addresses = addresses
        self._on_error = on_error

    def write(
        self,
        direction: str,
        peer: PublicKey | None,
        result: AuditResult,
        *,
        path: ConnectionPath | None = None,
        seconds: float = 0.0,
        reason: str = "",
    ) -> None:
        """`path` is the one in use, if there is one: its kind is the method."""
        if self._tell is None:
            return
        method, local, remote = "none", "", ""
        if path is not None:
            method, local, remote = path.kind.value, path.local, path.remote
        if not self._addresses:
            local = remote = ""
            reason = _without_addresses(reason)
        event = AuditEvent(time.time(), direction, peer, result, method, seconds, reason, local, remote)
        try:
            self._tell(event)
        except Exception as error:
            self._on_error(error)


def _without_addresses(reason: str) -> str:
    """Reasons are made for people, and may name the server or the path that failed."""
    return _ADDRESS.sub("(address left out)", reason)
