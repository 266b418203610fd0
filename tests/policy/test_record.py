"""What a claim, an attempt, a lapsed lease and another write make of a record."""

from __future__ import annotations

import gc

import attrs
import pytest

from tests.support.records import EVERY_FIELD, make_fingerprint, make_record
from wxpay_async.policy.record import LEASE, IdempotencyRecord, evolve, pack, unpack
from wxpay_async.policy.resolution import SCHEDULE
from wxpay_async.policy.states import FINAL, State, Transition
from wxpay_async.protocol.idempotency_key import fingerprint

NOW = 1_000_000.0
SIGNED_AT = 1_000_000_000
"""Milliseconds: the same moment."""
CONTENT = b'{"requestId":"r1"}'
NO_REPLY = (None, None)
REPLY = (200, b'{"success":true}')


def make_claimed(**changes: object) -> IdempotencyRecord:
    """Make a record under its first claim, with changes."""
    claimed = make_record(content=CONTENT).with_claim(now=NOW, signed_at=SIGNED_AT, lease=LEASE)
    return attrs.evolve(claimed, **changes)


def test_new_record_is_what_its_class_makes() -> None:
    """Of an operation for which nothing was sent: all that is not known yet has its default."""
    mark = fingerprint("pay", CONTENT)
    new = IdempotencyRecord.new(
        app_key="app",
        request_id="r1",
        operation="pay",
        fingerprint=mark,
        out_trade_no="O-1",
        content=CONTENT,
        now=NOW,
    )
    usual = IdempotencyRecord(
        app_key="app",
        request_id="r1",
        operation="pay",
        fingerprint=mark,
        out_trade_no="O-1",
        content=CONTENT,
        created_at=NOW,
        updated_at=NOW,
    )

    assert usual == new
    assert vars(usual) == vars(new)


# Claims


@pytest.mark.parametrize("state", State)
def test_claimable_states_are_those_never_sent_or_unknown(state: State) -> None:
    """And one that is being sent, once its lease is over."""
    record = make_record(state=state, lease_until=NOW)

    assert (state in {State.RESERVED, State.UNKNOWN}) is record.claimable(NOW - 0.001)
    assert (state in {State.RESERVED, State.UNKNOWN, State.SENDING}) is record.claimable(NOW)


def test_claimed_record_is_fenced_leased_and_not_in_doubt() -> None:
    """The first claim of an operation that was never sent."""
    claimed = make_record().with_claim(now=NOW, signed_at=SIGNED_AT, lease=45.0)

    assert (State.SENDING, 1, 1, SIGNED_AT) == (
        claimed.state,
        claimed.epoch,
        claimed.attempts,
        claimed.signed_at,
    )
    assert (NOW + 45.0, NOW) == (claimed.lease_until, claimed.updated_at)
    assert (False, None) == (claimed.in_doubt, claimed.doubt_since)


@pytest.mark.parametrize("state", [State.SENDING, State.UNKNOWN])
def test_claimed_record_that_was_sent_before_is_in_doubt(state: State) -> None:
    """A lease that ran out leaves its attempt in doubt, since the claim that ended it."""
    sent = make_record(state=state, epoch=3, attempts=3, signed_at=SIGNED_AT + 5, absent_at=NOW)
    claimed = sent.with_claim(now=NOW, signed_at=SIGNED_AT, lease=LEASE)

    assert (State.SENDING, 4, 4) == (claimed.state, claimed.epoch, claimed.attempts)
    assert (True, NOW, None) == (claimed.in_doubt, claimed.doubt_since, claimed.absent_at)
    assert SIGNED_AT + 5 == claimed.signed_at  # the latest: by it the quarantine counts


def test_claimed_record_keeps_the_start_of_its_doubt() -> None:
    """24 hours count from the first attempt in doubt, not from the last claim."""
    sent = make_record(state=State.UNKNOWN, in_doubt=True, doubt_since=NOW - 100.0)

    assert NOW - 100.0 == sent.with_claim(now=NOW, signed_at=SIGNED_AT, lease=LEASE).doubt_since


def test_claimed_record_that_was_reserved_again_stays_in_doubt() -> None:
    """Proof that the last attempt was not sent says nothing of the one before."""
    sent = make_record(state=State.RESERVED, in_doubt=True)

    assert sent.with_claim(now=NOW, signed_at=SIGNED_AT, lease=LEASE).in_doubt


