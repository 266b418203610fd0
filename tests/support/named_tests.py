"""Check that a test which a document names exists, and say what to write if it does not."""

from __future__ import annotations

import functools
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]

_DEFINITION = re.compile(
    r"^(?P<indent> *)(?:(?:async )?def (?P<test>test_\w+)\(|class (?P<group>\w+)[(:]"
    r"|(?P<machine>Test\w+) = )",
    re.MULTILINE,
)

_FILLERS = frozenset({"a", "an", "and", "in", "is", "it", "not", "of", "s", "test", "that", "the"})


@functools.cache
def tests_in(path: str) -> tuple[str, ...]:
    """Return the tests of a file under `tests/`.

    A function is `name`, a method `Class::name`, a state machine of Hypothesis `TestName`.
    """
    found: list[str] = []
    group = ""
    for match in _DEFINITION.finditer((TESTS / path).read_text(encoding="utf-8")):
        if match["group"]:
            group = f"{match['group']}::"
        elif match["machine"]:
            found.append(match["machine"])
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
    folder = path.rpartition("/")[0]
    near = [other for other in _all_tests() if other.rpartition("/")[0] == folder]
    likeliest = sorted(near, key=lambda other: _likeness(path, test, other), reverse=True)[:3]
    if not likeliest:
        return "name the test that holds the same now"
    return f"if it was renamed, write its new name in its place, such as {', '.join(likeliest)}"


def _likeness(path: str, test: str, other: str) -> float:
    other_path, _, other_test = other.partition("::")
    words, others = (set(name.split("_")) - _FILLERS for name in (test, other_test))
    return len(words & others) / len(words | others) + (0.1 if path == other_path else 0.0)
