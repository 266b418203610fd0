"""Count how the lines of a batch ended, in memory that does not grow with their number."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias, get_args

from attrs import define, field, frozen

from wxpay_async.batch.line import BatchRequest, Line
from wxpay_async.batch.measures import Histogram, Timeline
from wxpay_async.engine.streaming import Outcome
from wxpay_async.errors import AlreadyPaidError, PrepayExpiredError, WxPayError
from wxpay_async.protocol.codec import serialize
from wxpay_async.protocol.requests import TradeQuery, order_number
from wxpay_async.protocol.results import RefundResult
from wxpay_async.protocol.secrets import without_credentials

Label = Literal[
    "ok", "pending", "issued_earlier", "already_paid", "refused", "not_sent", "in_doubt", "open"
]
LABELS: Final[tuple[Label, ...]] = get_args(Label)
WELL: Final[tuple[Label, ...]] = ("ok", "pending", "issued_earlier", "already_paid")
"""How lines end that need nothing more."""

LineOutcome: TypeAlias = Outcome[Line, Any]
ReasonKey: TypeAlias = tuple[Label, str, bool]
"""How a line ended, by which code, and whether a person is needed."""

EXAMPLES_KEPT: Final = 5
"""Lines that a reason shows."""
REASONS_KEPT: Final = 100
"""Reasons that are counted one by one: the codes are the platform's words, and may be many."""
PERSON_LINES_KEPT: Final = 200
"""Lines that are kept for a person; all are counted."""
OTHER_CODES: Final = "…"
"""The code under which the reasons beyond `REASONS_KEPT` are counted."""

_ACCEPTED: Final = "S"
_LONGEST_CODE: Final = 64
_LONGEST_TEXT: Final = 300

# The worst first. An open line may have been sent, so it counts like one in doubt.
_EXIT_CODES: Final[tuple[tuple[int, tuple[Label, ...]], ...]] = (
    (4, ("in_doubt", "open")),
    (3, ("not_sent",)),
    (1, ("refused",)),
)


def label_of(outcome: LineOutcome) -> Label:
    """Return how a line ended, in the words of the outcomes file.

    - `pending`: a refund that the platform accepted and has not finished;
    - `issued_earlier`: a `pay` that an earlier run issued, and whose prepay has expired since; no
      failure;
    - `already_paid`: a `pay` whose credential was lost with the answer, and whose order was found
      paid since: no credential is needed. By which one it was paid is not known;
    - else the kind of the outcome.
    """
    if isinstance(outcome.error, PrepayExpiredError):
        return "issued_earlier"
    if isinstance(outcome.error, AlreadyPaidError):
        return "already_paid"
    if isinstance(outcome.result, RefundResult) and outcome.result.status != _ACCEPTED:
        return "pending"
    return outcome.kind


def is_replayed(outcome: LineOutcome, *, begun_at: datetime) -> bool:
    """Tell whether a line had its outcome before the run began, so that the run only read it.

    Every outcome that a run reads back from the store is a replay, also of what the run has just
    done. So the time of the line's end decides.

    Args:
        outcome: of the line.
        begun_at: when the run began, by the clock of the store.
    """
    if not getattr(outcome.error or outcome.result, "replayed", False):
        return False
    return outcome.settled_at is None or outcome.settled_at < begun_at


def code_of(error: WxPayError) -> str:
    """Return the platform's errorCode, or the error's class where the platform sent none."""
    return clean(error.code, _LONGEST_CODE) if error.code else type(error).__name__


def text_of(error: WxPayError, request: BatchRequest) -> str:
    """Return the platform's errorMsg or else the reason, without the request's own credentials."""
    content = b"" if isinstance(request, TradeQuery) else serialize(request)
    text = error.message or error.reason
    return clean(without_credentials(text, content) or "", _LONGEST_TEXT)


def order_of(request: BatchRequest) -> str | None:
    """Return the merchant's number of what is asked for; of a trade, the first order's."""
    return request.out_trade_no if isinstance(request, TradeQuery) else order_number(request)


def clean(text: str, longest: int = _LONGEST_TEXT) -> str:
    """Put a text of the platform on one line, and replace characters that cannot be printed."""
    if len(text) <= longest and text.isprintable() and " " not in text:
        return text
    joined = " ".join(text[: 4 * longest].split())[:longest]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in joined)


