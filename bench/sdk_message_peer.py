"""One end of a conversation that is measured: a peerpath Connection, or a data channel of aiortc.

    python sdk_message_peer.py peerpath|aiortc sender|receiver OWN_SEED PEER_KEY

Lines of JSON go each way, as natlab.setup_peer has them: `{"connected": true}` once there is one, then for
each order `{"size": BYTES, "seconds": S, "batch": COUNT}` the sender tells `{"sent": COUNT, "began": MOMENT}`
and the receiver, when the last message has come, `{"received": COUNT, "ended": MOMENT}`. Messages are
numbered, and one out of turn ends the receiver. After each batch of them the sender waits for a message back;
with none it waits only for room. A message of one byte is the last.
"""

import asyncio
import json
import sys
import time
from contextlib import nullcontext
from typing import Protocol

from natlab.setup_peer import Wire

from bench.sdk_layers import Sampler

LAST, BATCH_TAKEN = b".", b"!"
_BUFFERED = 262_144
"""Bytes that wait in a data channel before its sender does. Tried with messages of 100 bytes from 16 KiB to
1 MiB: from 64 KiB on they differ by less than their rounds do."""


class Conversation(Protocol):
    async def send(self, message: bytes) -> None:
        """Reliably and in order; waits where too much is on its way."""

    async def recv(self) -> bytes: ...


class DataChannel:
    """A data channel of aiortc, which calls back, as something to wait for."""

    def __init__(self, channel: "RTCDataChannel") -> None:  # noqa: F821 - one process imports one library
        self._channel = channel
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()
        self._has_room = asyncio.Event()
        channel.bufferedAmountLowThreshold = _BUFFERED // 2
        channel.on("message", self._messages.put_nowait)
        channel.on("bufferedamountlow", self._has_room.set)

    async def send(self, message: bytes) -> None:
        while self._channel.bufferedAmount > _BUFFERED:
            self._has_room.clear()
            await self._has_room.wait()
        self._channel.send(message)

    async def recv(self) -> bytes:
        return await self._messages.get()


async def peerpath(wire: Wire, role: str, seed: str, peer: str) -> Conversation:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from peerpath import Contacts, Identity, PublicKey, Settings, Traversal

    identity = Identity(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)))
    key = PublicKey.parse(peer)
    nat = Traversal(identity, settings=Settings(port_mapping=False), authorize=Contacts([key]))
    return await (nat.connect(key, wire, timeout=20) if role == "sender" else nat.accept(wire))


async def aiortc(wire: Wire, role: str, *_: str) -> Conversation:
    from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription

    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    opened: asyncio.Future[RTCDataChannel] = asyncio.get_running_loop().create_future()

    async def tell() -> None:
        described = connection.localDescription
        wire.tell_text(json.dumps([described.sdp, described.type]))

    if role == "sender":
        channel = connection.createDataChannel("bench")
        channel.on("open", lambda: opened.set_result(channel))
        await connection.setLocalDescription(await connection.createOffer())
        await tell()
        await connection.setRemoteDescription(RTCSessionDescription(*json.loads(await wire.text())))
    else:
        connection.on("datachannel", opened.set_result)
        await connection.setRemoteDescription(RTCSessionDescription(*json.loads(await wire.text())))
        await connection.setLocalDescription(await connection.createAnswer())
        await tell()
    return DataChannel(await opened)


async def send(conversation: Conversation, size: int, seconds: float, batch: int) -> dict[str, float]:
    rest = bytes(size - 8)
    sent, began = 0, time.monotonic()
    while time.monotonic() < began + seconds:
        await conversation.send(sent.to_bytes(8) + rest)
        sent += 1
        if batch and sent % batch == 0:
            await conversation.recv()
    await conversation.send(LAST)
    return {"sent": sent, "began": began}


async def receive(conversation: Conversation, size: int, batch: int) -> dict[str, float]:
    received = 0
    while (message := await conversation.recv()) != LAST:
        if len(message) != size or int.from_bytes(message[:8]) != received:
            sys.exit(f"message {received} is not what was sent")
        received += 1
        if batch and received % batch == 0:
            await conversation.send(BATCH_TAKEN)
    return {"received": received, "ended": time.monotonic()}


async def main() -> None:
    kind, role, *arguments = sys.argv[1:]
    wire = Wire()
    await wire.open()
    conversation = await (peerpath if kind == "peerpath" else aiortc)(wire, role, *arguments)
    wire.tell(connected=True)
    while True:
        order = await wire.order()
        sampler = Sampler() if order.pop("sampled") else None
        with sampler or nullcontext():
            if role == "sender":
                told = await send(conversation, **order)
            else:
                told = await receive(conversation, order["size"], order["batch"])
        wire.tell(**told, **({"layers": sampler.shares()} if sampler else {}))


if __name__ == "__main__":
    asyncio.run(main())
