"""A whole relay on the event loop of the test, and its operator at the HTTP side."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from peerpath.turn import LongTermCredentials
from peerpath.turn.connection import TurnConnection, allocate
from stunwire import TransportAddress, TurnUri
from turnrelay.app import Relay
from turnrelay.http_side import HttpSide
from turnrelay.policy.secret_file import OPERATOR_TOKEN
from turnrelay.settings import Settings

from support.ports import loopback_address


class Operated:
    """A running relay, asked over HTTP as anybody, or as the operator with `token`."""

    def __init__(
        self, address: str, token: str | None, session: aiohttp.ClientSession, side: HttpSide
    ) -> None:
        self.address = address
        self.token = token
        self.http = session
        self.base = f"http://{side.authority}"
        self.routes = side.routes

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Status and JSON; None where the answer has no body."""
        given = dict(headers or {})
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        async with self.http.request(method, self.base + path, json=body, headers=given) as answer:
            return answer.status, await answer.json() if await answer.read() else None

    async def as_operator(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        return await self.ask(method, path, body, token=self.token)

    async def allocation(self, name: str = "alice", password: str | None = None) -> TurnConnection:
        """A client with a credential of the API (or another password), and what it got."""
        status, minted = await self.as_operator("POST", "/v1/credentials", {"name": name})
        assert status == 201, minted
        [uri] = [uri for uri in minted["uris"] if uri.endswith("udp")]
        parsed = TurnUri.parse(uri)
        credentials = LongTermCredentials(minted["username"], password or minted["password"])
        return await allocate(parsed, TransportAddress(self.address, parsed.port), credentials)


@asynccontextmanager
async def operated_relay(
    data_dir: Path, *, limits: Mapping[str, int] | None = None, **settings: object
) -> AsyncIterator[Operated]:
    """A relay on an address of its own; `settings` are added to those that this takes."""
    with loopback_address() as address:
        arguments: dict[str, Any] = {
            "listen": [address],
            "relay_ip": [address],
            "http": f"{address}:0",
            "data_dir": data_dir,
            **settings,
            # Its own allocations would be among those that a test counts.
            "limits": {"self_test_seconds": 0, **(limits or {})},
        }
        relay = Relay(Settings(**arguments))
        await relay.start()
        file = data_dir / OPERATOR_TOKEN
        token = arguments.get("operator_token") or (file.read_text().strip() if file.exists() else None)
        try:
            async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
                assert relay.http is not None
                yield Operated(address, token, session, relay.http)
        finally:
            await relay.stop()
