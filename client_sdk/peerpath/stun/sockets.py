"""StunSocket: carries BindingRequests over UDP. `ask_over_stream` does the same over TCP and TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from stunwire import TransportAddress

from peerpath.errors import ServerError
from peerpath.net.addresses import join_host_port
from peerpath.net.alarm import Alarm
from peerpath.net.datagrams import DatagramSocket
from peerpath.net.streams import FrameStream
from peerpath.stun.binding import (
    BindingAnswer,
    BindingFailure,
    BindingOptions,
    BindingRequests,
    Output,
    Send,
)


class BindingFailed(ServerError):
    """A server did not say what was asked; `failure` is what it did."""

    def __init__(self, server: str, failure: BindingFailure) -> None:
        super().__init__(server, failure.reason)
        self.failure = failure


class _Carrier:
    """The part that UDP and streams share: futures for tickets, and one timer."""

    def __init__(self, requests: BindingRequests, send: Callable[[bytes, TransportAddress], None]) -> None:
        self._requests = requests
        self._send = send
        self._waiting: dict[bytes, asyncio.Future[BindingAnswer | BindingFailure]] = {}
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, self._on_time)

    async def ask(
        self, server: TransportAddress, options: BindingOptions | None
    ) -> BindingAnswer | BindingFailure:
        ticket, outputs = self._requests.ask(server, self._loop.time(), options)
        answer: asyncio.Future[BindingAnswer | BindingFailure] = self._loop.create_future()
        self._waiting[ticket] = answer
        try:
            self._carry_out(outputs)
            return await answer
        finally:
            self._requests.cancel(ticket)
            self._waiting.pop(ticket, None)
            self._arm()

    def received(self, data: bytes, source: TransportAddress) -> None:
        self._carry_out(self._requests.receive(data, source, self._loop.time()))

    def fail(self, reason: str) -> None:
        """Nothing will come any more."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result(BindingFailure(reason))

    def _on_time(self) -> None:
        self._carry_out(self._requests.handle_timeout(self._loop.time()))

    def _carry_out(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self._send(output.data, output.to)
                continue
            answer = self._waiting.get(output.ticket)
            if answer is not None and not answer.done():
                answer.set_result(output.result)
        self._arm()

    def _arm(self) -> None:
        self._alarm.set(self._requests.next_deadline())


class StunSocket:
    """A UDP socket that asks STUN servers, several at a time; what else comes goes to `on_datagram`."""

    def __init__(self, datagrams: DatagramSocket) -> None:
        self._datagrams = datagrams
        self._carrier = _Carrier(BindingRequests(), datagrams.send)
        datagrams.on_datagram = self._received
        self.on_datagram: Callable[[bytes, TransportAddress], None] | None = None
        self.latest: BindingAnswer | None = None
        """What was last learned about this socket."""

    @classmethod
    async def open(cls, local: tuple[str, int]) -> StunSocket:
        """Bound to `local`, port 0 for any. OSError as of `bind`."""
        return cls(await DatagramSocket.open(local))

    @property
    def local(self) -> TransportAddress:
        return self._datagrams.local

    async def ask(
        self, server: TransportAddress, options: BindingOptions | None = None
    ) -> BindingAnswer | BindingFailure:
        """One Binding request with its retransmissions: up to 39.5 s for a server that does not answer."""
        result = await self._carrier.ask(server, options)
        if isinstance(result, BindingAnswer):
            self.latest = result
        return result

    def send(self, data: bytes, to: TransportAddress) -> None:
        self._datagrams.send(data, to)

    def close(self) -> None:
        self._datagrams.close()
        self._carrier.fail("the socket was closed")

    def _received(self, data: bytes, source: TransportAddress) -> None:
        self._carrier.received(data, source)
        if self.on_datagram is not None:
            self.on_datagram(data, source)


async def ask_over_stream(
    server: TransportAddress,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    options: BindingOptions | None = None,
) -> tuple[BindingAnswer | BindingFailure, TransportAddress]:
    """One Binding request over a connection of its own, and the local address of that.

    ServerError when there is no connection or its certificate is not accepted.
    """
    carrier: _Carrier | None = None
    closed = ""

    def on_frame(frame: bytes) -> None:
        if carrier is not None:
            carrier.received(frame, server)

    def on_closed(reason: str) -> None:
        nonlocal closed
        closed = reason
        if carrier is not None:
            carrier.fail(reason)

    try:
        stream = await FrameStream.connect(server, on_frame, on_closed, tls=tls, server_name=server_name)
    except ssl.SSLCertVerificationError as error:
        raise ServerError(
            join_host_port(server), f"its certificate is not accepted: {error.verify_message}"
        ) from error
    except OSError as error:
        raise ServerError(join_host_port(server), error.strerror or str(error)) from error
    try:
        carrier = _Carrier(BindingRequests(reliable=True), lambda data, _: stream.send(data))
        if closed:
            return BindingFailure(closed), stream.local
        local = stream.local
        return await carrier.ask(server, options), local
    finally:
        stream.close()
