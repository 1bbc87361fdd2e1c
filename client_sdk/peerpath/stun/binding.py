"""BindingRequests: the sans-IO core of the STUN client (RFC 8489 section 6, RFC 5780 section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from stunwire import (
    ALTERNATE_SERVER,
    CHANGE_REQUEST,
    ERROR_CODE,
    MAPPED_ADDRESS,
    OTHER_ADDRESS,
    PADDING,
    RESPONSE_ORIGIN,
    RESPONSE_PORT,
    SOFTWARE,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    ChangeRequest,
    ClientTransaction,
    DecodeError,
    ErrorCode,
    Message,
    MessageClass,
    Method,
    TransactionState,
    TransportAddress,
    short_term_key,
)

# What RFC 3489 put into responses: RESPONSE-ADDRESS, SOURCE-ADDRESS, CHANGED-ADDRESS, REFLECTED-FROM. Old
# servers still do, beside what is needed, and it does no harm.
_OBSOLETE = frozenset((0x0002, 0x0004, 0x0005, 0x000B))


@dataclass(frozen=True, slots=True)
class BindingOptions:
    """How to ask. The retransmission figures are those of RFC 8489 section 6.2.1."""

    change: ChangeRequest | None = None
    """Answer from the other address, the other port, or both (RFC 5780 section 7.2)."""
    response_port: int | None = None
    """Answer to this port of ours (RFC 5780 section 7.5)."""
    padding: int = 0
    """Bytes of PADDING, to see whether fragments pass (RFC 5780 section 7.6)."""
    fingerprint: bool = False
    """Agreed: sent, and a response without it is not believed."""
    username: str | None = None
    password: str | None = None
    """Agreed short-term credentials (RFC 8489 section 9.1): a response not sealed with it is not believed."""
    rto: float = 0.5
    rc: int = 7
    rm: float = 16


@dataclass(frozen=True, slots=True)
class BindingAnswer:
    """What a server said of us."""

    mapped: TransportAddress
    """Where our packet came from, as the server saw it."""
    server: TransportAddress
    """Whom we asked."""
    source: TransportAddress
    """Who answered: somebody else only where CHANGE-REQUEST asked for that."""
    seen_at: float
    """Seconds of the caller's clock."""
    round_trip: float | None = None
    """Seconds; None after a retransmission, when nobody can tell."""
    origin: TransportAddress | None = None
    """RESPONSE-ORIGIN: what the server takes its own address to be."""
    other: TransportAddress | None = None
    """OTHER-ADDRESS: its second address and port. With it RFC 5780 discovery is possible."""
    software: str = ""


@dataclass(frozen=True, slots=True)
class BindingFailure:
    """Why there is no answer. `code` is the server's error code, None when the server said nothing."""

    reason: str
    code: int | None = None
    alternate: TransportAddress | None = None
    """Ask this server instead (300, RFC 8489 section 10)."""

    @property
    def silence(self) -> bool:
        return self.code is None


@dataclass(frozen=True, slots=True)
class Send:
    """One datagram, or one message on the stream."""

    data: bytes
    to: TransportAddress


@dataclass(frozen=True, slots=True)
class Settled:
    """The request known as `ticket` is over."""

    ticket: bytes
    result: BindingAnswer | BindingFailure


Output = Send | Settled


@dataclass(slots=True)
class _Question:
    server: TransportAddress
    options: BindingOptions
    transaction: ClientTransaction
    distrusted: str = ""
    """Why a response that came was not believed; it would explain a silence."""


