"""One operation, as a store keeps it, and what may happen to it."""

from __future__ import annotations

import json
import operator
from typing import TYPE_CHECKING, Any, Final

import attrs
from attrs import field, frozen

from wxpay_async.policy.resolution import SCHEDULE
from wxpay_async.policy.states import (
    ANSWERED,
    CLAIMABLE,
    FINAL,
    FINAL_STEPS,
    FINISHED,
    REVIEW,
    SENDABLE,
    SETTLED,
    State,
    Transition,
    next_state,
)
from wxpay_async.protocol.assemble import assemble
from wxpay_async.protocol.idempotency_key import Fingerprint
from wxpay_async.protocol.secrets import SecretBytes

LEASE: Final = 45.0
"""Seconds for which a claim is held: longer than any attempt may take."""

OPEN: Final = frozenset({State.UNKNOWN, State.PENDING})
"""What a query can settle."""

UNDER_WAY: Final = OPEN | {State.SENDING}
"""What an answer, a query or a notification will settle."""

UNFINISHED: Final = UNDER_WAY | REVIEW
"""What was sent, or may have been, and has not reached its end."""

# Python 3.11 takes as long to find an enum's member as a function call takes; a payment meets
# these ten times.
_SENDING: Final = State.SENDING
_UNKNOWN: Final = State.UNKNOWN
_PENDING: Final = State.PENDING
_LAPSED: Final = frozenset({_SENDING, _UNKNOWN})
"""Where a new claim finds an attempt of before that may have been executed."""
_CLAIM: Final = Transition.CLAIM
_DOUBT: Final = Transition.DOUBT


