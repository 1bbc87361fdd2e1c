"""RendezvousLink: one registered WebSocket, from its handshake to its end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Self

from stunwire import DecodeError
from stunwire.rendezvous import (
    HANDSHAKE_SECONDS,
    HEARTBEAT_SECONDS,
    MAX_FRAME_BYTES,
    MAX_NUMBER,
    SUBPROTOCOL,
    Challenge,
    CloseCode,
    From,
    Register,
    Registered,
    Result,
    ResultOf,
    ServerFrame,
    To,
    decode_from_server,
    registration_transcript,
)
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol
from yarl import URL

from peerpath.errors import PeerpathError
from peerpath.identity import Identity, PublicKey
from peerpath.net.dialing import Dial, Dialed
from peerpath.net.waits import Waits, within
from peerpath.net.words import in_words

Receive = Callable[[PublicKey, bytes], None]

_CLOSE_SECONDS = 1.0

_REFUSALS = {
    CloseCode.BAD_SIGNATURE: "does not accept the proof of this identity: is the URL the server's own name",
    CloseCode.REPLACED: "has newer devices of this identity, and keeps no more than four",
    CloseCode.GOING_AWAY: "is going away",
}


class RendezvousError(PeerpathError):
    """The rendezvous server is not reached, refuses, or cannot deliver: the message says which."""


class LinkLost(RendezvousError):
    """The connection ended. `replaced` if because newer devices of the same identity took its place."""

    def __init__(self, message: str, *, replaced: bool = False) -> None:
        super().__init__(message)
        self.replaced = replaced


class RendezvousLink:
    """`connect` makes it, `run` reads until the link is lost, while `deliver` sends, `close` ends it."""

    def __init__(self, url: URL, socket: ClientConnection) -> None:
        self._url = url
        self._socket = socket
        self.round_trip = 0.0
        """Seconds that the registration took: to the server, through its hands, and back."""
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Result]] = {}
        self._lost = self._abandoned = False
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls,
        url: URL,
        identity: Identity,
        tls: ssl.SSLContext | None,
        dial: Dial,
    ) -> Self:
        """Connects and registers; RendezvousError says why not. How long `dial` takes is its own affair."""
        assert url.host is not None
        assert url.port is not None
        try:
            dialed = await dial(url.host, url.port)
            async with within(Waits(answer=HANDSHAKE_SECONDS).for_answer(dialed.round_trip), "answer"):
                link = cls(url, await _open(url, tls, dialed))
                try:
                    await link._register(identity)
                except BaseException:
                    link._socket.transport.abort()
                    raise
                return link
        except TimeoutError as error:
            raise RendezvousError(f"{url}: {error}; is there a relay with a rendezvous?") from error
        except InvalidStatus as error:
            status = error.response.status_code
            reason = _REFUSED.get(status, f"answers with HTTP status {status}")
            raise RendezvousError(f"{url}: {reason}") from error
        except RendezvousError:
            raise
        except (PeerpathError, WebSocketException, OSError, UnicodeError) as error:
            reason = in_words(error) if isinstance(error, OSError | UnicodeError) else str(error)
            raise RendezvousError(f"{url}: cannot be reached: {reason}") from error

    async def run(self, receive: Receive) -> None:
        """Hands every message with its sender's key to `receive`; LinkLost when the connection ends."""
        self._reading = asyncio.ensure_future(self._read(receive))
        try:
            await self._reading
        except asyncio.CancelledError:
            if self._abandoned:
                raise LinkLost(f"{self._url}: does not answer any more") from None
            raise
        finally:
            self._lost = True
            self._reading.cancel()
            for waiting in self._waiting.values():
                waiting.cancel()

    async def _read(self, receive: Receive) -> None:
        while True:
            match await self._next():
                case From(key, message):
                    receive(PublicKey(key), message)
                case ResultOf(number, result):
                    waiting = self._waiting.pop(number, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(result)
                case frame:
                    raise LinkLost(f"{self._url}: sent a {type(frame).__name__} out of turn")

    async def deliver(self, peer: PublicKey, message: bytes) -> Result:
        """Sends a message and waits for its result; LinkLost if the connection ends first."""
        waiting: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._number = (self._number + 1) & MAX_NUMBER
        number = self._number
        self._waiting[number] = waiting
        try:
            await self._socket.send(To(number, peer.raw, message).encode())
            if not self._lost:
                await asyncio.wait((waiting,))
        except ConnectionClosed as error:
            raise LinkLost(f"{self._url}: the connection was lost: {error}") from error
        finally:
            self._waiting.pop(number, None)
        if self._lost or waiting.cancelled():
            raise LinkLost(f"{self._url}: the connection was lost")
        return waiting.result()

    def abandon(self) -> None:
        """The server is silent: ends the connection without a farewell that nobody would answer."""
        self._lost = self._abandoned = True
        if self._reading is not None:
            self._reading.cancel()

    async def close(self) -> None:
        """Ends the connection."""
        if self._abandoned:
            self._socket.transport.abort()
        else:
            await self._socket.close()

    async def _register(self, identity: Identity) -> None:
        challenge = await self._next()
        if not isinstance(challenge, Challenge):
            raise RendezvousError(f"{self._url}: is no rendezvous, it began with something else")
        transcript = registration_transcript(challenge.nonce, self._url.host_port_subcomponent or "")
        began = asyncio.get_running_loop().time()
        try:
            await self._socket.send(Register(identity.public_key.raw, identity.sign(transcript)).encode())
        except ConnectionClosed as error:
            raise self._ended(error) from error
        if not isinstance(await self._next(), Registered):
            raise RendezvousError(f"{self._url}: did not confirm the registration")
        self.round_trip = asyncio.get_running_loop().time() - began

    async def _next(self) -> ServerFrame:
        try:
            data = await self._socket.recv()
        except ConnectionClosed as error:
            raise self._ended(error) from error
        if isinstance(data, str):
            raise LinkLost(f"{self._url}: sent text, frames are binary")
        try:
            return decode_from_server(data)
        except DecodeError as error:
            raise LinkLost(f"{self._url}: sent what is no frame: {error}") from error

    def _ended(self, error: ConnectionClosed) -> LinkLost:
        code, text = (None, "") if error.rcvd is None else (error.rcvd.code, error.rcvd.reason)
        reason = _REFUSALS.get(CloseCode(code)) if code in list(CloseCode) else None
        said = f" ({text})" if text else ""
        return LinkLost(
            f"{self._url}: {reason or 'ended the connection'}{said}", replaced=code == CloseCode.REPLACED
        )


class _Connect(connect_websocket):
    """Follows no redirect: the proof of identity is for the server that the URL names, and no other."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def _open(url: URL, tls: ssl.SSLContext | None, dialed: Dialed) -> ClientConnection:
    """The WebSocket. WebSocketException or OSError where there is none."""
    secure: dict[str, Any] = {}
    if url.scheme == "wss":
        if tls is None:
            tls = ssl.create_default_context()
            tls.set_alpn_protocols(["http/1.1"])
        secure = {"ssl": tls, "server_hostname": url.host}
    try:
        return await _Connect(
            str(url),
            sock=dialed.sock,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            user_agent_header=None,
            open_timeout=None,
            close_timeout=_CLOSE_SECONDS,
            ping_interval=HEARTBEAT_SECONDS,
            ping_timeout=HEARTBEAT_SECONDS / 2,
            max_size=MAX_FRAME_BYTES,
            **secure,
        )
    except BaseException:
        dialed.sock.close()
        raise


_REFUSED = {
    400: "is no rendezvous of the version that this program speaks",
    404: "has no rendezvous: it is off, or the path is another",
    421: "does not know itself by this name; its operator can add it with --rendezvous-host",
    429: "gets too much from this network, try again later",
    503: "takes no more connections from this network, try again later",
}
