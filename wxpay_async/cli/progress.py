"""Measure the progress of a batch: the counts, the quota, the time left, and what it waits for.

The time left is computed from the quota: 380 calls a minute, of which people may take a part. The
rate of the last minute says little about the hours to come. The measured rate is used only if it is
lower for some minutes, as when another program uses the appKey, too.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal

from attrs import define, field, frozen

from wxpay_async.batch.report_texts import TEXTS, Texts
from wxpay_async.batch.tally import LABELS, Label, LineOutcome, Tally, is_replayed
from wxpay_async.cli.output import translate
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.telemetry import Event, EventKind
from wxpay_async.language import Sentence, find_language
from wxpay_async.policy.lanes import Lane, Quota

Activity = Literal[
    "calling",
    "paused",
    "waiting for the quota",
    "slowed down",
    "waiting for lines",
    "with the workers",
    "stopping",
    "writing the outcomes",
]

_STILL_AFTER: Final = 2.0
"""Seconds without a call, after which the run waits for the quota or for lines."""

_MINUTE: Final = 60
_SHORTEST_LEFT: Final = 10
_MEASURED_OVER: Final = 300
_MEASURED_AFTER: Final = 120
"""Seconds over which the rate is measured for the time left, and before which it is not used."""


_ACTIVITIES: Final[Mapping[Activity, Sentence]] = {
    "calling": Sentence("", ""),
    "paused": Sentence(
        "paused: the platform does not answer, next try{next}", "已暂停：平台没有应答{next}"
    ),
    "waiting for the quota": Sentence("waiting for the quota{at}", "等待配额{at}"),
    "slowed down": Sentence(
        "slowed down: another program uses the appKey", "已减速：另有程序在使用这个 appKey"
    ),
    "waiting for lines": Sentence(
        "waiting for {lines} that had no end yet", "等待未了结的 {lines}"
    ),
    "with the workers": Sentence("with the workers", "由 worker 执行"),
    "stopping": Sentence(
        "stopping: calls under way {under_way}; once more cancels them",
        "正在停止：{under_way} 次调用进行中；再次中断则取消它们",
    ),
    "writing the outcomes": Sentence("writing the outcomes", "正在写入结果"),
}
_UNTIL: Final = Sentence(" until {time:%H:%M:%S}", "，到 {time:%H:%M:%S} 为止")
_NEXT: Final = Sentence(" at {time:%H:%M:%S}", "，{time:%H:%M:%S} 再试")
_DONE: Final = Sentence("{done:,} of {total:,}", "{done:,}/{total:,}")
_KNOWN: Final = Sentence("known before {count:,}", "此前已知 {count:,}")
_QUOTA: Final = Sentence("quota {in_use} of {limit}{lanes}", "配额 {in_use}/{limit}{lanes}")
_LANES: Final = Sentence(" ({lanes})", "（{lanes}）")
_RATE: Final = Sentence("{count:,} a minute", "每分钟 {count:,} 行")
_LEFT: Final = Sentence("about {duration} left", "还需约 {duration}")
COMMA: Final = Sentence(", ", "，")
_SEMICOLON: Final = Sentence("; ", "；")


def _texts() -> Texts:
    return TEXTS[find_language(os.environ)]


@frozen
class Status:
    """What a batch does now.

    Attributes:
        activity: what it does.
        until: when it will do something else, in seconds since the epoch, if that is known.
    """

    activity: Activity
    until: float | None = None

    def describe(self, progress: Progress) -> str:
        """Return it in words; nothing while calls are made."""
        time = None if self.until is None else to_local(self.until)
        return translate(
            _ACTIVITIES[self.activity],
            at=translate(_UNTIL, time=time) if time else "",
            next=translate(_NEXT, time=time) if time else "",
            lines=_texts().format_lines(progress.total - progress.done),
            under_way=progress.under_way,
        )


def _name(label: Label) -> str:
    """Return the word for an end of lines: in English that of the outcomes."""
    return translate(Sentence(label.replace("_", " "), TEXTS["zh"].labels[label]))


def to_local(seconds: float) -> datetime:
    """Return a moment in the machine's time zone."""
    return datetime.fromtimestamp(seconds, UTC).astimezone()


