"""The machine of the random lives catches mistakes that the package once made, or could make."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import attrs
import pytest

from tests.engine.life import Net
from tests.engine.life_machine import live, send
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine import call, replay, resolver
from wxpay_async.engine.call import Call
from wxpay_async.engine.concurrency import ConcurrencyLimiter
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.turn import Turn
from wxpay_async.errors import AlreadyPaidError, NotExecutedError, NotSentError
from wxpay_async.policy import resolution, review
from wxpay_async.policy.record import LEASE, IdempotencyRecord
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


@pytest.mark.parametrize("queues", [False, True], ids=["one commit", "two commits"])
def test_machine_catches_a_lost_claim_that_is_not_released(
    monkeypatch: pytest.MonkeyPatch,
    queues: bool,  # noqa: FBT001 - a parameter
) -> None:
    """The answer to a claim gets lost, and its lease keeps everybody out.

    It may have been the reservation; where it was not, the repetition does not know its own.
    """
    monkeypatch.setattr(IdempotencyRecord, "_is_held_by", lambda *_: False)
    monkeypatch.setattr(Call, "_release_late_claim", release_nothing)

    with live() as life, pytest.raises(AssertionError, match="locked out by its own claim"):
        life.lose_answers_to_claims(name="refund", at=0, losses=1, queues=queues)


async def release_nothing(_: object, claim: asyncio.Future[object]) -> None:
    """Wait for the answer, and leave the claim as it is."""
    with contextlib.suppress(NotSentError):
        await claim


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


def test_machine_catches_a_reservation_that_takes_the_claim_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another process is sending, and what it holds is taken for one's own."""
    reserve = Call.reserve

    async def take(self: Call[object], fresh: IdempotencyRecord) -> IdempotencyRecord:
        stored = await reserve(self, fresh)
        if stored.state is State.SENDING and not self._claimed:
            self._claimed = await self.turn.take_now()
        return stored

    monkeypatch.setattr(Call, "reserve", take)

    with live() as life:
        send(life, "refund", Net.CRASH_DELAYED)
        send(life, "refund", Net.REFUSED)
        life.arrive(last=True)
        with pytest.raises(AssertionError, match="told RefusedError"):
            life.what_was_denied_never_happens()


def test_machine_catches_a_settled_operation_that_is_sent_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the reservation found is not looked at."""
    reserve = Call.reserve

    async def claim_anyway(self: Call[object], fresh: IdempotencyRecord) -> IdempotencyRecord:
        stored = await reserve(self, fresh)
        if not self._claimed:
            self._claimed = await self.turn.take_now()
            stored = fresh.with_claim(now=fresh.created_at, signed_at=1, lease=LEASE)
        return stored

    monkeypatch.setattr(Call, "reserve", claim_anyway)

    with live() as life:
        send(life, "refund", Net.ANSWERED)
        with pytest.raises(AssertionError, match="what is succeeded was sent"):
            send(life, "refund", Net.ANSWERED)


def test_machine_catches_a_reservation_that_overwrites(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store inserts what is to be claimed over what it knows."""
    reserve = MemoryStore.reserve

    async def overwrite(self: MemoryStore, record: IdempotencyRecord) -> IdempotencyRecord:
        if record.claim_token is not None:
            self._finished.pop(record.key, None)
            self._active[record.key] = record
        return await reserve(self, record)

    monkeypatch.setattr(MemoryStore, "reserve", overwrite)

    with live() as life:
        send(life, "refund", Net.LOST_AFTER)
        with pytest.raises(AssertionError, match="a reservation changed what was known"):
            send(life, "refund", Net.ANSWERED)


@pytest.mark.parametrize("part", ["slot", "place"])
def test_machine_catches_what_is_held_of_an_operation_that_was_known(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for the first attempt, and there is none."""
    keeping = {"slot": (Turn, "free_slot"), "place": (ConcurrencyLimiter, "release")}
    with live() as life:
        send(life, "refund", Net.ANSWERED)
        life.nothing_is_held_between_calls()
        monkeypatch.setattr(*keeping[part], keep_slot if part == "slot" else keep_place)
        send(life, "refund", Net.ANSWERED)
        with pytest.raises(AssertionError, match="held for nothing"):
            life.nothing_is_held_between_calls()


async def keep_slot(*_: object) -> None:
    """Give nothing back."""


def keep_place(*_: object, machine: bool = False) -> None:
    """Give nothing back."""


def test_machine_catches_a_lease_that_runs_while_its_call_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first attempt is claimed as it is reserved, and has to wait for its turn after all."""
    reserve = Call.reserve

    async def wait(self: Call[object], fresh: IdempotencyRecord) -> IdempotencyRecord:
        stored = await reserve(self, fresh)
        self._claimed = False
        return stored

    monkeypatch.setattr(Call, "reserve", wait)

    with live() as life:
        send(life, "refund", Net.ANSWERED)
        with pytest.raises(AssertionError, match="held for nothing"):
            life.nothing_is_held_between_calls()


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
