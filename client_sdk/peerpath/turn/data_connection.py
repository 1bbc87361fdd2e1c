"""DataConnection: carries a ConnectionBind on the event loop, then hands the connection over (RFC 6062)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from peerpath.net.alarm import Alarm
from peerpath.turn.carriers import Way
from peerpath.turn.connection_bind import BindOutput, Bound, ConnectionBind, NotBound
from peerpath.turn.outputs import Transmit

ProtocolFactory = Callable[[], asyncio.Protocol]


class BindFailed(Exception):
    """The server does not make the connection that of the peer. `code` None: it did not say why."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class DataConnection(asyncio.Protocol):
    """The protocol of a connection until it is bound."""

    def __init__(self, core: ConnectionBind, factory: ProtocolFactory) -> None:
        self._core = core
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._alarm = Alarm(self._loop, self._on_time)
        self._done: asyncio.Future[asyncio.Protocol] = self._loop.create_future()

    @classmethod
    async def open(
        cls, way: Way, core: ConnectionBind, factory: ProtocolFactory
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Another connection by the way of the control connection, bound: its transport, and the protocol
        of `factory`, which has it from now on. BindFailed, or ServerError when no connection comes up.
        """
        made = cls(core, factory)
        transport = await way.open_stream(made)
        try:
            return transport, await made._done
        except BaseException:
            transport.abort()
            raise
        finally:
            made._alarm.cancel()

    # -- what asyncio calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._carry_out(self._core.start(self._loop.time()))

    def data_received(self, data: bytes) -> None:
        self._carry_out(self._core.receive(data, self._loop.time()))

    def connection_lost(self, exc: Exception | None) -> None:
        reason = "the server closed the data connection"
        self._fail(BindFailed(None, reason if exc is None else f"{reason} ({exc})"))

    # -- carrying ---------------------------------------------------------------------------------------

    def _carry_out(self, outputs: list[BindOutput]) -> None:
        assert self._transport is not None
        for output in outputs:
            if isinstance(output, Transmit):
                self._transport.write(output.data)
            elif isinstance(output, NotBound):
                self._fail(BindFailed(output.code, output.reason))
            else:
                self._hand_over(self._transport, output)
        self._alarm.set(self._core.next_deadline())

    def _hand_over(self, transport: asyncio.Transport, bound: Bound) -> None:
        """At once, so that no byte of the peer's comes to the wrong protocol."""
        if self._done.done():
            return  # nobody waits for it any more
        protocol = self._factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if bound.data:
            protocol.data_received(bound.data)
        self._done.set_result(protocol)

    def _fail(self, error: BindFailed) -> None:
        if not self._done.done():
            self._done.set_exception(error)
            with suppress(BindFailed):
                self._done.exception()  # asyncio complains of those that nobody looks at

    def _on_time(self) -> None:
        self._carry_out(self._core.handle_timeout(self._loop.time()))
