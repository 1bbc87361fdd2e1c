"""Files over a stream of a connection: a head, then the bytes, with progress for whoever watches."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
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


class FileError(PeerpathError):
    """A file that cannot be sent, or came damaged."""


async def send_file(connection: Connection, path: Path) -> None:
    """Sends `path` on a stream of its own: 4 bytes of length, a head as JSON, the content, its SHA-256."""
    size = await asyncio.to_thread(_size_of, path)
    head = json.dumps({"name": path.name[:_MAX_NAME], "size": size}).encode()
    stream = await connection.open_stream()
    digest = hashlib.sha256()
    with _progress() as progress, path.open("rb") as file:
        task = progress.add_task(f"Sending {path.name}", total=size)
        await stream.write(len(head).to_bytes(_HEAD_BYTES, "big") + head)
        sent = 0
        while sent < size:
            chunk = await asyncio.to_thread(file.read, min(_CHUNK, size - sent))
            if not chunk:
                stream.reset()
                raise FileError(f"{path}: became shorter while it was sent")
            digest.update(chunk)
            await stream.write(chunk)
            sent += len(chunk)
            progress.update(task, completed=sent)
        await stream.write(digest.digest())
        stream.write_eof()
        await stream.read(1)  # the receiver ends its side when it has everything
    console.output.print(f"Sent {path.name}, {size} bytes", style="green", markup=False)


def _size_of(path: Path) -> int:
    if not path.is_file():
        raise FileError(f"{path}: there is no such file")
    return path.stat().st_size


async def receive_file(stream: Stream, folder: Path) -> Path:
    """Stores what `send_file` sends, under a name that is free; where it is then. Half a file is not kept."""
    length = int.from_bytes(await stream.read_exactly(_HEAD_BYTES), "big")
    if length > _MAX_HEAD:
        stream.reset()
        raise FileError("its head is too long")
    name, size = _read_head(await stream.read_exactly(length))
    path = _free_name(folder, name)
    draft = path.with_name(path.name + ".part")
    digest = hashlib.sha256()
    try:
        with _progress() as progress, draft.open("xb") as file:
            task = progress.add_task(f"Receiving {name}", total=size)
            left = size
            while left:
                chunk = await stream.read(min(_CHUNK, left))
                if not chunk:
                    raise FileError(f"{name}: {left} bytes are missing")
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
                left -= len(chunk)
                progress.update(task, completed=size - left)
        if await stream.read_exactly(_DIGEST_BYTES) != digest.digest():
            raise FileError(f"{name}: arrived damaged")
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    stream.write_eof()
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
    plain = re.sub(r"[^\w.\- ]", "_", name.replace("\\", "/").rsplit("/", 1)[-1])[:_MAX_NAME].strip(". ")
    stem, dot, suffix = (plain or "file").partition(".")
    path, number = folder / (plain or "file"), 1
    while path.exists() or path.with_name(path.name + ".part").exists():
        path, number = folder / f"{stem} ({number}){dot}{suffix}", number + 1
    return path


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(
        *columns, console=console.messages, transient=True, disable=not console.messages.is_terminal
    )
