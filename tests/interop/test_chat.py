"""`peerpath chat` as two people use it: two pseudo-terminals, a relay's rendezvous between them."""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from interop.terminal import Terminal
from peerpath import CallRefused, Identity, Settings, Traversal
from peerpath.connection.errors import StreamError
from peerpath.signaling import Rendezvous
from support.netns import Namespace, inside
from support.relay import Relay

PEERPATH = Path(sys.executable).with_name("peerpath")


@dataclass
class Person:
    """Somebody with a key and a folder, at the clients' host."""

    folder: Path
    relay: Relay
    host: Namespace
    identity: Identity = field(default_factory=Identity.generate)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.file = self.folder / "identity.key"
        self.identity.save(self.file)
        self.key = str(self.identity.public_key)
        self.url = f"ws://{self.relay.site.address}:9641"

    def argv(self, *arguments: str) -> list[str | Path]:
        stun = f"stun:{self.relay.site.address}:{self.relay.port}"
        flags = ["--identity", self.file, "--rendezvous", self.url, "--server", stun]
        return [PEERPATH, "chat", *arguments, *flags, "--downloads", self.folder]

    def chat(self, *arguments: str) -> Terminal:
        return Terminal(self.argv(*arguments), namespace=self.host)


@pytest.fixture
def people(wired_subject: Relay, client_host: Namespace, tmp_path: Path) -> tuple[Person, Person]:
    return (
        Person(tmp_path / "alice", wired_subject, client_host),
        Person(tmp_path / "bob", wired_subject, client_host),
    )


@pytest.fixture
def chat(people: tuple[Person, Person]) -> Iterator[tuple[Terminal, Terminal]]:
    """Alice has called Bob, who knows her."""
    alice, bob = people
    with bob.chat("--allow", alice.key) as called:
        called.see("Waiting for a call")
        with alice.chat(bob.key) as calling:
            calling.see("everything else is a message")
            called.see("everything else is a message")
            yield calling, called


def test_two_people_talk_and_one_leaves(people, chat):
    (alice, bob), (calling, called) = people, chat
    assert f"Connected with {bob.key}, host by udp" in calling.text
    assert f"Connected with {alice.key}, host by udp" in called.text
    assert bob.identity.public_key.fingerprint in calling.text
    calling.type("hello, Bob: 你好 [red]not markup[/red]")
    called.see("< hello, Bob: 你好 [red]not markup[/red]")
    called.type("hello yourself")
    calling.see("< hello yourself")
    calling.type("/path")
    calling.see("host by udp,")
    calling.type("/stats")
    calling.see("messages_sent=1")
    calling.type("/report")
    calling.see("dialed: connected after")
    calling.see("local host 10.77.0.2")
    shown = calling.text.count(bob.identity.public_key.fingerprint)
    calling.type("/fingerprint")
    calling.type("/help")
    calling.see("/send FILE")
    called.type("one more")
    calling.see("< one more")
    assert calling.text.count(bob.identity.public_key.fingerprint) == shown + 1
    called.type("/quit")
    assert called.end() == 0
    calling.see("The peer has ended the chat: the chat was left")
    assert calling.end() == 0
    assert "Fatal" not in calling.text + called.text
    assert "Traceback" not in calling.text + called.text


def test_files_go_both_ways_at_once_with_progress_beside_the_talk(people, chat, tmp_path):
    (alice, bob), (calling, called) = people, chat
    mine, yours = tmp_path / "a [bold]name[x] & more.bin", tmp_path / "yours.bin"
    mine.write_bytes(os.urandom(6_000_000))
    yours.write_bytes(os.urandom(3_000_000))
    calling.type(f"/send {mine}")
    called.type(f"/send {yours}")
    calling.type("still talking")
    called.see("< still talking")
    called.see("Received", 60)
    calling.see("Received", 60)
    calling.see("Sent a [bold]name[x] & more.bin, 6000000 bytes", 60)
    called.see("Sent yours.bin, 3000000 bytes", 60)
    assert re.search(r"Sending a \[bold\]name\[x\] & more.bin.*/6\.0 MB", calling.text)
    assert re.search(r"Receiving yours.bin.*/3\.0 MB", calling.text)
    [arrived] = [path for path in bob.folder.iterdir() if path.suffix == ".bin"]
    assert arrived.read_bytes() == mine.read_bytes()
    assert (alice.folder / "yours.bin").read_bytes() == yours.read_bytes()
    calling.type(f"/send {tmp_path / 'nothing'}")
    calling.see("there is no such file")
    calling.type("/send ~nobody-of-this-name/x")
    calling.see("Not sent")
    # The same file again finds its name taken.
    called.type(f"/send {yours}")
    called.see("Sent yours.bin, 3000000 bytes", 60, times=2)
    assert (alice.folder / "yours (1).bin").read_bytes() == yours.read_bytes()


