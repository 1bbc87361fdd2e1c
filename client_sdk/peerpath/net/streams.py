"""A TCP or TLS connection that carries STUN messages and ChannelData (RFC 8489 section 6.2.2)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from stunwire import DecodeError, StreamFramer, TransportAddress

from peerpath.net.addresses import family_of, from_socket, to_socket

_CONGESTED = 256 * 1024
"""Bytes waiting to be sent past which datagrams are better dropped than delayed."""


class FrameStream(asyncio.Protocol):
    """Hands over whole frames. `on_closed` is told why the connection ended, once; None: we closed it."""

    def __init__(self, on_frame: Callable[[bytes], None], on_closed: Callable[[str], None]) -> None:
        self._on_frame = on_frame
        self._on_closed: Callable[[str], None] | None = on_closed
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(
        cls,
        address: TransportAddress,
        on_frame: Callable[[bytes], None],
        on_closed: Callable[[str], None],
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        local_host: str | None = None,
    ) -> FrameStream:
        """OSError when nobody is there, ssl.SSLError when the certificate is not that of `server_name`."""
        loop = asyncio.get_running_loop()
        host, port = to_socket(address)[:2]
        _, protocol = await loop.create_connection(
            lambda: cls(on_frame, on_closed),
            host,
            port,
            family=family_of(address.host),
            ssl=tls,
            server_hostname=server_name if tls is not None else None,
            local_addr=(local_host, 0) if local_host is not None else None,
        )
        return protocol

    @property
    def local(self) -> TransportAddress:
        assert self._transport is not None
        return from_socket(self._transport.get_extra_info("sockname"))

    @property
    def congested(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() > _CONGESTED

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self._on_closed = None
        if self._transport is not None:
            self._transport.close()

    # -- what asyncio calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._framer.feed(data)
        except DecodeError as error:
            self._end(f"what the server sends is not STUN ({error})")
            return
        for frame in frames:
            self._on_frame(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("the server closed the connection" if exc is None else str(exc))

    def _end(self, reason: str) -> None:
        on_closed, self._on_closed = self._on_closed, None
        if self._transport is not None:
            self._transport.abort()
        if on_closed is not None:
            on_closed(reason)
