"""What the processes of a relay tell each other, by way of the supervisor."""

from dataclasses import dataclass

from stunwire import TransportAddress

from turnrelay.core.addresses import ClientAddress, FiveTuple, ServerAddress, Transport


@dataclass(frozen=True, slots=True)
class WantReservation:
    """A client of the sender redeems a token that the receiver gave out."""

    to: int
    sender: int
    ticket: int
    token: str
    """In hexadecimal."""
    account: str


@dataclass(frozen=True, slots=True)
class GiveReservation:
    """The answer, with the descriptor of the relayed address."""

    to: int
    sender: int
    ticket: int
    token: str
    account: str
    client_host: str
    """Whose prefix it counts for."""


@dataclass(frozen=True, slots=True)
class NoReservation:
    """The other answer."""

    to: int
    sender: int
    ticket: int


@dataclass(frozen=True, slots=True)
class TookReservation:
    """The relayed address came, and is paid for."""

    to: int
    sender: int
    token: str


@dataclass(frozen=True, slots=True)
class GiveConnection:
    """A client's connection, with its descriptor; or one to the sender, who has the client's TLS."""

    to: int
    sender: int
    transport: str
    server: list[str | int]
    """Host and port."""
    client: list[str | int]
    request: str
    """What came by it and is to be answered, in hexadecimal."""

    @property
    def path(self) -> FiveTuple:
        server = ServerAddress(_address(self.server))
        return FiveTuple(Transport(self.transport), server, ClientAddress(_address(self.client)))


Letter = WantReservation | GiveReservation | NoReservation | TookReservation | GiveConnection


def _address(pair: list[str | int]) -> TransportAddress:
    host, port = pair
    return TransportAddress(str(host), int(port))
