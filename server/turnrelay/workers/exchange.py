"""Exchange: what this process and the others have to do with each other, as letters with descriptors."""

import os
import socket
from collections.abc import Callable, Sequence

from turnrelay.core.outputs import (
    AskForReservation,
    GiveReservation,
    OutputToProcess,
    PassConnection,
    RefuseReservation,
)
from turnrelay.core.protocols import Lease
from turnrelay.transports.driver import Driver
from turnrelay.transports.listeners import Listeners
from turnrelay.transports.stream import Given
from turnrelay.workers import letters

Post = Callable[[letters.Letter, Sequence[socket.socket]], None]
"""Takes a letter on its way, with copies of the sockets' descriptors. It may get lost with its receiver."""


class Exchange:
    """The way to the other processes for the driver (`transports.driver.OtherProcesses`), and back."""

    def __init__(
        self,
        member: int,
        driver: Driver,
        listeners: Listeners,
        lease: Callable[[str, str], Lease],
        post: Post,
    ) -> None:
        """`lease` takes over what another process pays, for an account and a client host."""
        self._member = member
        self._driver = driver
        self._listeners = listeners
        self._lease = lease
        self._post = post

    def tell(self, output: OutputToProcess, sock: socket.socket | None = None) -> None:
        self._post(self._letter(output), [] if sock is None else [sock])
        if sock is not None:
            sock.close()

    def receive(self, letter: letters.Letter, descriptors: Sequence[int]) -> None:
        """Owns the descriptors."""
        driver = self._driver
        match letter, descriptors:
            case letters.WantReservation(_, sender, ticket, token, account), []:
                driver.reservation_wanted(sender, ticket, bytes.fromhex(token), account)
            case letters.GiveReservation(_, sender, ticket, token, account, client_host), [descriptor]:
                lease = self._lease(account, client_host)
                driver.reservation_came(ticket, socket.socket(fileno=descriptor), account, lease)
                self._post(letters.TookReservation(sender, self._member, token), [])
            case letters.NoReservation(_, _, ticket), []:
                driver.reservation_missing(ticket)
            case letters.TookReservation(_, _, token), []:
                driver.reservation_taken(bytes.fromhex(token))
            case letters.GiveConnection(request=request), [descriptor]:
                given = Given(letter.path, bytes.fromhex(request))
                self._listeners.given.add(socket.socket(fileno=descriptor), given)
            case _:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _letter(self, output: OutputToProcess) -> letters.Letter:
        match output:
            case AskForReservation(member, ticket, token, account):
                return letters.WantReservation(member, self._member, ticket, token.hex(), account)
            case GiveReservation(member, ticket, token, _, account, host):
                return letters.GiveReservation(member, self._member, ticket, token.hex(), account, host)
            case RefuseReservation(member, ticket):
                return letters.NoReservation(member, self._member, ticket)
            case PassConnection((transport, server, client), member, request):
                return letters.GiveConnection(
                    member, self._member, transport.value, [*server], [*client], request.hex()
                )
