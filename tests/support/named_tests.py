"""Check that a test which a document names exists, and say what to write if it does not."""

from __future__ import annotations

import difflib
import functools
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]

_DEFINITION = re.compile(
    r"^(?P<indent> *)(?:async )?(?:def (?P<test>test_\w+)\(|class (?P<group>\w+)[(:])", re.MULTILINE
)


@functools.cache
def tests_in(path: str) -> tuple[str, ...]:
    """Return the tests of a file under `tests/`: `name`, or `Class::name` for a method."""
    found: list[str] = []
    group = ""
    for match in _DEFINITION.finditer((TESTS / path).read_text(encoding="utf-8")):
        if match["group"]:
            group = f"{match['group']}::"
        else:
            found.append((group if match["indent"] else "") + match["test"])
    return tuple(found)


@functools.cache
def _all_tests() -> tuple[str, ...]:
    paths = (path.relative_to(TESTS).as_posix() for path in sorted(TESTS.rglob("test_*.py")))
    return tuple(f"{path}::{test}" for path in paths for test in tests_in(path))


def missing_test(named: str) -> str | None:
    """Return what to change if `path::test` names no test; None if the test exists.

    Args:
        named: the path from `tests/`, then the test's name, for a method its class before it.
    """
    path, _, test = named.partition("::")
    if (TESTS / path).is_file() and test in tests_in(path):
        return None
    return f"{named} does not exist; {_advice(path, test)}"


def _advice(path: str, test: str) -> str:
    moved = [other for other in _all_tests() if other.endswith(f"::{test}")]
    if moved:
        return f"write {' or '.join(moved)} in its place"
    here = [other for other in _all_tests() if other.startswith(f"{path}::")]
    near = difflib.get_close_matches(f"{path}::{test}", here or _all_tests(), n=3, cutoff=0.5)
    if near:
        return f"if it was renamed, write one of {', '.join(near)} in its place"
    return "name the test that holds the same now"
