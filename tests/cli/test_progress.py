"""What is shown of a batch while it runs."""

from __future__ import annotations

from typing import get_args

import pytest

from tests.cli.batches import LINES, call, hear, make_ok
from tests.support.clock import NOON, MovedClock
from wxpay_async.cli.progress import Activity, Progress, Status
from wxpay_async.engine.streaming import Outcome
from wxpay_async.engine.telemetry import EventKind
from wxpay_async.errors import RefusedError

pytestmark = pytest.mark.usefixtures("china")


def test_time_left_is_that_of_the_quota_and_not_of_a_burst(
    progress: Progress, clock: MovedClock
) -> None:
    """Two hundred lines in a second do not make a promise of it."""
    call(progress, clock, 200, every=0.005)
    assert round(9_800 / 380 * 60) == round(progress.seconds_left or 0)
    assert "about 25 min 47 s left" in progress.describe()


def test_time_left_leaves_to_people_what_they_use(progress: Progress) -> None:
    """A hundred calls of people leave three hundred to the batch."""
    held = {"people": 100, "batch": 250}
    hear(progress, EventKind.ATTEMPT_STARTED, quota_in_use=350, quota_held=held)
    assert 2_000 == pytest.approx(progress.seconds_left)
    assert "quota 350 of 400 (people 100, batch 250)" in progress.describe()


def test_time_left_follows_the_rate_where_that_is_slower_for_minutes(
    progress: Progress, clock: MovedClock
) -> None:
    """Another program uses most of the quota."""
    call(progress, clock, 300, every=1.0)
    assert 9_700 == pytest.approx(progress.seconds_left, rel=0.02)


def test_full_quota_is_waited_for_until_its_first_slot_comes_free(
    waiting: Progress,
) -> None:
    """The moment is told, and belongs to the time that is left."""
    assert "waiting for the quota until 12:01:00" in waiting.describe()
    assert 37.25 + 9_800 / 380 * 60 == pytest.approx(waiting.seconds_left)


def test_full_quota_of_others_is_waited_for_without_a_moment(
    progress: Progress, clock: MovedClock
) -> None:
    """Nobody told this process about their calls."""
    hear(progress, EventKind.CALL_STARTED)
    clock.move(3)
    assert progress.describe().endswith("; waiting for the quota")


def test_outage_is_told_until_it_is_over(progress: Progress) -> None:
    """With the moment of the next probe, and without a time left."""
    hear(progress, EventKind.PAUSED, seconds=70)
    text = progress.describe()
    assert text.endswith("; paused: the platform does not answer, next try at 12:01:10")
    assert "left" not in text
    hear(progress, EventKind.RESUMED)
    assert "paused" not in progress.describe()


def test_lines_that_wait_for_another_call_are_told(progress: Progress, clock: MovedClock) -> None:
    """No call is under way, and lines are left; nobody knows for how long."""
    for line in LINES:
        progress.add(make_ok(line))
    clock.move(5)
    assert "waiting for 9,960 lines that had no end yet" in progress.describe()
    assert progress.seconds_left is None


def test_time_left_is_not_told_while_no_line_ends_with_the_workers(clock: MovedClock) -> None:
    """Their lines are in doubt, or no worker is there; it comes back with the next line."""
    progress = Progress(operation="refund", total=21, clock=clock, has_workers=True)
    progress.add(make_ok())
    assert "left" in progress.describe()
    clock.move(61)
    assert progress.describe().endswith("; 0 a minute; with the workers")
    progress.add(make_ok())
    assert "left" in progress.describe()


def test_other_program_on_the_quota_is_told(progress: Progress) -> None:
    """The platform refused a call that the quota allowed."""
    hear(progress, EventKind.SLOWED_DOWN)
    assert progress.describe().endswith("; slowed down: another program uses the appKey")


def test_stop_tells_how_many_calls_are_under_way(progress: Progress) -> None:
    """They come to their end."""
    hear(progress, EventKind.CALL_STARTED, EventKind.CALL_STARTED)
    progress.is_stopping = True
    assert "stopping: calls under way 2; once more cancels them" in progress.describe()


def test_lines_of_earlier_runs_have_no_rate(progress: Progress) -> None:
    """Reading them back is quick, and says nothing of the rest."""
    progress.add(make_ok(replayed=True, at=NOON - 60))
    progress.add(make_ok(replayed=True, at=NOON + 1))  # by a worker, meanwhile
    assert (2, 1) == (progress.done, progress.known_before)
    assert "ok 2, known before 1; 60 a minute" in progress.describe()


def test_progress_is_told_in_chinese(waiting: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of the report; JSON keeps its names."""
    monkeypatch.setenv("WXPAY_LANG", "zh")
    assert waiting.describe() == (
        "12:00:22 退款 200/10,000；成功 200；每分钟 522 行；配额 200/400（batch 200）；"
        "还需约 26 分钟 25 秒；等待配额，到 12:01:00 为止"
    )
    assert "waiting for the quota" == waiting.to_json()["activity"]


@pytest.mark.parametrize("activity", get_args(Activity))
def test_activity_has_words_in_chinese(
    progress: Progress, activity: Activity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is left in English; nothing is said while calls are made."""
    english = Status(activity, NOON).describe(progress)
    monkeypatch.setenv("WXPAY_LANG", "zh")
    chinese = Status(activity, NOON).describe(progress)
    assert bool(english) is bool(chinese)
    assert "calling" == activity or english != chinese


def test_counts_are_by_outcome(progress: Progress) -> None:
    """Each with its word in the outcomes."""
    progress.add(make_ok())
    progress.add(Outcome.from_error(LINES[0], RefusedError("no", code="GM_API_BUS_000001")))
    assert "12:00:00 refund 2 of 10,000; ok 1, refused 1; " in progress.describe()