class BindingRequests:
    """Binding requests from one socket. Tickets are transaction IDs; every method returns what to do."""

    def __init__(self, *, reliable: bool = False) -> None:
        self._reliable = reliable
        self._questions: dict[bytes, _Question] = {}

    def ask(
        self, server: TransportAddress, now: float, options: BindingOptions | None = None
    ) -> tuple[bytes, list[Output]]:
        """Begins a request. Its end is a `Settled` with the ticket returned here."""
        options = options or BindingOptions()
        message = binding_request(options)
        key = None if options.password is None else short_term_key(options.password)
        data = message.encode(key, fingerprint=options.fingerprint)
        transaction = ClientTransaction(
            data,
            message.transaction_id,
            now,
            rto=options.rto,
            rc=options.rc,
            rm=options.rm,
            reliable=self._reliable,
        )
        question = _Question(server, options, transaction)
        self._questions[message.transaction_id] = question
        return message.transaction_id, self._transmit(question, now)

    def cancel(self, ticket: bytes) -> None:
        """Nobody waits for this one any more."""
        self._questions.pop(ticket, None)

    def receive(self, data: bytes, source: TransportAddress, now: float) -> list[Output]:
        """Whatever came in. What answers no question of ours is dropped."""
        try:
            message = Message.decode(data)
        except DecodeError:
            return []
        ticket = message.transaction_id
        question = self._questions.get(ticket)
        if question is None or message.method != Method.BINDING:
            return []
        if message.message_class not in (MessageClass.SUCCESS_RESPONSE, MessageClass.ERROR_RESPONSE):
            return []
        doubt = _doubt(message, source, question)
        if doubt:
            # As if it had never come (section 6.3.3): the true answer may still be on its way.
            question.distrusted = doubt
            return []
        question.transaction.complete(now)
        del self._questions[ticket]
        return [Settled(ticket, _read(message, source, question, now))]

    def next_deadline(self) -> float | None:
        deadlines = [question.transaction.next_deadline() for question in self._questions.values()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_timeout(self, now: float) -> list[Output]:
        """Retransmits what is due, and gives up what has waited long enough."""
        outputs: list[Output] = []
        for ticket, question in list(self._questions.items()):
            question.transaction.handle_timeout(now)
            outputs += self._transmit(question, now)
            if question.transaction.state is TransactionState.TIMED_OUT:
                del self._questions[ticket]
                outputs.append(Settled(ticket, BindingFailure(question.distrusted or "no answer")))
        return outputs

    def _transmit(self, question: _Question, now: float) -> list[Output]:
        data = question.transaction.poll_transmit(now)
        return [] if data is None else [Send(data, question.server)]


def binding_request(options: BindingOptions, transaction_id: bytes | None = None) -> Message:
    """The request that `options` describe, not yet sealed."""
    message = Message(MessageClass.REQUEST, Method.BINDING, transaction_id)
    if options.username is not None:
        message.add(USERNAME, options.username)
    if options.change is not None:
        message.add(CHANGE_REQUEST, options.change)
    if options.response_port is not None:
        message.add(RESPONSE_PORT, options.response_port)
    if options.padding:
        message.add(PADDING, bytes(options.padding))
    return message


def mapped_address(message: Message) -> TransportAddress | None:
    """XOR-MAPPED-ADDRESS, or MAPPED-ADDRESS of a server that predates RFC 5389."""
    return message.get(XOR_MAPPED_ADDRESS) or message.get(MAPPED_ADDRESS)


def _doubt(message: Message, source: TransportAddress, question: _Question) -> str:
    """Why this is not the response that was asked for; "" when it is."""
    options = question.options
    if options.change is None and source != question.server:
        return f"an answer came from {source.host} port {source.port} instead"
    if options.fingerprint and not message.has_fingerprint:
        return "the answer lacks the FINGERPRINT that was agreed on"
    if options.password is not None:
        integrity = message.integrity
        if integrity is None or not message.verify(short_term_key(options.password), integrity):
            return "the answer is not sealed with the password that was agreed on"
    return ""


def _read(
    message: Message, source: TransportAddress, question: _Question, now: float
) -> BindingAnswer | BindingFailure:
    if message.message_class is MessageClass.ERROR_RESPONSE:
        error = message.get(ERROR_CODE)
        if error is None:
            return BindingFailure("an error response without a code", 0)
        alternate = message.get(ALTERNATE_SERVER) if error.code == ErrorCode.TRY_ALTERNATE else None
        return BindingFailure(f"{error.code} {error.reason}".strip(), error.code, alternate)
    if not _OBSOLETE.issuperset(message.unknown_required):
        # Section 6.3.3: an answer that cannot be understood means that the transaction has failed.
        return BindingFailure("the answer holds attributes that are not known here", 0)
    mapped = mapped_address(message)
    if mapped is None:
        return BindingFailure("the answer holds no address", 0)
    return BindingAnswer(
        mapped,
        question.server,
        source,
        now,
        question.transaction.rtt,
        message.get(RESPONSE_ORIGIN),
        message.get(OTHER_ADDRESS),
        message.get(SOFTWARE) or "",
    )