@frozen(kw_only=True, slots=False)
class IdempotencyRecord:
    """One operation, as a store keeps it.

    Attributes:
        app_key: whose operation it is.
        request_id: the idempotency key.
        operation: pay, trade or refund.
        fingerprint: what it means.
        out_trade_no: what a query can ask for, where there is one.
        state: where it stands.
        epoch: the fencing token; raised by every claim, checked by every write.
        attempts: claims so far.
        in_doubt: an attempt may have been executed.
        signed_at: milliseconds since the epoch; the latest timestamp of all attempts, which lives
            longest: a clock that was put back signs a later attempt with an earlier one. Once it is
            answered, the timestamp of the attempt that was.
        lease_until: seconds since the epoch; until then no other process may claim.
        claim_token: who holds the claim: a text that its claimer made up. None where none did.
        content: the bytes that every attempt sends, kept until the operation is finished; they
            hold a person's openid, so a durable store gets them sealed.
        status: the HTTP status of the reply that settled it, or that said `duplicate_at_first`.
        reply: the body of that reply; it may hold a credential, so a durable store gets it sealed.
        doubt_since: seconds since the epoch; when an attempt first got into doubt.
        next_check_at: seconds since the epoch; when a query should be made, None for never.
        checks: queries made so far.
        absent_at: seconds since the epoch by the platform's time, like `signed_at`; when a query
            after the quarantine first found nothing.
        deviates_at: seconds since the epoch by the platform's time; when a query first found other
            content under our number. A later claim changes nothing in what the platform holds, so
            it stays.
        deviation: the digest of that content.
        verdict: what a person decided, with who and when (`ReviewVerdict.to_text`).
        created_at: seconds since the epoch.
        updated_at: seconds since the epoch.
    """

    app_key: str
    request_id: str
    operation: str
    fingerprint: Fingerprint
    out_trade_no: str | None = None
    state: State = State.RESERVED
    epoch: int = 0
    attempts: int = 0
    in_doubt: bool = False
    signed_at: int | None = None
    lease_until: float = 0.0
    claim_token: str | None = None
    content: bytes | None = field(default=None, repr=False)
    status: int | None = None
    reply: bytes | None = field(default=None, repr=False)
    doubt_since: float | None = None
    next_check_at: float | None = None
    checks: int = 0
    absent_at: float | None = None
    deviates_at: float | None = None
    deviation: str | None = None
    verdict: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0

    @classmethod
    def new(
        cls,
        *,
        app_key: str,
        request_id: str,
        operation: str,
        fingerprint: Fingerprint,
        out_trade_no: str | None,
        content: bytes,
        now: float,
    ) -> IdempotencyRecord:
        """Make the record of an operation for which nothing was sent yet.

        It is what `__init__` makes, in half of its time.
        """
        known = {
            "app_key": app_key,
            "request_id": request_id,
            "operation": operation,
            "fingerprint": fingerprint,
            "out_trade_no": out_trade_no,
            "content": content,
            "created_at": now,
            "updated_at": now,
        }
        return assemble(cls, _UNSENT | known)

    @property
    def key(self) -> tuple[str, str]:
        """What makes it unique; requestIds of two appKeys have nothing to do with each other."""
        return self.app_key, self.request_id

    @property
    def duplicate_at_first(self) -> bool:
        """Whether our first attempt found the requestId taken: by whom, and for what, is unknown.

        Then no attempt of ours was executed. A refund that the platform holds under the same
        number may have been made for another order, which no query echoes.
        """
        return self.status is not None and self.state in _LAPSED

    def claimable(self, now: float) -> bool:
        """Tell whether it may be claimed: it is not being sent, or the sender's lease is over."""
        if self.state is _SENDING:
            return self.lease_until <= now
        return self.state in CLAIMABLE

    def try_claim(
        self, *, now: float, signed_at: int, lease: float, token: str | None = None
    ) -> IdempotencyRecord | None:
        """Return it under the claim of that token, None if it may not be claimed.

        A claim may be repeated because its answer got lost: it then finds its own, and nothing has
        been sent under it yet. The epoch stays; the lease must hold for the attempt that follows.
        """
        if self._is_held_by(token, now):
            return evolve(
                self,
                signed_at=max(signed_at, self.signed_at or 0),
                lease_until=max(now + lease, self.lease_until),
                updated_at=now,
            )
        if not self.claimable(now):
            return None
        return self.with_claim(now=now, signed_at=signed_at, lease=lease, token=token)

    def _is_held_by(self, token: str | None, now: float) -> bool:
        mine = token is not None and token == self.claim_token
        return mine and self.state is _SENDING and self.lease_until > now

    def with_claim(
        self, *, now: float, signed_at: int, lease: float, token: str | None = None
    ) -> IdempotencyRecord:
        """Return it under a new claim. A lease that ran out leaves its attempt in doubt."""
        lapsed = self.state in _LAPSED
        return evolve(
            self,
            state=next_state(_UNKNOWN if lapsed else self.state, _CLAIM),
            epoch=self.epoch + 1,
            attempts=self.attempts + 1,
            in_doubt=self.in_doubt or lapsed,
            doubt_since=self.doubt_since or (now if lapsed else None),
            signed_at=max(signed_at, self.signed_at or 0),
            lease_until=now + lease,
            claim_token=token,
            absent_at=None,
            updated_at=now,
        )

    def leads_to(self, transition: Transition) -> State:
        """Return where an attempt under this claim leads."""
        return next_state(_SENDING, transition, in_doubt=self.in_doubt)

    def after_attempt(
        self,
        transition: Transition,
        *,
        now: float,
        signed_at: int,
        reply: tuple[int | None, bytes | None],
    ) -> IdempotencyRecord:
        """Return it after the attempt under its claim has ended.

        Args:
            transition: what the attempt led to.
            now: seconds since the epoch.
            signed_at: milliseconds since the epoch; the attempt's timestamp.
            reply: the HTTP status and the body that are kept of its answer.
        """
        state = self.leads_to(transition)
        is_open = state in OPEN
        return evolve(
            self,
            state=state,
            in_doubt=self.in_doubt or transition is _DOUBT,
            signed_at=signed_at if transition in ANSWERED else self.signed_at,
            lease_until=0.0,
            claim_token=None,
            content=self.content if state in SENDABLE else None,
            status=reply[0],
            reply=reply[1],
            doubt_since=self.doubt_since or (now if is_open else None),
            next_check_at=now + SCHEDULE[0] if is_open else None,
            updated_at=now,
        )

    def with_expired_lease(self, now: float) -> IdempotencyRecord:
        """Return it in doubt, after the process that was sending it died."""
        return attrs.evolve(
            self,
            state=next_state(self.state, Transition.DOUBT),
            epoch=self.epoch + 1,
            in_doubt=True,
            doubt_since=self.doubt_since or now,
            next_check_at=now,
            lease_until=0.0,
            claim_token=None,
            updated_at=now,
        )

    def as_reissued(self, now: float) -> IdempotencyRecord:
        """Return a payment closed for good, so that the next one may get a credential."""
        return evolve(
            self,
            state=next_state(self.state, Transition.REISSUE),
            status=None,
            reply=None,
            next_check_at=None,
            absent_at=None,
            updated_at=now,
        )

    def can_be_replaced_by(self, later: IdempotencyRecord) -> bool:
        """Tell whether the later entry may take its place.

        Only under the same epoch, and not from PENDING back to UNKNOWN: a query that was slow to
        come back must not reopen what another one has found out. A final state is left only by
        `FINAL_STEPS`.
        """
        step = (self.state, later.state)
        settled = self.state in FINAL and later.state is not self.state and step not in FINAL_STEPS
        accepted = self.state is _PENDING and later.state is _UNKNOWN
        return self.epoch == later.epoch and not settled and not accepted

    @property
    def is_settled(self) -> bool:
        """Whether it needs no further attempt: it has an answer, or a person must find one."""
        return self.state in SETTLED

    def evictable(self) -> bool:
        """Tell whether it may be forgotten: it is finished, or nothing was ever sent for it."""
        return self.state in FINISHED or (self.state is State.RESERVED and not self.in_doubt)


