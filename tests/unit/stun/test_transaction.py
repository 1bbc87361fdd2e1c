"""Retransmission on a clock that is an argument (RFC 8489 sections 6.2.1 and 6.2.2)."""

import pytest
from stunwire import ClientTransaction, TransactionState

REQUEST, TRANSACTION_ID = b"request", bytes(12)


def drive(transaction: ClientTransaction, until: float = 1000) -> list[float]:
    """When it sends, if nobody answers."""
    sent = []
    while (now := transaction.next_deadline()) is not None and now <= until:
        transaction.handle_timeout(now)
        if transaction.poll_transmit(now) is not None:
            sent.append(now)
    return sent


def test_defaults_of_the_rfc():
    transaction = ClientTransaction(REQUEST, TRANSACTION_ID, 0)
    assert drive(transaction, until=39.4) == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert transaction.next_deadline() == 39.5
    assert transaction.state is TransactionState.PENDING
    transaction.handle_timeout(39.5)
    assert transaction.state is TransactionState.TIMED_OUT
    assert transaction.next_deadline() is None
    assert transaction.poll_transmit(40) is None
    assert transaction.transmissions == 7
    assert transaction.rtt is None


@pytest.mark.parametrize(
    ("options", "sent", "over"),
    [
        ({"rto": 0.1, "rc": 3, "rm": 4}, [10, 10.1, 10.3], 10.7),
        ({"rc": 1}, [10], 18),
        ({"reliable": True}, [10], 49.5),
        ({"reliable": True, "ti": 5, "rc": 7}, [10], 15),
    ],
)
def test_other_timers(options, sent, over):
    transaction = ClientTransaction(REQUEST, TRANSACTION_ID, 10, **options)
    assert drive(transaction, until=over - 0.001) == pytest.approx(sent)
    assert transaction.next_deadline() == pytest.approx(over)
    drive(transaction)
    assert transaction.state is TransactionState.TIMED_OUT


def test_each_transmission_is_handed_out_once():
    transaction = ClientTransaction(REQUEST, TRANSACTION_ID, 5)
    assert transaction.next_deadline() == 5
    assert transaction.poll_transmit(5) == REQUEST
    assert transaction.poll_transmit(5) is None
    transaction.handle_timeout(5.4)
    assert transaction.poll_transmit(5.4) is None
    transaction.handle_timeout(5.5)
    assert transaction.poll_transmit(5.5) == REQUEST
    assert transaction.transmissions == 2


def test_late_driver_does_not_send_a_burst():
    transaction = ClientTransaction(REQUEST, TRANSACTION_ID, 0)
    transaction.poll_transmit(0)
    transaction.handle_timeout(20)
    assert transaction.poll_transmit(20) == REQUEST
    assert transaction.poll_transmit(20) is None
    assert transaction.next_deadline() == 21


def test_timeouts_before_the_first_transmission_change_nothing():
    transaction = ClientTransaction(REQUEST, TRANSACTION_ID, 0)
    transaction.handle_timeout(100)
    assert transaction.state is TransactionState.PENDING
    assert transaction.poll_transmit(100) == REQUEST
    assert transaction.next_deadline() == 100.5


def test_rtt_of_an_answer_to_the_first_transmission():
    transaction = ClientTransaction(REQUEST, TRANSACTION_ID, 0)
    transaction.poll_transmit(1)
    transaction.complete(1.25)
    assert transaction.state is TransactionState.COMPLETED
    assert transaction.rtt == 0.25
    assert transaction.next_deadline() is None


def test_karn_no_rtt_after_a_retransmission():
    transaction = ClientTransaction(REQUEST, TRANSACTION_ID, 0)
    drive(transaction, until=0.5)
    transaction.complete(0.6)
    assert transaction.transmissions == 2
    assert transaction.rtt is None


def test_completed_is_final():
    transaction = ClientTransaction(REQUEST, TRANSACTION_ID, 0)
    transaction.complete()
    assert transaction.poll_transmit(0) is None
    transaction.handle_timeout(100)
    assert transaction.state is TransactionState.COMPLETED
    assert transaction.rtt is None


def test_answer_after_the_end_does_not_count():
    transaction = ClientTransaction(REQUEST, TRANSACTION_ID, 0, rc=1)
    drive(transaction)
    transaction.complete(50)
    assert transaction.state is TransactionState.TIMED_OUT
