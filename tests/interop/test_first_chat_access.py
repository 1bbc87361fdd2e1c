"""Access of examples/first_chat: whatever the server says, the next credential still comes."""

import asyncio
import sys

import pytest
from aiohttp import web
from peerpath import Identity, Settings, Traversal
from support.printed import ROOT

SERVERS = {"relay": "wss://relay.test", "uris": ["turn:192.0.2.1"], "outcome_token": None, "ttl": 0.4}
FIRST = {**SERVERS, "username": "first", "password": "one"}
NEXT = {**SERVERS, "username": "next", "password": "two"}


@pytest.mark.parametrize(
    "mistake",
    [
        "[]",
        "no JSON",
        '{"relay": "wss://relay.test"}',
        {**NEXT, "ttl": "soon"},
        {**NEXT, "uris": ["smtp:mail.test"]},
        {**NEXT, "uris": 7},
    ],
    ids=str,
)
async def test_a_mistake_of_the_server_does_not_end_the_renewals(mistake, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples" / "first_chat")
    access = __import__("access").Access
    said = iter((FIRST, mistake))

    async def answer(_: web.Request) -> web.Response:
        words = next(said, NEXT)
        if isinstance(words, str):
            return web.Response(text=words, content_type="application/json")
        return web.json_response(words)

    app = web.Application()
    app.router.add_post("/relay-access", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        given = await access.ask(f"http://127.0.0.1:{runner.addresses[0][1]}", "login")
        nat = Traversal(Identity.generate(), settings=Settings(automatic=False))
        renewing = asyncio.create_task(given.keep_fresh(nat))
        async with asyncio.timeout(20):
            while not nat.settings.turn_servers and not renewing.done():
                await asyncio.sleep(0.01)
        assert not renewing.done()
        renewing.cancel()
    finally:
        await runner.cleanup()
        sys.modules.pop("access", None)
    assert [server.username for server in nat.settings.turn_servers] == ["next"]