# The end of an attempt


@pytest.mark.parametrize(
    ("transition", "state", "keeps_content"),
    [
        (Transition.SUCCESS, State.SUCCEEDED, False),
        (Transition.REFUSED, State.REJECTED, False),
        (Transition.FAILURE, State.FAILED, False),
        (Transition.UNSENT, State.RESERVED, True),
        (Transition.DOUBT, State.UNKNOWN, True),
        (Transition.ACCEPTED, State.PENDING, True),
        (Transition.MISMATCH, State.CONFLICT, True),
    ],
)
def test_after_attempt_keeps_the_content_that_may_be_sent_again(
    transition: Transition, state: State, *, keeps_content: bool
) -> None:
    """What is finished holds no person's openid any more; the lease has ended in any case."""
    claimed = make_claimed()
    after = claimed.after_attempt(transition, now=NOW + 1, signed_at=SIGNED_AT, reply=REPLY)

    assert (state, state) == (after.state, claimed.leads_to(transition))
    assert (CONTENT if keeps_content else None) == after.content
    assert (0.0, NOW + 1, *REPLY) == (
        after.lease_until,
        after.updated_at,
        after.status,
        after.reply,
    )
    assert (claimed.epoch, claimed.attempts) == (after.epoch, after.attempts)


@pytest.mark.parametrize("transition", [Transition.DOUBT, Transition.ACCEPTED])
def test_after_attempt_that_is_open_is_asked_about(transition: Transition) -> None:
    """The first query comes 5 s later."""
    after = make_claimed().after_attempt(
        transition, now=NOW + 1, signed_at=SIGNED_AT, reply=NO_REPLY
    )

    assert (NOW + 1, NOW + 1 + SCHEDULE[0]) == (after.doubt_since, after.next_check_at)
    assert (transition is Transition.DOUBT) is after.in_doubt


def test_after_attempt_that_is_over_is_not_asked_about() -> None:
    """Nothing is left to find out."""
    claimed = make_claimed(next_check_at=NOW)
    after = claimed.after_attempt(Transition.SUCCESS, now=NOW, signed_at=SIGNED_AT, reply=REPLY)

    assert (None, None) == (after.doubt_since, after.next_check_at)


@pytest.mark.parametrize("transition", [Transition.UNSENT, Transition.REFUSED])
def test_after_attempt_an_earlier_doubt_stays(transition: Transition) -> None:
    """What clears this attempt does not clear an earlier one (`money-safety.md` §3)."""
    claimed = make_claimed(in_doubt=True, doubt_since=NOW - 60.0)
    after = claimed.after_attempt(transition, now=NOW, signed_at=SIGNED_AT, reply=NO_REPLY)

    assert (State.UNKNOWN, State.UNKNOWN) == (after.state, claimed.leads_to(transition))
    assert (True, NOW - 60.0) == (after.in_doubt, after.doubt_since)


@pytest.mark.parametrize(
    ("transition", "expected"),
    [
        (Transition.SUCCESS, SIGNED_AT),
        (Transition.ACCEPTED, SIGNED_AT),
        (Transition.DOUBT, SIGNED_AT + 9),
        (Transition.UNSENT, SIGNED_AT + 9),
        (Transition.REFUSED, SIGNED_AT + 9),
    ],
)
def test_after_attempt_has_the_timestamp_that_was_answered(
    transition: Transition, expected: int
) -> None:
    """By it a prepay expires; without an answer the latest of all attempts is kept."""
    claimed = make_claimed(signed_at=SIGNED_AT + 9)
    after = claimed.after_attempt(transition, now=NOW, signed_at=SIGNED_AT, reply=NO_REPLY)

    assert expected == after.signed_at


def test_try_claim_with_the_token_of_the_claim_finds_it() -> None:
    """The epoch stays; the lease and the timestamp are those of the attempt that follows."""
    claimed = make_record().with_claim(now=NOW, signed_at=SIGNED_AT, lease=LEASE, token="t")

    again = claimed.try_claim(now=NOW, signed_at=SIGNED_AT, lease=LEASE, token="t")
    later = claimed.try_claim(now=NOW + 1, signed_at=SIGNED_AT + 1000, lease=LEASE, token="t")

    assert claimed == again
    assert later is not None
    assert (claimed.epoch, claimed.attempts) == (later.epoch, later.attempts)
    assert (NOW + 1 + LEASE, SIGNED_AT + 1000) == (later.lease_until, later.signed_at)


