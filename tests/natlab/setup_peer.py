"""One side of a connection that is set up against the clock: ours, or aioice with aiortc's DTLS.

    python setup_peer.py ours|aiortc dialer|listener STUN_URI TURN_URI USER PASSWORD OWN_SEED PEER_KEY

Lines of JSON go each way: `{"ready": true}` once everything is imported, `{"do": "go"}` to begin,
`{"signal": TEXT}` for the other side, `{"first": SECONDS}` when the first application message has come, by
the monotonic clock that all processes share. The dialer sends that message.
"""

import asyncio
import base64
import json
import sys
import time
from typing import Any

MESSAGE = b"the first message"


class Wire:
    """Standard input and output as a channel."""

    trickle = True

    def __init__(self) -> None:
        self._signals: asyncio.Queue[str] = asyncio.Queue()
        self._orders: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def open(self) -> None:
        reader = asyncio.StreamReader(limit=1 << 20)
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            told = json.loads(line)
            if "signal" in told:
                self._signals.put_nowait(told["signal"])
            else:
                self._orders.put_nowait(told)

    async def order(self) -> dict[str, Any]:
        """The next thing that is to be done."""
        return await self._orders.get()

    def tell(self, **values: Any) -> None:
        print(json.dumps(values), flush=True)

    def tell_text(self, text: str) -> None:
        self.tell(signal=text)

    async def text(self) -> str:
        return await self._signals.get()

    async def send(self, message: bytes) -> None:
        self.tell_text(base64.b64encode(message).decode())

    async def recv(self) -> bytes:
        return base64.b64decode(await self.text())


async def ours(
    wire: Wire, role: str, stun: str, turn: str, user: str, password: str, seed: str, peer: str
) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from peerpath import Contacts, Identity, PublicKey, Settings, Traversal

    identity = Identity(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)))
    key = PublicKey.parse(peer)
    servers = [stun, turn]
    nat = Traversal(
        identity, servers, username=user, password=password, settings=Settings(), authorize=Contacts([key])
    )
    wire.tell(ready=True)
    await wire.order()
    if role == "dialer":
        connection = await nat.connect(key, wire, timeout=20)
        await connection.send(MESSAGE)
        await asyncio.sleep(60)
    else:
        connection = await nat.accept(wire)
        assert await connection.recv() == MESSAGE
        wire.tell(first=time.monotonic())
        await asyncio.sleep(60)


async def aiortc(wire: Wire, role: str, stun: str, turn: str, user: str, password: str, *_: str) -> None:
    from aiortc import (
        RTCCertificate,
        RTCDtlsFingerprint,
        RTCDtlsParameters,
        RTCDtlsTransport,
        RTCIceGatherer,
        RTCIceParameters,
        RTCIceServer,
        RTCIceTransport,
    )
    from aiortc.sdp import candidate_from_sdp, candidate_to_sdp

    servers = [RTCIceServer(urls=stun), RTCIceServer(urls=turn, username=user, credential=password)]
    certificate = RTCCertificate.generateCertificate()
    wire.tell(ready=True)
    await wire.order()
    gatherer = RTCIceGatherer(iceServers=servers)
    ice = RTCIceTransport(gatherer)
    ice._connection.ice_controlling = role == "dialer"
    dtls = RTCDtlsTransport(ice, [certificate])

    async def tell() -> None:
        # aioice knows its candidates only all together.
        await gatherer.gather()
        parameters = gatherer.getLocalParameters()
        fingerprints = [[each.algorithm, each.value] for each in dtls.getLocalParameters().fingerprints]
        candidates = [candidate_to_sdp(candidate) for candidate in gatherer.getLocalCandidates()]
        ufrag, password = parameters.usernameFragment, parameters.password
        wire.tell_text(json.dumps([ufrag, password, fingerprints, candidates]))

    if role == "dialer":
        await tell()
        theirs = json.loads(await wire.text())
    else:
        theirs = json.loads(await wire.text())
        await tell()
    for line in theirs[3]:
        await ice.addRemoteCandidate(candidate_from_sdp(line))
    await ice.addRemoteCandidate(None)
    await ice.start(RTCIceParameters(usernameFragment=theirs[0], password=theirs[1]))
    if role == "listener":
        receiver = Receiver(wire)
        dtls._register_data_receiver(receiver)
    fingerprints = [RTCDtlsFingerprint(algorithm=algorithm, value=value) for algorithm, value in theirs[2]]
    # The one that answers is the DTLS client, as browsers have it (RFC 8842 section 5.3).
    dtls._set_role("server" if role == "dialer" else "client")
    await dtls.start(RTCDtlsParameters(fingerprints=fingerprints, role="auto"))
    if role == "dialer":
        await dtls._send_data(MESSAGE)
    await asyncio.sleep(60)


class Receiver:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def _handle_data(self, data: bytes) -> None:
        assert data == MESSAGE
        self._wire.tell(first=time.monotonic())


async def main() -> None:
    kind, role, *arguments = sys.argv[1:]
    wire = Wire()
    await wire.open()
    await (ours if kind == "ours" else aiortc)(wire, role, *arguments)


if __name__ == "__main__":
    asyncio.run(main())
