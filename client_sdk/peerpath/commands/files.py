"""Files over a stream of a connection: a head, then the bytes, with progress for whoever watches."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from peerpath.commands import console
from peerpath.connection import Connection, Stream
from peerpath.errors import PeerpathError

_CHUNK = 64 * 1024
_HEAD_BYTES = 4
_MAX_HEAD = 4096
_DIGEST_BYTES = 32
_MAX_NAME = 200
"""Bytes: file systems take 255, and a number or a suffix may be added."""
_DRAFT = ".part"
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{name}{n}" for name in ("COM", "LPT") for n in range(10))}
"""What Windows takes for a device, with any suffix."""


class FileError(PeerpathError):
    """A file that cannot be sent, or came damaged."""


async def send_file(connection: Connection, path: Path) -> None:
    """Sends `path` on a stream of its own: 4 bytes of length, a head as JSON, the content, its SHA-256."""
    size = await asyncio.to_thread(_size_of, path)
    stream = await connection.open_stream()
    try:
        await _write(stream, path, size)
    except BaseException:
        stream.reset()
        raise
    console.output.print(f"Sent {path.name}, {size} bytes", style="green", markup=False)


async def _write(stream: Stream, path: Path, size: int) -> None:
    head = json.dumps({"name": path.name[-_MAX_NAME:], "size": size}).encode()
    digest = hashlib.sha256()
    with bars.bar(f"Sending {path.name}", size) as show, path.open("rb") as file:
        await stream.write(len(head).to_bytes(_HEAD_BYTES, "big") + head)
        sent = 0
        while sent < size:
            chunk = await asyncio.to_thread(file.read, min(_CHUNK, size - sent))
            if not chunk:
                raise FileError(f"{path}: became shorter while it was sent")
            digest.update(chunk)
            await stream.write(chunk)
            sent += len(chunk)
            show(sent)
        await stream.write(digest.digest())
        stream.write_eof()
        await stream.read(1)  # the receiver ends its side when it has everything


def _size_of(path: Path) -> int:
    if not path.is_file():
        raise FileError(f"{path}: there is no such file")
    return path.stat().st_size


async def receive_file(stream: Stream, folder: Path) -> Path:
    """Stores what `send_file` sends, under a name that is free; where it is then. Half a file is not kept."""
    try:
        length = int.from_bytes(await stream.read_exactly(_HEAD_BYTES), "big")
        if length > _MAX_HEAD:
            raise FileError("its head is too long")
        name, size = _read_head(await stream.read_exactly(length))
        path = await _store(stream, _free_name(folder, name), size)
    except BaseException:
        stream.reset()  # or the sender would wait
        raise
    stream.write_eof()
    return path


async def _store(stream: Stream, path: Path, size: int) -> Path:
    name = path.name
    draft = path.with_name(name + _DRAFT)
    digest = hashlib.sha256()
    with draft.open("xb") as file:
        try:
            with bars.bar(f"Receiving {name}", size) as show:
                left = size
                while left:
                    chunk = await stream.read(min(_CHUNK, left))
                    if not chunk:
                        raise FileError(f"{name}: {left} bytes are missing")
                    digest.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
                    left -= len(chunk)
                    show(size - left)
            if await stream.read_exactly(_DIGEST_BYTES) != digest.digest():
                raise FileError(f"{name}: arrived damaged")
            file.close()
            os.replace(draft, path)
        except BaseException:
            file.close()
            draft.unlink(missing_ok=True)
            raise
    return path


def _read_head(data: bytes) -> tuple[str, int]:
    try:
        head: Any = json.loads(data)
        name, size = head["name"], head["size"]
    except (ValueError, KeyError, TypeError):
        raise FileError("its head is no JSON with name and size") from None
    if not isinstance(name, str) or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise FileError("its head has no name and size")
    return name, size


def _free_name(folder: Path, name: str) -> Path:
    """A name in `folder` that is not taken; nothing that the peer writes leads out of it."""
    plain = re.sub(r"[^\w.\- ]", "_", name.replace("\\", "/").rsplit("/", 1)[-1])
    plain = plain.encode()[:_MAX_NAME].decode(errors="ignore").strip(". ") or "file"
    if plain.partition(".")[0].strip().upper() in _DEVICES:
        plain = "_" + plain
    stem, dot, suffix = plain.partition(".")
    path, number = folder / plain, 1
    # A link that points nowhere is taken, too: it would be followed.
    while os.path.lexists(path) or os.path.lexists(path.with_name(path.name + _DRAFT)):
        path, number = folder / f"{stem} ({number}){dot}{suffix}", number + 1
    return path


class Bars:
    """One display for all files that are under way: a terminal has room for one."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._shown = 0

    @contextmanager
    def bar(self, text: str, size: int) -> Iterator[Callable[[int], None]]:
        """A bar for one file; call what it gives with the bytes that are done."""
        if self._progress is None:
            self._progress = _progress()
            self._progress.start()
        progress = self._progress
        task = progress.add_task(text, total=size)
        self._shown += 1
        try:
            yield lambda done: progress.update(task, completed=done)
        finally:
            progress.remove_task(task)
            self._shown -= 1
            if not self._shown:
                progress.stop()
                self._progress = None


def _progress() -> Progress:
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(
        *columns, console=console.messages, transient=True, disable=not console.messages.is_terminal
    )


bars = Bars()
