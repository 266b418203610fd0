"""The Chinese pages have what the English ones have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.pages import DOCS, english_of, find_blocks, find_pages

CHINESE = [page for page in find_pages() if ".zh." in page.name]
ENGLISH_ONLY = {
    "cli.md",
    "money-safety-tests.md",
    *(f"api/{p.name}" for p in (DOCS / "api").glob("*")),
}
each = pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)

_COMMENT = re.compile(r" +# .*$", re.MULTILINE)


def code_of(page: Path) -> list[tuple[str, str]]:
    """Return language and text of each block, without the comments at the ends of lines."""
    return [(block.language, _COMMENT.sub("", block.text)) for block in find_blocks(page)]


def headings_of(page: Path) -> list[int]:
    """Return the levels of the headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [len(mark) for mark in re.findall(r"^(#+) ", text, re.MULTILINE)]


def test_every_page_for_readers_is_in_both_languages() -> None:
    """Of the reference, the API and the commands stay English; so does the index of tests."""
    english = {
        str(page.relative_to(DOCS)) for page in find_pages() if ".zh." not in page.name
    } - ENGLISH_ONLY

    assert english == {str(english_of(page).relative_to(DOCS)) for page in CHINESE}


@each
def test_blocks_of_code_are_the_same(page: Path) -> None:
    """In the same order, and but for comments to the letter."""
    assert code_of(english_of(page)) == code_of(page)


@each
def test_sections_are_the_same(page: Path) -> None:
    """As many headings, of the same levels."""
    assert headings_of(english_of(page)) == headings_of(page)


@each
def test_chinese_page_leads_to_chinese_pages(page: Path) -> None:
    """Wherever there is one: in the repository no plugin chooses the language."""
    links = re.findall(r"\]\(([\w-]+\.md)", page.read_text("utf-8"))
    pages = [page.parent / link for link in links]

    assert [] == [one for one in pages if one.with_suffix(f".zh{one.suffix}").exists()]