@define(eq=False, kw_only=True)
class Progress:
    """The progress of a run; a hook of its gateway, which counts the calls.

    Attributes:
        operation: what its lines ask for.
        total: how many there are.
        quota: the appKey's.
        clock: the machine's, unless a test moves it.
        has_workers: workers make the calls.
        begun_at: when the run began; `BatchRun` sets it by the clock of the store.
        tally: how lines ended until now.
        known_before: how many of them had ended before the run began.
        under_way: calls that have begun.
        in_use: slots of the quota that are taken, as far as is known.
        held: those of each lane.
        is_stopping, is_writing: whether the run does that now.
        has_called: whether any request was sent, or may have been.
    """

    operation: str
    total: int
    quota: Quota = field(factory=Quota)
    clock: Clock = field(factory=Clock)
    has_workers: bool = False
    begun_at: datetime = field(init=False)
    tally: Tally = field(factory=Tally, init=False)
    known_before: int = field(default=0, init=False)
    under_way: int = field(default=0, init=False)
    in_use: int | None = field(default=None, init=False)
    held: Mapping[str, int] = field(factory=dict[str, int], init=False)
    is_stopping: bool = field(default=False, init=False)
    is_writing: bool = field(default=False, init=False)
    has_called: bool = field(default=False, init=False)
    _begun: float = field(init=False)
    _attempts: int = field(default=0, init=False)
    _changed: float = field(init=False)
    _answered: deque[float] = field(init=False)
    _paused_until: float | None = field(default=None, init=False)
    _slowed: float | None = field(default=None, init=False)
    _seconds: deque[tuple[int, int]] = field(factory=deque[tuple[int, int]], init=False)

    def __attrs_post_init__(self) -> None:
        self._begun = self._changed = self.clock.monotonic()
        self.begun_at = datetime.fromtimestamp(self.clock.time(), UTC)
        self._answered = deque(maxlen=self.quota.limit)

    @property
    def done(self) -> int:
        """How many lines have ended."""
        return self.tally.total

    def add(self, outcome: LineOutcome) -> None:
        """Count the outcome of a line."""
        self.tally.add(outcome)
        if is_replayed(outcome, begun_at=self.begun_at):
            self.known_before += 1
            return
        self._changed = self.clock.monotonic()
        second = int(self._changed)
        if self._seconds and self._seconds[-1][0] == second:
            second, count = self._seconds.pop()
            self._seconds.append((second, count + 1))
        else:
            self._seconds.append((second, 1))
        while self._seconds[0][0] < second - _MEASURED_OVER:
            self._seconds.popleft()

    def __call__(self, event: Event) -> None:
        """Take an event of the gateway."""
        now = self.clock.monotonic()
        match event.kind:
            case EventKind.CALL_STARTED:
                self.under_way += 1
            case EventKind.OUTCOME:
                self.under_way -= 1
            case EventKind.ATTEMPT_STARTED:
                self._attempts += 1
                self.has_called = True
                self._note_quota(event, now)
            case EventKind.ATTEMPT_ENDED:
                self._attempts -= 1
                if event.fate != "not_sent":
                    self._answered.append(now)
                self._note_quota(event, now)
            case EventKind.PAUSED:
                self._paused_until = self.clock.time() + event.seconds
            case EventKind.RESUMED:
                self._paused_until = None
            case EventKind.SLOWED_DOWN:
                self._slowed = now
            case _:
                pass

    def _note_quota(self, event: Event, now: float) -> None:
        self._changed = now
        self.in_use, self.held = event.quota_in_use, event.quota_held

    @property
    def per_minute(self) -> int:
        """The rate of the last minute, in lines a minute."""
        now = self.clock.monotonic()
        span = min(max(now - self._begun, 1.0), _MINUTE)
        count = sum(count for second, count in self._seconds if second >= int(now - span))
        return round(count * _MINUTE / span)

    @property
    def status(self) -> Status:
        """What the run does now."""
        if self.is_writing:
            return Status("writing the outcomes")
        if self.is_stopping:
            return Status("stopping")
        if self._paused_until is not None:
            return Status("paused", self._paused_until)
        return Status("with the workers") if self.has_workers else self._find_wait()

    def _find_wait(self) -> Status:
        now = self.clock.monotonic()
        if not self._attempts and now - self._changed > _STILL_AFTER:
            if self.under_way:
                return Status("waiting for the quota", self._foresee_slot(now))
            return Status("waiting for lines")
        if self._slowed is not None and now - self._slowed < _MINUTE:
            return Status("slowed down")
        return Status("calling")

    def _foresee_slot(self, now: float) -> float | None:
        """Return when the first of the slots that are known to be taken comes free."""
        if not self._answered:
            return None
        while len(self._answered) > 1 and self._answered[0] + self.quota.answered_for < now:
            self._answered.popleft()
        free_at = self._answered[0] + self.quota.answered_for
        return self.clock.time() + free_at - now if free_at > now else None

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the pace of the quota; None where that is not known."""
        if self._paused_until is not None or self._is_still():
            return None
        people = sum(count for lane, count in self.held.items() if lane != Lane.BATCH)
        share = max(1, min(self.quota.batch, self.quota.limit - people))
        pace = share / self.quota.period
        ran = int(self.clock.monotonic() - self._begun)
        measured = sum(count for _, count in self._seconds) / min(max(ran, 1), _MEASURED_OVER)
        if ran > _MEASURED_AFTER and measured:
            pace = min(pace, measured)
        until = self.status.until
        wait = 0.0 if until is None else max(0.0, until - self.clock.time())
        return wait + (self.total - self.done) / pace

    def _is_still(self) -> bool:
        """Tell whether lines wait for their next call: the quota says nothing of their end."""
        if self.has_workers:
            return self.clock.monotonic() - self._changed > _MINUTE
        return self.status.activity == "waiting for lines"

    def describe_operation(self) -> str:
        """Return what the lines ask for."""
        return _texts().operations.get(self.operation, self.operation)

    def describe_done(self) -> str:
        """Return how many lines have ended, of how many."""
        return translate(_DONE, done=self.done, total=self.total)

    def describe_counts(self) -> str:
        """Return how many lines ended in which way."""
        counts = [
            f"{_name(label)} {self.tally.counts[label]:,}"
            for label in LABELS
            if self.tally.counts[label]
        ]
        if self.known_before:
            counts.append(translate(_KNOWN, count=self.known_before))
        return translate(COMMA).join(counts)

    def describe_quota(self) -> str:
        """Return how much of the quota is in use, and by which lanes; nothing if not known."""
        if self.in_use is None:
            return ""
        lanes = translate(COMMA).join(f"{lane} {n}" for lane, n in self.held.items() if n)
        return translate(
            _QUOTA,
            in_use=self.in_use,
            limit=self.quota.limit,
            lanes=translate(_LANES, lanes=lanes) if lanes else "",
        )

    def describe_rate(self) -> str:
        """Return how fast lines end."""
        return translate(_RATE, count=self.per_minute)

    def describe_left(self) -> str:
        """Return how long the rest will take; empty if that is not known, or no line is left."""
        left = round(self.seconds_left or 0)
        duration = _texts().format_duration(max(left, _SHORTEST_LEFT))
        return translate(_LEFT, duration=duration) if left else ""

    def describe(self) -> str:
        """Return all of it on one line."""
        parts = (
            f"{self.describe_operation()} {self.describe_done()}",
            self.describe_counts(),
            self.describe_rate(),
            self.describe_quota(),
            self.describe_left(),
            self.status.describe(self),
        )
        text = translate(_SEMICOLON).join(part for part in parts if part)
        return f"{to_local(self.clock.time()):%H:%M:%S} {text}".replace("\N{NO-BREAK SPACE}", " ")

    def to_json(self) -> dict[str, object]:
        """Return all of it for a program."""
        status, left = self.status, self.seconds_left
        return {
            "event": "progress",
            "at": to_local(self.clock.time()).isoformat(timespec="seconds"),
            "operation": self.operation,
            "lines": self.total,
            "done": self.done,
            "counts": {label: n for label in LABELS if (n := self.tally.counts[label])},
            "knownBefore": self.known_before,
            "perMinute": self.per_minute,
            "quotaInUse": self.in_use,
            "quotaHeld": {str(lane): count for lane, count in self.held.items() if count},
            "secondsLeft": None if left is None else round(left),
            "activity": status.activity,
            "until": None
            if status.until is None
            else to_local(status.until).isoformat(timespec="seconds"),
        }
