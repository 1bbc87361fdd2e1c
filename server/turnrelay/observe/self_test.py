"""SelfTest: the relay asks its own listener for what clients ask for, as a client would, over UDP."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

import structlog
from stunwire import (
    LIFETIME,
    NONCE,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AddressFamily,
    DecodeError,
    Message,
    MessageClass,
    Method,
    long_term_key,
)

BINDING, ALLOCATE = "binding", "allocate"
CHECKS = (BINDING, ALLOCATE)

_RESENT_AFTER = (0.5, 1.0, 1.5)
"""Seconds that each transmission waits for an answer: even on loopback a full buffer loses packets."""
_UDP = 17

Report = Callable[[str, float | None], None]
"""Told the check and the seconds that it took, None if it failed."""


class SelfTest:
    """Binding, then an Allocate that is given up at once, again and again.

    What fails is logged when it begins and when it is over.
    """

    def __init__(
        self,
        user: tuple[str, str],
        relay_family: AddressFamily,
        target: tuple[str, int],
        interval: float,
        report: Report,
    ) -> None:
        """`target` is the listening address to ask, `relay_family` one that the relay has, `user` a name and
        a password that nobody else knows."""
        self._name, self._password = user
        self._relay_family = relay_family
        self._target = target
        self._interval = interval
        self._report = report
        self._task: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self._failing: set[str] = set()
        self._log = structlog.get_logger()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._repeat())

    async def stop(self) -> None:
        """What is under way is finished, as a rule: else its allocation would be left."""
        self._stopped.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=sum(_RESENT_AFTER))
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run(self) -> None:
        """One self-test; each check is reported."""
        host, port = self._target
        try:
            client = await _Client.open(host, port)
        except OSError as error:
            for check in CHECKS:
                self._failed(check, error.strerror or str(error))
            return
        try:
            await self._check(BINDING, client, self._binding)
            await self._check(ALLOCATE, client, self._allocate)
        finally:
            client.close()

    async def _repeat(self) -> None:
        while not self._stopped.is_set():
            await self.run()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._stopped.wait()

    async def _check(
        self, check: str, client: "_Client", steps: "Callable[[_Client], Awaitable[None]]"
    ) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            await steps(client)
        except (_Failed, OSError) as failure:
            self._failed(check, str(failure))
            return
        self._report(check, loop.time() - started)
        if check in self._failing:
            self._failing.discard(check)
            self._log.info("self-test succeeds again", check=check)

    def _failed(self, check: str, reason: str) -> None:
        self._report(check, None)
        if check not in self._failing:
            self._failing.add(check)
            self._log.error("self-test failed", check=check, reason=reason)

    async def _binding(self, client: "_Client") -> None:
        answer = await client.ask(Message(MessageClass.REQUEST, Method.BINDING))
        if answer.message_class is not MessageClass.SUCCESS_RESPONSE or XOR_MAPPED_ADDRESS not in answer:
            raise _Failed("Binding was answered with an error")

    async def _allocate(self, client: "_Client") -> None:
        challenge = await client.ask(self._wish())
        realm, nonce = challenge.get(REALM), challenge.get(NONCE)
        if realm is None or nonce is None:
            raise _Failed("Allocate was not answered with a challenge")

        def sign(message: Message) -> Message:
            return message.add(USERNAME, self._name).add(REALM, realm).add(NONCE, nonce)

        key = long_term_key(self._name, realm, self._password)
        answer = await client.ask(sign(self._wish()), key)
        if answer.message_class is not MessageClass.SUCCESS_RESPONSE or XOR_RELAYED_ADDRESS not in answer:
            raise _Failed("Allocate was refused")
        gone = Message(MessageClass.REQUEST, Method.REFRESH).add(LIFETIME, 0)
        if (await client.ask(sign(gone), key)).message_class is not MessageClass.SUCCESS_RESPONSE:
            raise _Failed("the allocation could not be given up")

    def _wish(self) -> Message:
        message = Message(MessageClass.REQUEST, Method.ALLOCATE).add(REQUESTED_TRANSPORT, _UDP)
        if self._relay_family is AddressFamily.IPV6:
            message.add(REQUESTED_ADDRESS_FAMILY, self._relay_family)
        return message


class _Failed(Exception):
    """The wrong answer, or none."""


class _Client(asyncio.DatagramProtocol):
    """A UDP client with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._wanted = b""
        self._answer: asyncio.Future[Message] | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> "_Client":
        loop = asyncio.get_running_loop()
        _, client = await loop.create_datagram_endpoint(cls, remote_addr=(host, port))
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, _: object) -> None:
        try:
            message = Message.decode(data)
        except DecodeError:
            return
        waiting = self._answer
        if message.transaction_id == self._wanted and waiting is not None and not waiting.done():
            waiting.set_result(message)

    def error_received(self, error: Exception) -> None:
        """The system says that nobody listens there."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(_Failed(str(error)))

    async def ask(self, request: Message, key: bytes | None = None) -> Message:
        """The response; _Failed if none comes."""
        assert self._transport is not None  # open() connected it
        data = request.encode(key)
        self._wanted = request.transaction_id
        self._answer = asyncio.get_running_loop().create_future()
        for seconds in _RESENT_AFTER:
            self._transport.sendto(data)
            done, _ = await asyncio.wait({self._answer}, timeout=seconds)
            if done:
                return self._answer.result()
        raise _Failed("no answer")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
