"""`docs/sandbox.md` has each fault with its fields, and each magic value."""

import re
from pathlib import Path

import pytest

from wxpay_async.sandbox import FaultKind, Forgery, RateLimit, Says
from wxpay_async.sandbox.fault_input import list_fields
from wxpay_async.sandbox.faults import When
from wxpay_async.sandbox.magic import MAGIC_VALUES

PAGE = Path(__file__).parents[2] / "docs" / "sandbox.md"


def find_rows(heading: str) -> list[list[str]]:
    """Return the cells of the table of a section."""
    _, _, section = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")
    section = section.partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_page_has_each_kind_in_its_order() -> None:
    """With what the SDK makes of it."""
    rows = find_rows("Faults to order")
    assert [row[0].strip("`") for row in rows] == list(FaultKind)
    assert all(len(row) == 4 for row in rows)


@pytest.mark.parametrize("kind", list(FaultKind))
def test_page_has_the_fields_of_each_kind(kind: FaultKind) -> None:
    """Its own ones; the others are listed once, above."""
    row = next(row for row in find_rows("Faults to order") if row[0] == f"`{kind}`")
    own = [name for name in list_fields(kind) if name not in When.__annotations__]
    named = set(re.findall(r"`([\w-]+)`", row[2]))
    assert {*own} == named - {*RateLimit, *Says, *Forgery}
    for field, choices in (("variant", RateLimit), ("says", Says), ("forgery", Forgery)):
        if field in own:
            assert {*choices} <= named


def test_page_has_each_magic_value() -> None:
    """As the console lists them."""
    assert find_rows("Magic values") == [
        [f"`{value.openid}`", str(value.amount), value.text[0]] for value in MAGIC_VALUES
    ]
