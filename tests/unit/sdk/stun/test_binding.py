"""BindingRequests: which answers count, and what silence means."""

import pytest
from peerpath.stun.binding import (
    BindingAnswer,
    BindingFailure,
    BindingOptions,
    BindingRequests,
    Send,
    Settled,
)
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
    Attribute,
    ChangeRequest,
    Integrity,
    Message,
    MessageClass,
    Method,
    TransportAddress,
)

SERVER = TransportAddress("198.51.100.1", 3478)
ELSEWHERE = TransportAddress("198.51.100.2", 3479)
MAPPED = TransportAddress("203.0.113.7", 41000)


def asked(**options):
    requests = BindingRequests()
    ticket, [send] = requests.ask(SERVER, 0, BindingOptions(**options))
    assert send.to == SERVER
    return requests, ticket, Message.decode(send.data)


def success(request, mapped=MAPPED):
    return Message.success_to(request).add(XOR_MAPPED_ADDRESS, mapped)


def test_an_answer():
    requests, ticket, request = asked()
    response = success(request).add(SOFTWARE, "a server").add(OTHER_ADDRESS, ELSEWHERE)
    response.add(RESPONSE_ORIGIN, SERVER)

    [settled] = requests.receive(response.encode(), SERVER, 0.04)
    assert settled == Settled(
        ticket, BindingAnswer(MAPPED, SERVER, SERVER, 0.04, 0.04, SERVER, ELSEWHERE, "a server")
    )
    assert requests.next_deadline() is None


def test_mapped_address_of_an_old_server_will_do():
    requests, _, request = asked()
    response = Message.success_to(request).add(MAPPED_ADDRESS, MAPPED)
    response.add(Attribute.opaque(0x0004, "SOURCE-ADDRESS"), bytes(8))

    assert requests.receive(response.encode(), SERVER, 0)[0].result.mapped == MAPPED


@pytest.mark.parametrize(
    "make",
    [
        lambda request: b"",
        lambda request: b"\xff" * 28,
        lambda request: success(Message(MessageClass.REQUEST, Method.BINDING)).encode(),
        lambda request: success(
            Message(MessageClass.REQUEST, Method.ALLOCATE, request.transaction_id)
        ).encode(),
        lambda request: request.encode(),
        lambda request: Message(MessageClass.INDICATION, Method.BINDING, request.transaction_id).encode(),
    ],
)
def test_what_is_no_answer_is_dropped(make):
    requests, _, request = asked()

    assert requests.receive(make(request), SERVER, 0) == []
    assert requests.next_deadline() == 0.5


def test_an_answer_from_somebody_else_is_not_believed_and_explains_the_silence():
    requests, _, request = asked()
    assert requests.receive(success(request).encode(), ELSEWHERE, 0) == []

    [*_, settled] = run_out(requests)
    assert settled.result == BindingFailure("an answer came from 198.51.100.2 port 3479 instead")


def test_with_change_request_an_answer_from_elsewhere_is_the_point():
    requests, _, request = asked(change=ChangeRequest(True, True))
    assert request.get(CHANGE_REQUEST) == (True, True)

    [settled] = requests.receive(success(request).encode(), ELSEWHERE, 0)
    assert settled.result.source == ELSEWHERE
    assert settled.result.server == SERVER


def test_an_agreed_fingerprint_is_sent_and_wanted():
    requests, _, request = asked(fingerprint=True)
    assert request.has_fingerprint

    assert requests.receive(success(request).encode(), SERVER, 0) == []
    assert len(requests.receive(success(request).encode(fingerprint=True), SERVER, 0)) == 1


def test_an_agreed_password_seals_both_ways():
    requests, _, request = asked(username="a:b", password="secret")
    assert request.get(USERNAME) == "a:b"
    assert request.verify(b"secret", Integrity.SHA1)

    assert requests.receive(success(request).encode(), SERVER, 0) == []
    assert requests.receive(success(request).encode(b"wrong"), SERVER, 0) == []
    assert len(requests.receive(success(request).encode(b"secret"), SERVER, 0)) == 1


def error(code, *attributes):
    def make(request):
        message = Message.error_to(request, code)
        for attribute, value in attributes:
            message.add(attribute, value)
        return message

    return make


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (error(420), BindingFailure("420 Unknown Attribute", 420)),
        (error(300, (ALTERNATE_SERVER, ELSEWHERE)), BindingFailure("300 Try Alternate", 300, ELSEWHERE)),
        (Message.success_to, BindingFailure("the answer holds no address", 0)),
        (
            lambda request: success(request).add(Attribute.opaque(0x7F00, "NEW"), b""),
            BindingFailure("the answer holds attributes that are not known here", 0),
        ),
        (
            lambda request: Message(MessageClass.ERROR_RESPONSE, Method.BINDING, request.transaction_id),
            BindingFailure("an error response without a code", 0),
        ),
    ],
)
def test_failures(make, expected):
    requests, _, request = asked()
    response = make(request)
    assert response.get(ERROR_CODE) is None or expected.code

    [settled] = requests.receive(response.encode(), SERVER, 0)
    assert settled.result == expected
    assert not settled.result.silence


def run_out(requests):
    outputs = []
    while (deadline := requests.next_deadline()) is not None:
        outputs += requests.handle_timeout(deadline)
    return outputs


def test_silence_takes_as_long_as_the_rfc_says():
    requests, ticket, _ = asked()
    outputs = run_out(requests)

    assert len([output for output in outputs if isinstance(output, Send)]) == 6
    assert outputs[-1] == Settled(ticket, BindingFailure("no answer"))
    assert outputs[-1].result.silence


def test_several_questions_at_once_each_get_their_own_answer():
    requests = BindingRequests()
    asked = [requests.ask(server, 0) for server in (SERVER, ELSEWHERE)]
    decoded = [Message.decode(send.data) for _, [send] in asked]

    [second] = requests.receive(success(decoded[1]).encode(), ELSEWHERE, 1)
    [first] = requests.receive(success(decoded[0]).encode(), SERVER, 2)
    assert [first.ticket, second.ticket] == [ticket for ticket, _ in asked]


def test_a_cancelled_question_is_forgotten():
    requests, ticket, request = asked()
    requests.cancel(ticket)

    assert requests.next_deadline() is None
    assert requests.receive(success(request).encode(), SERVER, 0) == []


def test_the_attributes_of_rfc_5780():
    _, _, request = asked(response_port=4000, padding=1500)
    assert request.get(RESPONSE_PORT) == 4000
    assert len(request.get(PADDING)) == 1500
