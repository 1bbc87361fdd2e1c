"""Splice: ends of one direction, and a connection of which only one is left and silent."""

import asyncio

import pytest
from turnrelay.relay import splice as module
from turnrelay.relay.splice import Splice


class End:
    """One of the two connections, as the splice sees it."""

    def __init__(self, *, halves: bool = True) -> None:
        self.said: list[str] = []
        self.is_over = asyncio.Event()
        self._halves = halves

    def write(self, data: bytes) -> None:
        self.said.append(data.decode())

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def end_writing(self) -> bool:
        self.said.append("no more")
        return self._halves

    def finish(self) -> None:
        self.is_over.set()


def join(client: End, peer: End) -> Splice:
    return Splice(client, peer, (), (), lambda: 0.0)


async def test_one_direction_goes_on_after_the_other_has_ended() -> None:
    client, peer = End(), End()
    splice = join(client, peer)
    splice.to_peer.feed(b"question")
    splice.to_peer.source_ended()
    splice.to_client.feed(b"answer")
    assert (peer.said, client.said) == (["question", "no more"], ["answer"])
    assert not peer.is_over.is_set()
    splice.to_client.source_ended()
    assert client.said[-1] == "no more"
    assert peer.is_over.is_set()
    splice.end()


async def test_where_no_direction_ends_alone_both_end() -> None:
    client, peer = End(halves=False), End()
    join(client, peer).to_client.source_ended()
    assert peer.is_over.is_set()


async def test_what_is_silent_after_one_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENT_SECONDS", 0.2)
    peer = End()
    splice = join(End(), peer)
    splice.to_peer.source_ended()
    splice.to_client.feed(b"still here")
    splice._on_silence()
    assert not peer.is_over.is_set(), "something was said"
    async with asyncio.timeout(10):
        await peer.is_over.wait()