@define(kw_only=True, eq=False)
class Reason:
    """Why lines ended as they did: a code, the number of its lines, and the first of them.

    Attributes:
        label: how the lines ended.
        code: the platform's errorCode, or the error's class.
        needs_person: whether a person must act, because another run alone does not end the lines.
        error: the class of the first one's error.
        count: how many lines.
        examples: the first of them.
    """

    label: Label
    code: str
    needs_person: bool
    error: type[WxPayError]
    count: int = 0
    examples: list[FailedLine] = field(factory=list["FailedLine"])


@frozen(kw_only=True, eq=False)
class FailedLine:
    """A line that did not end well, as reports name it.

    Attributes:
        number: the line's.
        request_id: under which it ended.
        out_trade_no: the merchant's number.
        reason: why.
        text: the platform's words, or the error's own.
    """

    number: int
    request_id: str | None
    out_trade_no: str | None
    reason: Reason = field(repr=False)
    text: str


@define(eq=False)
class Tally:
    """How the lines of a batch ended.

    Attributes:
        counts: lines by how they ended.
        reasons: why lines were refused, not sent, or are in doubt: by label, by code, and by
            whether a person is needed.
        person_lines: the first lines that need a person.
        person_total: how many lines need a person.
        latencies: seconds from a line's first record in the store to its end.
        timeline: when lines ended.
        untimed: lines that ended at an unknown time, because no store was read.
    """

    counts: Counter[Label] = field(factory=Counter[Label], init=False)
    reasons: dict[ReasonKey, Reason] = field(factory=dict["ReasonKey", Reason], init=False)
    person_lines: list[FailedLine] = field(factory=list[FailedLine], init=False)
    person_total: int = field(default=0, init=False)
    latencies: Histogram = field(factory=Histogram, init=False)
    timeline: Timeline[Label] = field(factory=Timeline[Label], init=False)
    untimed: int = field(default=0, init=False)

    @property
    def total(self) -> int:
        """How many lines were counted."""
        return self.counts.total()

    @property
    def refusals(self) -> list[Reason]:
        """Why lines were refused, the most frequent reason first."""
        return self.list_reasons("refused")

    @property
    def exit_code(self) -> int:
        """The exit code of the command: 4 in doubt or open, 3 not sent, 1 refused, else 0."""
        for code, labels in _EXIT_CODES:
            if any(self.counts[label] for label in labels):
                return code
        return 0

    def list_reasons(self, *labels: Label) -> list[Reason]:
        """Return the reasons of some labels, or of all, the most frequent one first."""
        chosen = [each for each in self.reasons.values() if not labels or each.label in labels]
        return sorted(chosen, key=lambda reason: (-reason.count, reason.code))

    def add(self, outcome: LineOutcome) -> None:
        """Count the outcome of a line."""
        label = label_of(outcome)
        self.counts[label] += 1
        self._add_times(outcome, label)
        if outcome.error is not None and label not in WELL:
            self._add_failure(outcome, outcome.error, label)

    def _add_times(self, outcome: LineOutcome, label: Label) -> None:
        if outcome.settled_at is None:
            self.untimed += label != "open"
            return
        self.timeline.add(outcome.settled_at, label)
        if outcome.reserved_at is not None:
            took = outcome.settled_at - outcome.reserved_at
            self.latencies.add(took / timedelta(seconds=1))

    def _add_failure(self, outcome: LineOutcome, error: WxPayError, label: Label) -> None:
        needs_person = label == "in_doubt" or (label == "not_sent" and not error.retryable)
        reason = self._find_reason((label, code_of(error), needs_person), error)
        reason.count += 1
        self.person_total += needs_person
        is_example = len(reason.examples) < EXAMPLES_KEPT
        is_listed = needs_person and len(self.person_lines) < PERSON_LINES_KEPT
        if is_example or is_listed:
            line = _describe(outcome.request, error, reason)
            if is_example:
                reason.examples.append(line)
            if is_listed:
                self.person_lines.append(line)

    def _find_reason(self, key: ReasonKey, error: WxPayError) -> Reason:
        label, code, needs_person = key
        if key not in self.reasons and len(self.reasons) >= REASONS_KEPT:
            code = OTHER_CODES
        return self.reasons.setdefault(
            (label, code, needs_person),
            Reason(label=label, code=code, needs_person=needs_person, error=type(error)),
        )


def _describe(line: Line, error: WxPayError, reason: Reason) -> FailedLine:
    return FailedLine(
        number=line.number,
        request_id=line.request_id,
        out_trade_no=order_of(line.request),
        reason=reason,
        text=text_of(error, line.request),
    )
