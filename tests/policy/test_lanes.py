"""The numbers of the quota, and the shares of its lanes."""

from __future__ import annotations

import pytest

from wxpay_async.policy.lanes import Lane, Quota


class TestQuota:
    """The numbers."""

    def test_defaults_are_the_platforms(self) -> None:
        """Without arguments it is 400 calls in 60 s, 380 of them for batches."""
        quota = Quota()

        assert (400, 380, 60.0) == (quota.limit, quota.batch, quota.period)
        assert (60.25, 75.25, 150.25) == (
            quota.answered_for,
            quota.doubtful_for,
            quota.leased_for,
        )

    def test_smallest_quota_lets_a_batch_through(self) -> None:
        """A limit of one still leaves a batch its one call, or it would wait for ever."""
        quota = Quota(limit=1)

        assert (1, 1, 1) == (quota.batch, quota.recovery, quota.people_keep)
        assert {1} == {quota.share(lane) for lane in Lane}

    def test_each_lane_has_its_share_and_its_pace(self) -> None:
        """The table of the rules: slots that a lane may hold, and seconds between its starts."""
        quota = Quota()

        assert [400, 100, 100, 380, 20] == [quota.share(lane) for lane in Lane]
        assert [0.0, 0.6, 0.6, 60 / 380, 3.0] == [quota.interval(lane, 400) for lane in Lane]
        assert [0.0, 1.2, 1.2, 60 / 190, 6.0] == [quota.interval(lane, 200) for lane in Lane]

    @pytest.mark.parametrize(
        ("capacity", "people", "calls"),
        [
            (400, 0, 380),
            (400, 30, 380),
            (400, 60, 360),
            (400, 220, 200),
            (400, 400, 200),
            (200, 0, 190),
            (200, 60, 160),
            (1, 0, 1),
            (1, 300, 1),
        ],
    )
    def test_machines_together_leave_people_theirs(
        self, capacity: int, people: int, calls: int
    ) -> None:
        """So many calls a minute, of what can be taken: what people do not hold, half at least."""
        interval = Quota().interval_of_machines(capacity, people=people)

        assert pytest.approx(60 / calls) == interval

    def test_small_batch_share_bounds_the_other_machines(self) -> None:
        """No lane of machines may hold more than all of them together."""
        quota = Quota(batch=50)

        assert [400, 50, 50, 50, 20] == [quota.share(lane) for lane in Lane]

    @pytest.mark.parametrize(
        "numbers",
        [
            {"limit": 0},
            {"batch": 0},
            {"batch": 401},
            {"period": 0.0},
            {"margin": -0.1},
            {"doubt": -1.0},
            {"lease": 0.0},
        ],
    )
    def test_impossible_numbers_are_refused(self, numbers: dict[str, float]) -> None:
        """A quota that could never work is refused when it is made."""
        with pytest.raises(ValueError, match=next(iter(numbers))):
            Quota(**numbers)  # type: ignore[arg-type]
