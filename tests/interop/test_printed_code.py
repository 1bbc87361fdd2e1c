"""Code that documents print, executed as it stands there."""

import asyncio
import re
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest
from peerpath import Contacts, Identity, Settings, Traversal
from peerpath.ice.configuration import IceServer
from peerpath.ice.endpoint import IceEndpoint
from peerpath.ice.role import Role
from peerpath.signaling import Dialing, PeerAbsent, Rendezvous, memory_pair
from support.netns import Namespace, inside
from support.printed import blocks, code
from support.relay import Relay


def names_of(document: str, holding: str) -> dict[str, Any]:
    """What a block defines."""
    names: dict[str, Any] = {}
    exec(code(document, holding), names)
    return names


async def test_a_key_is_dialed_as_the_sdks_readme_has_it(
    wired_subject: Relay, client_host: Namespace, tmp_path: Path
) -> None:
    address = wired_subject.site.address
    [program] = blocks("client_sdk/README.md", "python", "authorize=Contacts([bob])")
    program = program.replace("wss://relay.example.org", f"ws://{address}:9641")
    program = program.replace("relay.example.org", address)
    alice, bob = Identity.generate(), Identity.generate()
    alice.save(tmp_path / "alice.key")
    nat = Traversal(bob, settings=Settings(automatic=False), authorize=Contacts([alice.public_key]))
    with inside(client_host):
        async with nat, nat.rendezvous(f"ws://{address}:9641") as rendezvous, nat.listen(rendezvous) as calls:
            running = await asyncio.create_subprocess_exec(
                *client_host.prefix, sys.executable, "-c", program, cwd=tmp_path, stdin=PIPE, stdout=PIPE
            )
            try:
                printing = asyncio.create_task(running.communicate(f"{bob.public_key}\n".encode()))
                async with asyncio.timeout(40):
                    connection = await calls.accept()
                    assert await connection.recv() == b"hello"
                    assert await connection.recv_datagram() == b"typing"
                    await connection.send(b"hello yourself")
                    printed, _ = await printing
            finally:
                if running.returncode is None:
                    running.kill()
                    await running.wait()
    assert running.returncode == 0
    assert re.fullmatch(r"Bob's key: Path\(kind=<PathKind\.HOST.*\)\nb'hello yourself'\n", printed.decode())
    assert '"result": "connected"' in (tmp_path / "calls.log").read_text()


async def test_one_question_and_its_answer_through_a_rendezvous(
    wired_subject: Relay, client_host: Namespace
) -> None:
    names = names_of("client_sdk/README.md", "async def ask(")
    names["RELAY"] = f"ws://{wired_subject.site.address}:9641"
    alice, bob = Identity.generate(), Identity.generate()
    with inside(client_host):
        with pytest.raises(PeerAbsent):
            await names["ask"](alice, bob.public_key, {})
        answering = asyncio.create_task(names["answer"](bob))
        try:
            async with asyncio.timeout(20):
                while True:
                    try:
                        answer = await names["ask"](alice, bob.public_key, {"is it": "noon?"})
                        break
                    except PeerAbsent:
                        await asyncio.sleep(0.05)
        finally:
            answering.cancel()
    assert answer == {"from": str(alice.public_key), "is it": "noon?"}


async def test_strangers_and_those_who_leave_do_not_end_who_answers(
    wired_subject: Relay, client_host: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peerpath.signaling.rendezvous._MAX_CHANNELS", 3)
    names = names_of("client_sdk/README.md", "async def ask(")
    names["RELAY"] = relay = f"ws://{wired_subject.site.address}:9641"
    alice, bob, mallory = Identity.generate(), Identity.generate(), Identity.generate()
    with inside(client_host):
        answering = asyncio.create_task(names["answer"](bob))
        try:
            async with asyncio.timeout(30):
                async with Rendezvous(relay, mallory) as rendezvous:

                    async def offer(question: dict[str, str], to: Identity = bob) -> None:
                        dialing = Dialing(mallory, to.public_key, now=time.time())
                        sealed = dialing.seal("question", question)
                        channel = rendezvous.channel(bob.public_key)
                        while True:
                            try:
                                await channel.send(sealed)
                                break
                            except PeerAbsent:
                                await asyncio.sleep(0.05)
                        channel.close()

                    for _ in range(5):
                        await offer({}, to=alice)  # which Bob cannot open
                    await offer({"is it": "x" * 12_250})  # together with our key it is too long
                    await offer({"is it": "noon?"})
                answer = await names["ask"](alice, bob.public_key, {"is it": "noon?"})
        finally:
            answering.cancel()
            await asyncio.wait([answering])
    assert answer == {"from": str(alice.public_key), "is it": "noon?"}


async def test_two_endpoints_of_an_application_exchange_plans_and_say_what_comes_of_it(
    wired_subject: Relay, client_host: Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    punch_through = names_of("docs/hard-nats.md", "async def punch_through(")["punch_through"]
    server = IceServer(f"stun:{wired_subject.site.address}:{wired_subject.port}")
    there, back = memory_pair()
    with inside(client_host):
        async with (
            IceEndpoint(Role.CONTROLLING, [server]) as one,
            IceEndpoint(Role.CONTROLLED, [server]) as other,
        ):
            await asyncio.gather(one.gather(), other.gather())
            one.set_remote(other.description)
            other.set_remote(one.description)
            await asyncio.gather(punch_through(one, there), punch_through(other, back))
            path = await one.direct(within=15)
    assert not path.is_relayed
    decisions = re.findall(r"^(?:NoTactic|Tactic)\(", capsys.readouterr().out, re.M)
    assert len(decisions) == 2
