"""Connection: a WebSocket whose end never takes long."""

import asyncio

from aiohttp import WSMessage, web
from stunwire.rendezvous import HEARTBEAT_SECONDS, MAX_FRAME_BYTES, SUBPROTOCOL, CloseCode

_CLOSE_SECONDS = 2.0
_WRITE_BUFFER_BYTES = 64 * 1024
_MAX_REASON_BYTES = 123  # RFC 6455 section 5.5


class Connection:
    """One client's WebSocket, from before its upgrade on."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._socket = web.WebSocketResponse(
            timeout=_CLOSE_SECONDS,
            heartbeat=HEARTBEAT_SECONDS,
            protocols=(SUBPROTOCOL,),
            # Sealed messages do not get smaller, and what inflates would have to be bounded again.
            compress=False,
            max_msg_size=MAX_FRAME_BYTES + 1,  # the least that is refused, in aiohttp's count
            writer_limit=_WRITE_BUFFER_BYTES,
        )

    @property
    def speaks_our_protocol(self) -> bool:
        """Whether the request asks for a WebSocket with our subprotocol."""
        try:
            return self._socket.can_prepare(self._request).protocol == SUBPROTOCOL
        except ValueError:  # a Sec-WebSocket-Key that is no ASCII
            return False

    async def upgrade(self) -> web.WebSocketResponse:
        """Makes it a WebSocket; what the route has to return in the end."""
        await self._socket.prepare(self._request)
        return self._socket

    async def send(self, frame: bytes) -> None:
        """Writes a frame, waiting while the client does not read; ConnectionError if it has gone."""
        await self._socket.send_bytes(frame)

    async def receive(self) -> WSMessage:
        """The next message, of type CLOSE, CLOSING, CLOSED or ERROR when there are no more."""
        return await self._socket.receive()

    async def close(self, code: CloseCode, reason: str) -> None:
        """Says why, and ends it, with or without the client's agreement."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._socket.close(code=code, message=reason.encode()[:_MAX_REASON_BYTES])
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Ends it without a word."""
        if self._request.transport is not None:
            self._request.transport.abort()
