"""A TCP or TLS connection that carries STUN messages and ChannelData, or anything else that is framed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from stunwire import TransportAddress

from peerpath.net.dialing import Dialed, dial
from peerpath.net.framings import Framing, FramingBroken, StunFraming
from peerpath.net.waits import Waits, within

_CONGESTED = 256 * 1024
"""Bytes waiting to be sent past which datagrams are better dropped than delayed."""
_UNREAD = 1024 * 1024
"""Bytes of answers that a server does not read, though it goes on asking, past which it is given up."""


class FrameStream(asyncio.Protocol):
    """Hands over whole frames. `on_closed` is told why the connection ended, once; None: we closed it."""

    def __init__(
        self,
        on_frame: Callable[[bytes], None],
        on_closed: Callable[[str], None],
        framing: Framing | None = None,
    ) -> None:
        self._on_frame = on_frame
        self._on_closed: Callable[[str], None] | None = on_closed
        self._framing = framing or StunFraming()
        self._transport: asyncio.Transport | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._dialed: Dialed | None = None

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
        dialed: Dialed | None = None,
        framing: Framing | None = None,
        waits: Waits | None = None,
    ) -> FrameStream:
        """OSError when nobody is there, ssl.SSLError when the certificate is not that of `server_name`.

        With `dialed`, which is connected, it is `address` already that one gets to. Returns when `framing` is
        open: ConnectionError where the server does not agree to it. TimeoutError names the step that was not
        done in time.
        """
        loop = asyncio.get_running_loop()
        waits = waits or Waits()
        server_name = server_name if tls is not None else None
        stream = cls(on_frame, on_closed, framing)
        if dialed is None:
            dialed = await dial(address, waits, local_host)
        stream._dialed = dialed
        limit = waits.for_answer(dialed.round_trip)
        try:
            async with within(limit, "TLS handshake"):
                await loop.create_connection(
                    lambda: stream, sock=dialed.sock, ssl=tls, server_hostname=server_name
                )
        except BaseException:
            dialed.sock.close()
            raise
        try:
            async with within(limit, "agreement to a WebSocket"):
                await stream._opened
        except BaseException:
            stream.close()
            raise
        return stream

    @property
    def local(self) -> TransportAddress:
        """This side of the connection, or of that to the proxy."""
        assert self._dialed is not None
        return self._dialed.local

    @property
    def round_trip(self) -> float:
        """What one took when the connection was made, in seconds."""
        assert self._dialed is not None
        return self._dialed.round_trip

    @property
    def congested(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() > _CONGESTED

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing() and self._framing.is_open:
            self._transport.write(self._framing.wrap(data))

    def close(self) -> None:
        self._on_closed = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._framing.end())
            self._transport.close()

    # -- what asyncio calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._framing.begin())
        self._settle()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        try:
            frames = self._framing.feed(data)
        except FramingBroken as error:
            self._end(str(error))
            return
        self._transport.write(self._framing.pending())
        if self._transport.get_write_buffer_size() > _UNREAD:
            self._end("the server asks on and on, and reads no answers")
            return
        self._settle()
        for frame in frames:
            self._on_frame(frame)

    def eof_received(self) -> None:
        try:
            self._framing.feed_eof()
        except FramingBroken as error:
            self._end(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("the server closed the connection" if exc is None else str(exc))

    def _end(self, reason: str) -> None:
        on_closed, self._on_closed = self._on_closed, None
        if not self._opened.done():
            # Whoever waits for it is told so, and nobody else.
            self._opened.set_exception(ConnectionError(reason))
            self._opened.exception()  # asyncio complains of those that nobody looks at
            on_closed = None
        if self._transport is not None:
            self._transport.abort()
        if on_closed is not None:
            on_closed(reason)

    def _settle(self) -> None:
        if self._framing.is_open and not self._opened.done():
            self._opened.set_result(None)
