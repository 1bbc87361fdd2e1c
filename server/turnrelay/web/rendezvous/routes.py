"""The WebSocket route: who is let in, and what each connection does."""

import asyncio
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

import structlog
from aiohttp import WSMsgType, web
from stunwire import DecodeError
from stunwire.rendezvous import (
    DEVICE_BYTES,
    HANDSHAKE_SECONDS,
    NONCE_BYTES,
    PATH,
    SUBPROTOCOL,
    Challenge,
    CloseCode,
    Registered,
    Result,
    ResultOf,
    To,
    decode_from_client,
)

from turnrelay.policy.connection_limits import ConnectionLimits
from turnrelay.policy.rate_limits import PrefixRateLimit
from turnrelay.web.client_addresses import ClientAddresses
from turnrelay.web.rendezvous.connection import Connection
from turnrelay.web.rendezvous.counts import Counts, Refusal
from turnrelay.web.rendezvous.device import Device, Stalled
from turnrelay.web.rendezvous.host_names import HostNames
from turnrelay.web.rendezvous.registration import RegistrationRefused, proved_key
from turnrelay.web.rendezvous.registry import Registry

_SLOTS = 4096
_THROTTLED_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class RendezvousLimits:
    """The operator's limits; prefixes are /24 and /56. A connection counts as a message of its prefix."""

    connections_total: int
    connections_per_prefix: int
    messages_per_key_per_second: int
    messages_per_key_burst: int
    messages_per_prefix_per_second: int
    messages_per_prefix_burst: int


class Rendezvous:
    """The feature. Any web page may connect to it (no Origin is refused): what counts is the key."""

    def __init__(self, limits: RendezvousLimits, names: HostNames, clients: ClientAddresses) -> None:
        self.counts = Counts()
        self._names = names
        self._clients = clients
        self._limits = ConnectionLimits(limits.connections_total, limits.connections_per_prefix)
        self._rate = PrefixRateLimit(
            limits.messages_per_prefix_per_second, limits.messages_per_prefix_burst, slots=_SLOTS
        )
        self._registry: Registry[Device] = Registry(
            limits.messages_per_key_per_second, limits.messages_per_key_burst
        )
        self._connections: set[Connection] = set()
        self._log = structlog.get_logger()

    @property
    def connections(self) -> int:
        """WebSockets that are open."""
        return len(self._connections)

    @property
    def keys(self) -> int:
        """Keys that are registered: a key with several devices is one."""
        return self._registry.keys

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return (web.get(PATH, self._serve),)

    async def close(self) -> None:
        """Tells every client to go, so that it looks for the relay's successor at once."""
        going = [one.close(CloseCode.GOING_AWAY, "the relay stops") for one in self._connections]
        await asyncio.gather(*going)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        client = self._clients.of(request)
        authority = request.headers.get("Host", "")
        connection = Connection(request)
        if not self._rate.allow(client, time.monotonic()):
            self._refuse(Refusal.RATE, web.HTTPTooManyRequests(text="too many connections and messages"))
        if not self._names.include(authority, _local_host(request)):
            self._refuse(Refusal.HOST, web.HTTPMisdirectedRequest(text=_unknown_host(authority)))
        if not connection.speaks_our_protocol:
            text = f"here is a WebSocket with the subprotocol {SUBPROTOCOL}"
            self._refuse(Refusal.PROTOCOL, web.HTTPBadRequest(text=text))
        place = self._limits.admit(client)
        if place is None:
            self._refuse(Refusal.CONNECTIONS, web.HTTPServiceUnavailable(text="too many connections"))
        self._connections.add(connection)
        try:
            response = await connection.upgrade()
            await self._converse(connection, client, authority)
        finally:
            self._connections.discard(connection)
            place.leave()
        return response

    async def _converse(self, connection: Connection, client: str, authority: str) -> None:
        try:
            key = await self._register(connection, authority)
        except RegistrationRefused as refused:
            self.counts.refusal(refused.refusal)
            self._log.info("rendezvous refused", reason=refused.refusal.value)
            await connection.close(refused.code, refused.reason)
            return
        except ConnectionError:
            return
        if key is None:
            return
        device = Device(connection)
        device.offer(Registered(secrets.token_bytes(DEVICE_BYTES)).encode())
        leaving = self._registry.add(key, device, time.monotonic())
        if leaving is not None:
            leaving.replaced.set()
        try:
            await self._carry(connection, key, device, client)
        finally:
            self._registry.remove(key, device)

    async def _register(self, connection: Connection, authority: str) -> bytes | None:
        """The key that the client proves; None if it goes before it has."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await connection.send(Challenge(nonce).encode())
                message = await connection.receive()
        except TimeoutError:
            raise RegistrationRefused(
                CloseCode.HANDSHAKE_TIMEOUT, "no REGISTER came in time", Refusal.TIMEOUT
            ) from None
        if message.type is WSMsgType.BINARY:
            return proved_key(message.data, nonce, authority)
        if message.type is WSMsgType.TEXT:
            raise RegistrationRefused(CloseCode.PROTOCOL_ERROR, "frames are binary", Refusal.PROTOCOL)
        return None

    async def _carry(self, connection: Connection, key: bytes, device: Device, client: str) -> None:
        """Reads, writes and waits to be replaced, until the first of these ends."""
        tasks = [
            asyncio.create_task(self._read(connection, key, device, client)),
            asyncio.create_task(device.write()),
            asyncio.create_task(device.replaced.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        if device.replaced.is_set():
            self.counts.refusal(Refusal.REPLACED)
            await connection.close(CloseCode.REPLACED, "newer devices of this key are connected")
        for end in ends:
            if isinstance(end, Stalled):
                self.counts.refusal(Refusal.STALLED)
                connection.abort()
            elif isinstance(end, Exception) and not isinstance(end, ConnectionError):
                raise end

    async def _read(self, connection: Connection, key: bytes, device: Device, client: str) -> None:
        while (message := await connection.receive()).type is WSMsgType.BINARY:
            try:
                frame = decode_from_client(message.data)
            except DecodeError:
                break
            if not isinstance(frame, To):
                break
            result = self._send(key, device, frame, client)
            self.counts.message(result)
            await device.put(ResultOf(frame.number, result).encode())
            if result is Result.THROTTLED:
                # What is not read stays with the client: a flood costs nobody else anything.
                await asyncio.sleep(_THROTTLED_PAUSE_SECONDS)
        if message.type in (WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.ERROR):
            self.counts.refusal(Refusal.PROTOCOL)
            await connection.close(CloseCode.PROTOCOL_ERROR, "only TO frames are understood here")

    def _send(self, key: bytes, device: Device, frame: To, client: str) -> Result:
        now = time.monotonic()
        if not self._rate.allow(client, now):
            return Result.THROTTLED
        return self._registry.send(key, device, frame.key, frame.message, now)

    def _refuse(self, reason: Refusal, answer: web.HTTPException) -> NoReturn:
        self.counts.refusal(reason)
        if reason is not Refusal.RATE:  # the number of these lines would have no limit
            self._log.info("rendezvous refused", reason=reason.value)
        raise answer


def _local_host(request: web.Request) -> str:
    """The address that the connection came in at, as a Host header would name it."""
    address = request.transport.get_extra_info("sockname") if request.transport is not None else None
    host: str = address[0] if address else ""
    return host.removeprefix("::ffff:")


def _unknown_host(authority: str) -> str:
    return (
        f"this relay does not know itself as {authority[:100]!r}; "
        "its operator can say so with --rendezvous-host NAME"
    )
