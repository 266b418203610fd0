"""Take a person's word for what no machine can find out (`money-safety.md` §3)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from attrs import Attribute, field, frozen

from wxpay_async.errors import InvalidRequestError
from wxpay_async.policy.states import REVIEW, State


def _check_text(limit: int, *, least: int) -> Any:  # noqa: ANN401 - an attrs validator
    def check(_: object, attribute: Attribute[str], value: object) -> None:
        fits = isinstance(value, str) and least <= len(value.strip()) and len(value) <= limit
        if not fits or not str(value).isprintable():
            raise InvalidRequestError(
                f"{value!r:.40}",
                field=attribute.name,
                allowed=f"a printable text of {least} to {limit} characters",
            )

    return check


def _check_flag(_: object, attribute: Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{value!r:.40}", field=attribute.name, allowed="True or False")


@frozen(kw_only=True)
class ReviewVerdict:
    """What a person found out of an operation that waits for one.

    It is kept as it is written here, unencrypted: no openids, no credentials.

    Attributes:
        executed: whether the platform executed it: the refund was made, the order exists, or, for
            a payment, the order was paid. False lets the next generation of the requestId go, so
            be sure of it.
        by: who says so; 1 to 64 characters.
        note: how it is known, e.g. the number of the support's case; up to 500 characters.

    Raises:
        InvalidRequestError: a value is of another type or length.
    """

    executed: bool = field(validator=_check_flag)
    by: str = field(validator=_check_text(64, least=1))
    note: str = field(default="", validator=_check_text(500, least=0))

    def to_text(self, at: float) -> str:
        """Return it as JSON, with the time in seconds since the epoch as a date."""
        moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
        values = {"executed": self.executed, "by": self.by, "note": self.note, "at": moment}
        return json.dumps(values, ensure_ascii=False)


def check_reviewable(state: State) -> None:
    """Check that a person's word may be taken of an operation.

    A request that is open can still be executed after the person looked, so its own end comes
    first. What is finished needs no verdict; what the platform said stands.

    Raises:
        InvalidRequestError: it does not wait for a person.
    """
    if state not in REVIEW:
        raise InvalidRequestError(
            f"the operation is {state}",
            field="verdict",
            allowed="for an operation that waits for a person: conflict or needs_review",
        )