def test_somebody_unknown_is_asked_for_and_taken_or_refused(people):
    alice, bob = people
    with bob.chat() as called:
        called.see("Waiting for a call")
        with alice.chat(bob.key) as calling:
            called.see(f"{alice.key} calls. Fingerprint: {alice.identity.public_key.fingerprint}")
            called.see("Take the call? [y/N]")
            called.type("")
            calling.see("the peer takes no calls of this key")
            assert calling.end() == 1
        with alice.chat(bob.key) as calling:
            called.see("Take the call? [y/N] ", times=2)
            called.type("y")
            calling.see("Connected with")
            calling.type("thanks")
            called.see("< thanks")
            calling.press(b"\x04")
            assert calling.end() == 0
        called.see("The peer has ended the chat")
        assert called.end() == 0


def test_ctrl_c_leaves_and_the_other_side_is_told(chat):
    calling, called = chat
    called.interrupt()
    assert called.end() == 130
    calling.see("The peer has ended the chat")
    assert calling.end() == 0
    assert "Traceback" not in calling.text + called.text


def test_without_a_terminal_lines_are_sent_and_strangers_are_refused(people, tmp_path):
    alice, bob = people
    (tmp_path / "note.txt").write_text("remember the milk")
    with bob.chat("--allow", alice.key) as called:
        called.see("Waiting for a call")
        done = subprocess.run(
            [*alice.host.prefix, *alice.argv(bob.key)],
            input=f"first\nsecond\n/send {tmp_path / 'note.txt'}\nlast, without an end",
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        assert done.returncode == 0, done
        called.see("< first")
        called.see("< second")
        called.see("< last, without an end")
        called.see("Received")
        assert called.end() == 0
    assert (bob.folder / "note.txt").read_text() == "remember the milk"
    waiting = subprocess.Popen(
        [*bob.host.prefix, *bob.argv()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert waiting.stdout is not None
        while "Waiting" not in waiting.stdout.readline():
            assert waiting.poll() is None
        with alice.chat(bob.key) as calling:
            calling.see("the peer takes no calls of this key")
            assert calling.end() == 1
        assert "is not among those that --allow names: refused" in waiting.stdout.readline()
    finally:
        waiting.kill()
        waiting.wait()
        waiting.stdout.close()
        waiting.stdin.close()


HOSTILE_NAMES = [
    "../../escaped",
    "/etc/escaped",
    "..\\..\\escaped",
    "..",
    "",
    "\0escaped",
    ".bashrc",
    "x" * 5000,
    "ünïcödé" * 100,
    "[/red]escaped[bold",
    "\x1b[2Jescaped",
    "nul.txt",
]


async def test_a_hostile_peer_moves_no_cursor_and_leaves_no_folder(people):
    alice, bob = people
    before = set(bob.folder.parent.rglob("*"))
    with bob.chat("--allow", alice.key) as called, inside(alice.host):
        await asyncio.to_thread(called.see, "Waiting for a call")
        settings = Settings(automatic=False)
        async with (
            Traversal(alice.identity, settings=settings) as nat,
            Rendezvous(alice.url, alice.identity) as rendezvous,
            nat.connect(bob.identity.public_key, rendezvous) as connection,
        ):
            await connection.send(b"\x1b[2J\x1b]0;owned\x07look\r\nConnected with somebody else\xff\x00")
            for name in HOSTILE_NAMES:
                await offer(connection, json.dumps({"name": name, "size": 3}).encode(), b"abc")
            for head in (b"{}", b"[]", b'{"name": 1, "size": 1}', b'{"name": "x", "size": -1}', b"\xff", b""):
                await offer(connection, head, b"abc")
            await offer(connection, b"x" * 5000, b"")
            await offer(connection, b'{"name": "damaged", "size": 3}', b"abc", digest=b"0" * 32)
            await offer(connection, json.dumps({"name": "cut", "size": 30}).encode(), b"abc")
            await connection.send(b"done")
            await asyncio.to_thread(called.see, "< done")
        text, raw = called.text, called.raw
    assert "\x1b[2J" not in raw
    assert "\x1b]0;" not in raw
    assert re.search(r"< .*owned.look$", text, re.M), text
    assert "< Connected with somebody else" in text
    assert text.count("A file did not arrive") >= 8
    made = set(bob.folder.parent.rglob("*")) - before
    assert made
    assert {path.parent for path in made} == {bob.folder}
    assert not [path for path in made if path.name.startswith(".") or path.name.endswith(".part")]
    assert {path.read_bytes() for path in made} == {b"abc"}
    assert not (Path("/etc") / "escaped").exists()


async def offer(connection, head, content, digest=None):
    """A file as the SDK's command sends it, or not quite."""
    stream = await connection.open_stream()
    try:
        await stream.write(len(head).to_bytes(4, "big") + head + content)
        await stream.write(digest or hashlib.sha256(content).digest())
        stream.write_eof()
        await asyncio.wait_for(stream.read(1), 10)
    except StreamError:
        pass


async def test_nobody_else_gets_in_during_a_chat(people, chat):
    alice, bob = people
    with inside(alice.host):
        settings = Settings(automatic=False)
        async with (
            Traversal(alice.identity, settings=settings) as nat,
            Rendezvous(alice.url, alice.identity) as rendezvous,
        ):
            with pytest.raises(CallRefused, match="takes no calls now"):
                await nat.connect(bob.identity.public_key, rendezvous, timeout=10)
