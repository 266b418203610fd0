"""The machine of the random lives catches mistakes that the package once made, or could make."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import pytest

from tests.engine.life import Net
from tests.engine.life_machine import live, send
from wxpay_async.engine import call, replay, resolver
from wxpay_async.engine.call import Call
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import AlreadyPaidError, NotExecutedError
from wxpay_async.policy import resolution, review
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State, Transition
from wxpay_async.protocol.notify import Notification, Notifications


@pytest.mark.parametrize("operation", ["refund", "trade"])
def test_machine_catches_a_refusal_that_is_taken_for_absence(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform is busy when it is asked about an operation whose answer got lost."""
    monkeypatch.setattr(resolver, "says_absent", lambda *_: True)

    with live(in_process=True) as life:
        send(life, operation, Net.LOST_AFTER, Net.BUSY)
        for seconds in (601.0, 61.0):
            life.wait(seconds=seconds)
            life.processes[0].asked = Net.BUSY
            purchase = life.purchases[operation]
            outcome = life.runner.run(life.processes[0].gateway.resolve(purchase.request_id))
        assert isinstance(outcome.error, NotExecutedError)
        with pytest.raises(AssertionError, match="not_executed"):
            life.records_agree_with_the_platform()


def test_machine_catches_a_claim_that_does_not_know_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer to a claim gets lost, and the repetition waits for the end of its own lease."""
    monkeypatch.setattr(IdempotencyRecord, "_is_held_by", lambda *_: False)
    monkeypatch.setattr(Call, "_find_lost_claim", find_nothing)

    with live() as life, pytest.raises(AssertionError, match="locked out by its own claim"):
        life.lose_answers_to_claims(name="refund", at=0, losses=1)


async def find_nothing(_: object) -> None:
    """Find no claim, as a call does that has no token to look for."""


def test_machine_catches_a_claim_of_another_that_is_taken_for_ones_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process gets what another one has claimed, and there are two senders."""
    monkeypatch.setattr(
        IdempotencyRecord, "_is_held_by", lambda self, *_: self.state is State.SENDING
    )

    with live() as life:
        life.crash_after_claiming(name="refund", at=0)
        with pytest.raises(AssertionError, match="a claim of another was found"):
            send(life, "refund", Net.ANSWERED)


def test_machine_catches_a_forged_callback_that_is_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An unsigned callback says that a refund was made that never arrived."""
    read = Notifications.parse

    def believe(self: Notifications, headers: Mapping[str, str], body: bytes) -> Notification:
        return attrs.evolve(read(self, headers, body), authentic=True, fresh=True)

    monkeypatch.setattr(Notifications, "parse", believe)

    with live() as life:
        send(life, "refund", Net.LOST_BEFORE)
        life.hear_a_forger(name="refund", at=0, asked=Net.ANSWERED, well=True)
        with pytest.raises(AssertionError, match="succeeded"):
            life.records_agree_with_the_platform()


async def settle_nothing(*_: object) -> int:
    """Do what was done before callbacks settled anything."""
    return 0


def test_machine_catches_a_callback_that_leaves_open_what_it_tells_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The platform says that the refund was made, and its record waits for a query."""
    monkeypatch.setattr(PayGateway, "apply_notification", settle_nothing)

    with live() as life:
        send(life, "refund", Net.LOST_AFTER)
        with pytest.raises(AssertionError, match="heard of, and left open"):
            life.hear_of_a_refund(name="refund", at=0, asked=Net.ANSWERED)


def test_machine_catches_an_issued_payment_that_is_called_paid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reply with the credential does not open any more, and the order is called paid."""
    paid = AlreadyPaidError("the order is paid")
    monkeypatch.setattr(replay, "error_without_reply", lambda _: paid)

    with live() as life:
        send(life, "pay", Net.ANSWERED)
        life.lose_key(name="pay")
        with pytest.raises(AssertionError, match="told paid, and is not"):
            send(life, "pay", Net.ANSWERED)


def test_machine_catches_a_refusal_of_the_configuration_that_sticks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bad signature is taken for the platform's word about the refund."""
    monkeypatch.setattr(call, "transition_for", lambda _: Transition.REFUSED)

    with live() as life:
        send(life, "refund", Net.BAD_SIGNATURE)
        with pytest.raises(AssertionError, match="a passing refusal sticks"):
            life.records_agree_with_the_platform()


def test_machine_catches_a_conflict_by_one_deviating_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One query names another amount, and the operation is a conflict."""
    monkeypatch.setattr(resolution, "SEEN_APART", 0.0)

    with live() as life:
        send(life, "refund", Net.LOST_AFTER, Net.OTHER_AMOUNT)
        with pytest.raises(AssertionError, match="conflict"):
            life.records_agree_with_the_platform()


def test_machine_catches_a_person_who_settles_what_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A person says "not executed" of a refund that is still on its way."""
    monkeypatch.setattr(review, "REVIEW", frozenset(State))

    with live() as life:
        send(life, "refund", Net.DELAYED)
        with pytest.raises(AssertionError, match="a person settled what is open"):
            life.judge_by_person(name="refund", at=0, asked=Net.LOST_BEFORE)