@pytest.mark.parametrize(("of_claim", "token"), [("t", "u"), ("t", None), (None, None)])
def test_try_claim_without_the_token_of_the_claim_is_refused(
    of_claim: str | None, token: str | None
) -> None:
    """The claim is another's."""
    claimed = make_record().with_claim(now=NOW, signed_at=SIGNED_AT, lease=LEASE, token=of_claim)

    assert claimed.try_claim(now=NOW, signed_at=SIGNED_AT, lease=LEASE, token=token) is None


def test_try_claim_after_the_lease_is_a_new_claim() -> None:
    """Another process may have counted the first one as dead: its attempt is in doubt."""
    claimed = make_record().with_claim(now=NOW, signed_at=SIGNED_AT, lease=LEASE, token="t")
    over = NOW + LEASE

    again = claimed.try_claim(now=over, signed_at=SIGNED_AT, lease=LEASE, token="t")

    assert claimed.with_claim(now=over, signed_at=SIGNED_AT, lease=LEASE, token="t") == again
    assert again is not None
    assert (claimed.epoch + 1, True) == (again.epoch, again.in_doubt)


def test_claim_token_ends_with_the_claim() -> None:
    """What is not being sent has none."""
    claimed = make_record().with_claim(now=NOW, signed_at=SIGNED_AT, lease=LEASE, token="t")
    unsent = claimed.after_attempt(Transition.UNSENT, now=NOW, signed_at=SIGNED_AT, reply=NO_REPLY)

    assert "t" == claimed.claim_token
    assert (None, None) == (unsent.claim_token, claimed.with_expired_lease(NOW).claim_token)


def test_after_attempt_changes_nothing_of_the_claim() -> None:
    """Records are values."""
    claimed = make_claimed()
    before = attrs.asdict(claimed)
    claimed.after_attempt(Transition.DOUBT, now=NOW, signed_at=SIGNED_AT, reply=NO_REPLY)

    assert before == attrs.asdict(claimed)


# The end of a lease


def test_record_with_expired_lease_is_in_doubt_due_and_fenced() -> None:
    """The process that was sending it died: what it writes later is refused."""
    claimed = make_claimed()
    lapsed = claimed.with_expired_lease(NOW + 60.0)

    assert (State.UNKNOWN, True, NOW + 60.0) == (lapsed.state, lapsed.in_doubt, lapsed.doubt_since)
    assert (NOW + 60.0, 0.0, claimed.epoch + 1) == (
        lapsed.next_check_at,
        lapsed.lease_until,
        lapsed.epoch,
    )
    assert CONTENT == lapsed.content
    late = claimed.after_attempt(Transition.REFUSED, now=NOW, signed_at=1, reply=REPLY)
    assert not lapsed.can_be_replaced_by(late)


def test_record_with_expired_lease_keeps_the_start_of_its_doubt() -> None:
    """An earlier attempt may have been in doubt before."""
    claimed = make_claimed(in_doubt=True, doubt_since=NOW - 5.0)

    assert NOW - 5.0 == claimed.with_expired_lease(NOW).doubt_since


# Writes that race


@pytest.mark.parametrize("later", State)
@pytest.mark.parametrize("earlier", State)
def test_record_is_replaced_unless_it_is_final_or_found_out(earlier: State, later: State) -> None:
    """A query that was slow to come back must not reopen what another one has found out.

    What waits for a person is left for an end, and a payment for the one that follows it.
    """
    ends = {State.SUCCEEDED, State.FAILED, State.NOT_EXECUTED}
    reviewed = earlier in {State.CONFLICT, State.NEEDS_REVIEW} and later in ends
    closable = {State.SUCCEEDED, State.REJECTED, State.NOT_EXECUTED, State.NEEDS_REVIEW}
    closed = earlier in closable and later is State.REISSUED
    stays = earlier not in FINAL or later is earlier or reviewed or closed
    expected = stays and (earlier, later) != (State.PENDING, State.UNKNOWN)
    record = make_record(state=earlier, epoch=2)

    assert expected is record.can_be_replaced_by(attrs.evolve(record, state=later))


