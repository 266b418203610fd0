"""What a check finds, and the exit code of a report."""

from __future__ import annotations

import pytest

from wxpay_async.cli.doctor.findings import (
    CONFIGURATION,
    REFUSED,
    UNREACHABLE,
    Area,
    Finding,
    Scribe,
    choose_exit_code,
    has_failed,
)

WRITE = Scribe(Area.STORE)
OK = WRITE.ok("a", "b")
WARNING = WRITE.warn("a", "b", "c")


def fail(code: int) -> Finding:
    """Write a failure."""
    return WRITE.fail("a", "b", "c", exit_code=code)


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([], 0),
        ([OK, WARNING], 0),
        ([fail(REFUSED), OK], REFUSED),
        ([fail(REFUSED), fail(UNREACHABLE)], UNREACHABLE),
        ([fail(REFUSED), fail(UNREACHABLE), fail(CONFIGURATION)], CONFIGURATION),
    ],
)
def test_exit_code_is_that_of_the_first_cause(findings: list[Finding], code: int) -> None:
    """A configuration that is wrong explains why nothing is reached, and that why it is refused."""
    assert code == choose_exit_code(findings)
    assert bool(code) is has_failed(findings)


def test_json_has_the_facts_and_no_character_that_controls_a_terminal() -> None:
    """Texts come from the platform, too."""
    line = WRITE.warn("a\x1b", "b\n", "c\r", facts={"version": 2})
    assert {
        "area": "store",
        "name": "a\N{REPLACEMENT CHARACTER}",
        "status": "warning",
        "text": "b\N{REPLACEMENT CHARACTER}",
        "advice": "c\N{REPLACEMENT CHARACTER}",
        "version": 2,
    } == line.to_json()