if TYPE_CHECKING:
    from attrs import evolve as evolve  # noqa: PLC0414 - a public name of this module
else:
    # Positional only: otherwise Python compares each change with the parameter's name.
    def evolve(record: IdempotencyRecord, /, **changes: object) -> IdempotencyRecord:
        """Do what `attrs.evolve` does, in a twentieth of its time: each attempt needs it twice."""
        return assemble(IdempotencyRecord, record.__dict__ | changes)


Packed = tuple[Any, ...]
"""A record as one flat tuple of texts, plain bytes and numbers."""


def pack(record: IdempotencyRecord) -> Packed:
    """Return a record as a tuple of plain values.

    The garbage collector watches every object of a class that is written in Python, and no tuple
    of plain values: ten thousand records then cost a collection nothing.
    """
    mark = record.fingerprint
    operation, sent, out_trade_no = mark.source or (None, b"", None)
    content, reply = record.content, record.reply
    return (
        *_read_fields(record.__dict__),
        _STATE_TEXTS[record.state],
        None if content is None else bytes(content),
        None if reply is None else bytes(reply),
        operation,
        bytes(sent),
        out_trade_no,
        "" if mark.source else json.dumps([mark.digest, dict(mark.fields)]),
    )


def unpack(packed: Packed) -> IdempotencyRecord:
    """Return the record that was packed."""
    *values, state, content, reply, operation, sent, out_trade_no, digests = packed
    if digests:
        mark = Fingerprint(*json.loads(digests))
    else:
        mark = Fingerprint(source=(operation, SecretBytes(sent), out_trade_no))
    return IdempotencyRecord(
        fingerprint=mark,
        state=State(state),
        content=None if content is None else SecretBytes(content),
        reply=None if reply is None else SecretBytes(reply),
        **dict(zip(_FIELDS, values, strict=True)),
    )


_FIELDS: Final = tuple(
    field.name
    for field in attrs.fields(IdempotencyRecord)
    if field.name not in {"fingerprint", "state", "content", "reply"}
)

_UNSENT: Final = {field.name: field.default for field in attrs.fields(IdempotencyRecord)}
"""The fields of a record as they are until something is sent; `new` fills in those without."""

_STATE_TEXTS: Final = {state: state.value for state in State}

_read_fields: Final = operator.itemgetter(*_FIELDS)
UPDATED_AT: Final = _FIELDS.index("updated_at")
"""Where a packed record has the time of its last change."""
