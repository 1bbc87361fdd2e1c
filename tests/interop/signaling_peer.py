"""A peer in a process of its own: dials or answers by a rendezvous, and prints what it heard.

python signaling_peer.py answer URL KEY-FILE
python signaling_peer.py dial URL KEY-FILE PEER
"""

import asyncio
import sys
import time

from peerpath.identity import Identity, PublicKey
from peerpath.signaling import Answering, Dialing, PeerAbsent, Rendezvous, ReplayGuard


async def answer(url: str, identity: Identity) -> None:
    async with Rendezvous(url, identity) as rendezvous:
        async for _, channel in rendezvous.incoming():
            answering = Answering.open_offer(identity, await channel.recv(), ReplayGuard(), now=time.time())
            await channel.send(answering.seal("answer", {"heard": answering.body}))
            for _ in range(20):
                kind, body = answering.open(await channel.recv())
                await channel.send(answering.seal(kind, body))
            print(f"answered {answering.peer}")
            return


async def dial(url: str, identity: Identity, peer: PublicKey) -> None:
    async with Rendezvous(url, identity) as rendezvous:
        channel = rendezvous.channel(peer)
        dialing = Dialing(identity, peer, now=time.time())
        offer = dialing.seal("offer", {"candidates": ["x" * 5000]})
        while True:
            try:
                await channel.send(offer)
                break
            except PeerAbsent:
                await asyncio.sleep(0.1)
        kind, body = dialing.open(await channel.recv())
        assert (kind, len(body["heard"]["candidates"][0])) == ("answer", 5000)
        for number in range(20):
            await channel.send(dialing.seal("echo", {"n": number}))
            assert dialing.open(await channel.recv()) == ("echo", {"n": number})
        print(f"reached {peer}")


if __name__ == "__main__":
    part, url, key_file, *peer = sys.argv[1:]
    identity = Identity.load(key_file)
    if part == "answer":
        asyncio.run(answer(url, identity))
    else:
        asyncio.run(dial(url, identity, PublicKey.parse(peer[0])))
