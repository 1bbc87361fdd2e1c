"""Access to the relay, from the application's own server: a credential that ends, and is renewed before."""

from __future__ import annotations

import asyncio
import time
from typing import Self

from aiohttp import ClientError, ClientSession, ClientTimeout
from peerpath import Traversal

TIMEOUT = ClientTimeout(total=10)
LOOK_EVERY = 15.0


class Access:
    """`ask` gets one, with all that a Traversal wants; `keep_fresh` gets the next ones."""

    def __init__(self, server: str, login: str) -> None:
        self._url = f"{server}/relay-access"
        self._headers = {"Authorization": f"Bearer {login}"}

    @classmethod
    async def ask(cls, server: str, login: str) -> Self:
        """ClientError or TimeoutError if there is none to be had."""
        access = cls(server, login)
        await access.renew()
        return access

    async def renew(self) -> None:
        async with (
            ClientSession(headers=self._headers, timeout=TIMEOUT) as session,
            session.post(self._url) as answer,
        ):
            answer.raise_for_status()
            given = await answer.json()
        self.relay: str = given["relay"]
        self.uris: list[str] = given["uris"]
        self.username: str = given["username"]
        self.password: str = given["password"]
        self._renew_at = time.time() + given["ttl"] / 2
        self._ttl: int = given["ttl"]
        self._outcome_token: str | None = given["outcome_token"]

    async def keep_fresh(self, nat: Traversal) -> None:
        """Renews at half of the time, so that as much is left to try again in."""
        while True:
            # A timer stands still while the machine sleeps; the credential ends by the clock on the wall.
            await asyncio.sleep(min(LOOK_EVERY, self._ttl / 8))
            if time.time() < self._renew_at:
                continue
            try:
                await self.renew()
                nat.use_servers(self.uris, username=self.username, password=self.password)
            except (ClientError, TimeoutError, LookupError, TypeError, ValueError) as error:
                # The last ones are for an answer that is not what it should be: the next one may be.
                print(f"no new credential yet: {error!r}")

    def outcome_token(self) -> str | None:
        """It came with the credential, and is good for one report."""
        token, self._outcome_token = self._outcome_token, None
        return token
