"""One worker of a relay and its heir in the next one: what each does when their supervisors say so."""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress

from turnrelay.handover.estate import Estate
from turnrelay.handover.format import Written
from turnrelay.handover.inheritance import Inheritance
from turnrelay.handover.inventory import let_go, patience, samples, settle, take_inventory
from turnrelay.handover.wire import (
    FAILED,
    HOLDINGS,
    READY,
    RESTORED,
    SERVING,
    WRITTEN,
    Wire,
    WireError,
    until_readable,
)
from turnrelay.policy.errors import OperatorError

_SAY_SECONDS = 5.0
_WORD_SECONDS = 600.0
"""More than supervisors give each other: a worker alone cannot know which of the two relays serves."""
_HOLDINGS_SECONDS = 120.0


async def write_down(estate: Estate, word: Wire, wire: Wire) -> bool:
    """Sends what clients have to the heir, and waits for the supervisor's word, which is the answer: whether
    the heir has it all now. WireError if there is no word."""
    await settle(estate)
    try:
        inventory = take_inventory(estate)
        holdings = inventory.holdings
        seconds = patience(len(holdings.allocations))
        wire.send(HOLDINGS, holdings.model_dump_json().encode(), inventory.descriptors, seconds=seconds)
        written = Written(
            figures=samples(estate.metrics.registry),
            allocations=len(inventory.allocations),
            connections=len(inventory.connections),
        )
        word.send(WRITTEN, written.model_dump_json().encode(), seconds=_SAY_SECONDS)
    except Exception as error:  # whatever it is, this worker goes on, and the upgrade does not
        _tell_failed(word, error)
        return False
    if word.receive(seconds=_WORD_SECONDS)[0] != SERVING:
        return False
    let_go(estate, inventory)
    return True


class Heir:
    """Whatever fails before the word ends this process, and the other worker goes on."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        """Those of `workers.messages.GoOn`."""
        word, wire, *maps = descriptors
        self._word = Wire(socket.socket(fileno=word))
        self._wire_sock = socket.socket(fileno=wire)
        self._maps = maps
        self._inheritance: Inheritance | None = None
        self.serves = False
        """Whether what there is is this worker's."""

    async def receive(self, supervisor_gone: asyncio.Event) -> None:
        """Until what clients have is here; OperatorError says why it does not come."""
        self._word.send(READY, seconds=_SAY_SECONDS)
        coming = asyncio.ensure_future(until_readable(self._wire_sock, _HOLDINGS_SECONDS))
        gone = asyncio.ensure_future(supervisor_gone.wait())
        await asyncio.wait((coming, gone), return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            coming.cancel()
            raise OperatorError("the supervisor is gone")
        gone.cancel()
        try:
            await coming
            kind, body, descriptors = Wire(self._wire_sock).receive(seconds=_HOLDINGS_SECONDS)
        except (TimeoutError, WireError) as error:
            raise OperatorError(f"the other worker hands nothing over: {error}") from None
        if kind != HOLDINGS:
            raise OperatorError(f"the other worker says {kind} where {HOLDINGS} is expected")
        self._inheritance = Inheritance(body, descriptors)
        self._wire_sock.close()

    async def go_on(self, estate: Estate) -> None:
        """Takes it, and waits for the word that this relay serves. The relay listens, and reads nothing
        before."""
        inheritance = self._inheritance
        assert inheritance is not None  # receive() comes first
        inheritance.restore(estate)
        try:
            self._word.send(RESTORED, seconds=_SAY_SECONDS)
            kind, _, _ = self._word.receive(seconds=_WORD_SECONDS)
        except WireError as error:
            raise OperatorError(str(error)) from None
        if kind != SERVING:
            raise OperatorError("the other relay goes on")
        self.serves = True
        self._word.close()
        await inheritance.connect(estate)
        for counters in self._maps:
            inheritance.count_moved(estate, counters)
            os.close(counters)

    def tell_failed(self, reason: BaseException) -> None:
        _tell_failed(self._word, reason)


def _tell_failed(word: Wire, reason: BaseException) -> None:
    text = str(reason) if isinstance(reason, WireError | OperatorError) else repr(reason)
    with suppress(WireError):  # the supervisor sees that this process ends
        word.send(FAILED, text.encode(), seconds=_SAY_SECONDS)
