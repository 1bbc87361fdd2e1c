"""Two connections, and the links and the network between them."""

from __future__ import annotations

import asyncio
from random import Random

from peerpath.connection import Connection, ConnectionOptions
from peerpath.identity import Identity
from peerpath.quic import LinkOptions, LinkRole, SecureLink

ALICE, BOB = Identity.generate(), Identity.generate()


class Couple:
    """Alice and Bob. `link` gives them a new link; packets take `delay`, and only those that get through."""

    def __init__(
        self,
        *,
        loss: float = 0.0,
        duplicates: float = 0.0,
        jitter: float = 0.0,
        delay: float = 0.01,
        options: ConnectionOptions | None = None,
        bobs_options: ConnectionOptions | None = None,
        link_options: LinkOptions | None = None,
        seed: int = 1,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.alice = Connection(BOB.public_key, options=options)
        self.bob = Connection(ALICE.public_key, options=bobs_options or options)
        self.loss, self.duplicates, self.jitter, self.delay = loss, duplicates, jitter, delay
        self.link_options = link_options
        self.is_cut = False
        self._random = Random(seed)

    def link(self) -> tuple[SecureLink, SecureLink]:
        """A new link for both."""
        now = self.loop.time()
        dialer = SecureLink(LinkRole.DIALER, ALICE, BOB.public_key, now=now, options=self.link_options)
        listener = SecureLink(LinkRole.LISTENER, BOB, ALICE.public_key, now=now, options=self.link_options)
        self.bob.attach(listener, lambda data: self._carry(self.alice, data))
        self.alice.attach(dialer, lambda data: self._carry(self.bob, data))
        return dialer, listener

    async def connected(self) -> Couple:
        self.link()
        await asyncio.gather(self.alice.wait_connected(), self.bob.wait_connected())
        return self

    def break_link(self, reason: str = "the path is gone") -> None:
        """Both owners find that the link is dead; what is under way is lost with it."""
        self.alice.interrupt(reason)
        self.bob.interrupt(reason)

    def _carry(self, to: Connection, data: bytes) -> None:
        if self.is_cut:
            return
        copies = 0 if self._random.random() < self.loss else 1
        copies += self._random.random() < self.duplicates
        for _ in range(copies):
            self.loop.call_later(self.delay + self._random.uniform(0, self.jitter), to.receive, data)
