"""PeerStream: the TCP connection of a peer, once it is joined to a client's (RFC 6062 section 5.5)."""

import asyncio
import socket
from collections.abc import Callable

from turnrelay.relay.splice import Splice

_READ_BYTES = 65_536
_CONGESTED_BYTES = 262_144
"""Bytes that a peer may lag behind before the client has to wait."""
_LINGER_SECONDS = 30.0


class PeerStream:
    """Reads from the moment it is carried; tells `gone` once when the peer's end is over."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, gone: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._gone = gone
        self._unsent = bytearray()
        self._ending = False
        """Nothing more will be written."""
        self._finishing = False
        self._closed = False
        self._linger: asyncio.TimerHandle | None = None
        self._splice: Splice | None = None

    def carry(self, splice: Splice) -> None:
        self._splice = splice
        self.resume_reading()

    # -- StreamEnd --------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._closed:
            return
        if not self._unsent:
            try:
                data = data[self._sock.send(data) :]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self.abort()
                return
            if not data:
                return
            self._loop.add_writer(self._sock, self._writable)
        self._unsent += data
        if len(self._unsent) > _CONGESTED_BYTES and self._splice is not None:
            self._splice.to_peer.set_congested(True)

    def pause_reading(self) -> None:
        if not self._closed:
            self._loop.remove_reader(self._sock)

    def resume_reading(self) -> None:
        if not self._closed and not self._finishing:
            self._loop.add_reader(self._sock, self._readable)

    def end_writing(self) -> bool:
        self._ending = True
        if not self._closed and not self._unsent:
            self._shut_writing()
        return True

    def finish(self) -> None:
        if self._closed or self._finishing:
            return
        self._finishing = True
        self._loop.remove_reader(self._sock)
        if self._unsent:
            self._linger = self._loop.call_later(_LINGER_SECONDS, self.abort)
        else:
            self.abort()

    # -- the socket -------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Closes now."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        if self._linger is not None:
            self._linger.cancel()
        self._sock.close()
        self._gone()

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        if self._splice is None:
            return
        if data:
            self._splice.to_client.feed(data)
        else:
            self._splice.to_client.source_ended()

    def _writable(self) -> None:
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        if self._unsent:
            return
        self._loop.remove_writer(self._sock)
        if self._finishing:
            self.abort()
        elif self._ending:
            self._shut_writing()
        elif self._splice is not None:
            self._splice.to_peer.set_congested(False)

    def _shut_writing(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()
