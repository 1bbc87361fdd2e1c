"""The table of errors in docs/first-chat.md: each is made to happen, and has the text that the table has."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from peerpath import (
    CallError,
    CallOptions,
    ConnectionClosed,
    Contacts,
    Decision,
    Identity,
    IdentityError,
    PublicKey,
    Settings,
    SettingsError,
    Traversal,
    TurnServerSettings,
)
from peerpath.connection.errors import MessageTooLarge
from peerpath.net.dialing import Dialed, dial_host
from peerpath.signaling import PeerAbsent, Rendezvous, RendezvousError, memory_pair
from support.netns import Namespace, inside
from support.printed import ROOT
from support.processes import Process
from support.relay import Relay
from unit.sdk.calls.people import lose_link

ALICE, BOB = Identity.generate(), Identity.generate()
ALONE = Settings(automatic=False)
EVERYBODY = Contacts(others=Decision.FULL)

pytestmark = pytest.mark.slow


def test_every_error_of_the_table_comes_with_the_text_that_stands_there(
    wired_subject: Relay, client_host: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def all_errors() -> list[BaseException]:
        found = errors_of_keys()
        with inside(client_host):
            for errors in (
                errors_of_servers(wired_subject),
                errors_of_our_own_server(),
                errors_of_calls(wired_subject),
                errors_without_a_relay(wired_subject),
                ends_of_connections(),
            ):
                found += [error async for error in errors]
        return found

    rows = table()
    assert len(rows) == 17
    seen = {row_of(error, rows) for error in asyncio.run(all_errors())}
    assert seen == set(rows)


def table() -> list[tuple[str, str]]:
    """Type and text of each row."""
    page = (ROOT / "docs" / "first-chat.md").read_text().partition("## What goes wrong")[2]
    return re.findall(r"^\| `(?:aiohttp\.)?(\w+)`[^|]*\| `([^`]+)`[^|]*\|", page, re.M)


def row_of(error: BaseException, rows: list[tuple[str, str]]) -> tuple[str, str]:
    text = error.reason if isinstance(error, CallError) else str(error)
    for kind, wanted in rows:
        pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
        if kind == type(error).__name__ and re.fullmatch(pattern, text, re.S):
            return kind, wanted
    raise AssertionError(f"{type(error).__name__} is not in the table: {text}")


def errors_of_keys() -> list[BaseException]:
    with pytest.raises(IdentityError) as missing:
        Identity.load("alice.key")
    ALICE.save("alice.key")
    os.chmod("alice.key", 0o644)
    with pytest.raises(IdentityError) as readable:
        Identity.load("alice.key")
    key = str(BOB.public_key)
    with pytest.raises(ValueError) as mistyped:
        PublicKey.parse(key[:9] + ("a" if key[9] != "a" else "b") + key[10:])
    return [missing.value, readable.value, mistyped.value]


async def errors_of_servers(relay: Relay) -> AsyncIterator[BaseException]:
    with pytest.raises(SettingsError) as caught:
        Traversal(ALICE, ["turn:192.0.2.1"])
    yield caught.value
    with pytest.raises(RendezvousError) as closed:
        async with Rendezvous("ws://127.0.0.1:9", ALICE):
            pass
    yield closed.value

    async def by_another_name(_: str, port: int) -> Dialed:
        return await dial_host(relay.site.address, port)

    with pytest.raises(RendezvousError) as unknown:
        async with Rendezvous("ws://relay.test:9641", ALICE, dial=by_another_name):
            pass
    yield unknown.value


async def errors_of_our_own_server() -> AsyncIterator[BaseException]:
    server = ROOT / "examples" / "first_chat" / "application_server.py"
    argv = [sys.executable, server, "--port", "8080", "--for-clients", "http://192.0.2.1", "alice:word"]
    wrong = {"Authorization": "Bearer wrong"}
    with Process(argv, env={**os.environ, "OPERATOR_TOKEN": "none"}):
        async with (
            asyncio.timeout(30),
            aiohttp.ClientSession(headers=wrong, raise_for_status=True) as session,
        ):
            while True:
                try:
                    await session.post("http://127.0.0.1:8080/relay-access")
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
                except aiohttp.ClientResponseError as error:
                    yield error
                    return


async def errors_of_calls(relay: Relay) -> AsyncIterator[BaseException]:
    async with (
        Traversal(ALICE, settings=ALONE) as alice,
        alice.rendezvous(f"ws://{relay.site.address}:9641") as rendezvous,
    ):
        with pytest.raises(CallError) as absent:
            await alice.connect(BOB.public_key, rendezvous)
        assert isinstance(absent.value.__cause__, PeerAbsent)
        yield absent.value
        once = CallOptions(attempts_burst=1, attempts_per_minute=0.01)
        there, back = memory_pair()
        async with Traversal(BOB, settings=ALONE, options=once) as bob, bob.listen(back):
            for _ in ("refused", "too many"):
                with pytest.raises(CallError) as caught:
                    await alice.connect(BOB.public_key, there)
                yield caught.value
        there, _ = memory_pair()
        with pytest.raises(CallError) as unanswered:
            await alice.connect(BOB.public_key, there, timeout=0.3)
        yield unanswered.value


async def errors_without_a_relay(relay: Relay) -> AsyncIterator[BaseException]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("10.77.0.2", 0))
        for host, port in ((relay.site.address, relay.port), silent.getsockname()):
            turn = TurnServerSettings.model_validate(
                {"uri": f"turn:{host}:{port}", "username": "alice", "password": "wrong"}
            )
            settings = Settings(relay_only=True, turn_servers=(turn,))
            there, back = memory_pair()
            async with (
                Traversal(ALICE, settings=settings) as alice,
                Traversal(BOB, settings=settings, authorize=EVERYBODY) as bob,
                bob.listen(back),
            ):
                with pytest.raises(CallError) as caught:
                    await alice.connect(BOB.public_key, there, timeout=4)
            yield caught.value


async def ends_of_connections() -> AsyncIterator[BaseException]:
    short = CallOptions(timeout=30, reconnect_for=0.5)
    async with (
        Traversal(ALICE, settings=ALONE, options=short) as alice,
        Traversal(BOB, settings=ALONE, options=short, authorize=EVERYBODY) as bob,
    ):
        there, back = memory_pair()
        accepting = asyncio.create_task(bob.accept(back))
        connection, _ = await alice.connect(BOB.public_key, there), await accepting
        with pytest.raises(MessageTooLarge) as large:
            await connection.send(bytes(1_048_577))
        yield large.value
        await connection.close()
        with pytest.raises(ConnectionClosed) as ended:
            await connection.recv()
        assert ended.value.in_order
        yield ended.value
        there, back = memory_pair()
        accepting = asyncio.create_task(bob.accept(back))
        connection, other = await alice.connect(BOB.public_key, there), await accepting
        there.close()
        lose_link(connection, other)
        for end in (connection, other):
            with pytest.raises(ConnectionClosed) as lost:
                await asyncio.wait_for(end.recv(), 30)
            assert not lost.value.in_order
            yield lost.value
