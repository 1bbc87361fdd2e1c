"""TcpStream: one TCP connection that carries datagrams, each behind its length (RFC 6544 section 3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from stunwire import Rfc4571Framer, TransportAddress, frame_rfc4571

from peerpath.net.addresses import from_socket

_CONGESTED = 256 * 1024
"""Bytes waiting to be sent past which datagrams are dropped, as a full queue of a router does."""
_PROOF_SECONDS = 10.0
"""For a connection of a stranger to turn out to be the peer's."""
_MAX_UNHEARD = 8


class TcpStream(asyncio.Protocol):
    """From `base` to `remote`, None for whoever it turns out to be. One that was accepted has an `is_check`,
    and counts as opened with its first datagram, if that is a check of the peer's; before, it has no part in
    anything."""

    def __init__(
        self,
        base: TransportAddress,
        remote: TransportAddress | None,
        on_open: Callable[[TcpStream], bool],
        on_datagram: Callable[[bytes, TransportAddress, TransportAddress], None],
        on_close: Callable[[TcpStream, str], None],
        is_check: Callable[[bytes], bool] | None,
    ) -> None:
        self.base = base
        self.remote = remote or base
        self.is_accepted = is_check is not None
        self._is_remote_known = remote is not None
        self._on_open = on_open
        self._on_datagram = on_datagram
        self._on_close = on_close
        self._is_check = is_check
        self.is_heard = False
        """Something has come."""
        self.unheard: list[bytes] = []
        """The last datagrams sent before, which nobody else sends again (RFC 6544 section 7.1)."""
        self._framer = Rfc4571Framer()
        self._transport: asyncio.Transport | None = None
        self._proof: asyncio.TimerHandle | None = None

    def send(self, data: bytes) -> None:
        if not self.is_heard:
            self.unheard.append(data)
            del self.unheard[:-_MAX_UNHEARD]
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > _CONGESTED:
            return
        transport.write(frame_rfc4571(data))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- what asyncio calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self.is_accepted:
            self._admit()
            return
        if not self._is_remote_known:
            self.remote = from_socket(transport.get_extra_info("peername"))
        self._proof = asyncio.get_running_loop().call_later(_PROOF_SECONDS, self.close)

    def data_received(self, data: bytes) -> None:
        self.is_heard = True
        for datagram in self._framer.feed(data):
            if self._is_check is not None:
                if not self._is_check(datagram):
                    self.close()
                    return
                self._is_check = None
                self._forget_proof()
                self._admit()
            self._on_datagram(datagram, self.base, self.remote)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_proof()
        self._on_close(self, "the connection was closed" if exc is None else str(exc))

    def _admit(self) -> None:
        if not self._on_open(self):
            self.close()

    def _forget_proof(self) -> None:
        if self._proof is not None:
            self._proof.cancel()
            self._proof = None