@pytest.mark.parametrize("epoch", [1, 3])
def test_record_is_not_replaced_from_another_epoch(epoch: int) -> None:
    """Neither by a worker that was fenced off, nor by one from nowhere."""
    record = make_record(state=State.SENDING, epoch=2)

    assert not record.can_be_replaced_by(attrs.evolve(record, state=State.SUCCEEDED, epoch=epoch))


# What a record says


@pytest.mark.parametrize("state", State)
def test_record_is_settled_with_an_answer_or_with_a_person(state: State) -> None:
    """It needs no further attempt."""
    open_ = {State.RESERVED, State.SENDING, State.UNKNOWN}

    assert (state not in open_) is make_record(state=state).is_settled


@pytest.mark.parametrize("in_doubt", [False, True])
@pytest.mark.parametrize("state", State)
def test_record_may_be_forgotten_when_finished_or_never_sent(
    state: State, *, in_doubt: bool
) -> None:
    """What is open, or waits for a person, never is."""
    finished = {
        State.SUCCEEDED,
        State.REJECTED,
        State.FAILED,
        State.NOT_EXECUTED,
        State.REISSUED,
    }
    expected = state in finished or (state is State.RESERVED and not in_doubt)

    assert expected is make_record(state=state, in_doubt=in_doubt).evictable()


@pytest.mark.parametrize("status", [None, 200])
@pytest.mark.parametrize("state", State)
def test_record_that_keeps_a_reply_while_open_was_a_duplicate_at_first(
    state: State, status: int | None
) -> None:
    """An open operation keeps only the reply that said "repeated" to its first attempt."""
    expected = status is not None and state in {State.SENDING, State.UNKNOWN}

    assert expected is make_record(state=state, status=status).duplicate_at_first


def test_reissued_record_is_closed_and_keeps_no_answer() -> None:
    """The next payment of the order may get a credential; this one hands out none any more."""
    paid = make_record(operation="pay", state=State.SUCCEEDED, status=200, reply=b"{}")
    reissued = paid.as_reissued(now=90.0)

    assert (State.REISSUED, None, None) == (reissued.state, reissued.status, reissued.reply)
    assert 90.0 == reissued.updated_at


def test_record_is_known_by_its_app_key_and_request_id() -> None:
    """RequestIds of two appKeys have nothing to do with each other."""
    assert ("k", "r1") == make_record("r1", app_key="k").key
    assert make_record("r1", app_key="k").key != make_record("r1", app_key="other").key


def test_record_shows_neither_content_nor_reply() -> None:
    """They hold an openid, and a credential."""
    shown = repr(make_record(content=b"openid-canary", reply=b"prepay-canary"))

    assert "canary" not in shown


# Copies


FULL = make_record(
    operation="refund", fingerprint=fingerprint("refund", CONTENT, "O-1"), **EVERY_FIELD
)


def test_evolve_does_what_attrs_does() -> None:
    """Faster; the copy has everything else of the original, which stays as it was."""
    before = attrs.asdict(FULL)
    changes: dict[str, object] = {"state": State.UNKNOWN, "checks": 5, "reply": None}

    assert attrs.evolve(FULL, **changes) == evolve(FULL, **changes)
    assert before == attrs.asdict(FULL)


@pytest.mark.parametrize(
    "record",
    [
        make_record(),
        FULL,
        attrs.evolve(FULL, fingerprint=make_fingerprint(payToken="t", appId="a")),
        attrs.evolve(FULL, fingerprint=make_fingerprint()),
    ],
    ids=["reserved", "full", "digests", "no fields"],
)
def test_packed_record_is_the_same_when_unpacked(record: IdempotencyRecord) -> None:
    """Its fingerprint included, whether its content is known or only its digests are."""
    packed = pack(record)
    unpacked = unpack(packed)

    assert record == unpacked
    assert record.fingerprint.digest == unpacked.fingerprint.digest
    assert record.fingerprint.fields == unpacked.fingerprint.fields
    assert not [value for value in packed if gc.is_tracked(value)]


def test_unpacked_record_hides_its_secrets() -> None:
    """Bytes that hold credentials show only their number again."""
    unpacked = unpack(pack(attrs.evolve(FULL, content=b"openid-canary", reply=b"prepay-canary")))

    assert ("<13 bytes>", "<13 bytes>") == (repr(unpacked.content), repr(unpacked.reply))
