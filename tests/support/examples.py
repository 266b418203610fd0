"""Decide how many examples the property tests try."""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, settings

_ASKED_FOR: Final = os.environ.get("WXPAY_TEST_EXAMPLES", "")


def count_examples(*, quick: int, full: int) -> int:
    """Return how many examples a test tries.

    That is the quick number; or the full one with WXPAY_TEST_EXAMPLES=full; or, with a number in
    that variable, this number.
    """
    if _ASKED_FOR == "full":
        return full
    return int(_ASKED_FOR or quick)


def load_profile() -> None:
    """Give each test its examples, and no limit on time: a machine may be slow, or busy."""
    settings.register_profile(
        "wxpay_async",
        max_examples=count_examples(quick=50, full=100),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("wxpay_async")
