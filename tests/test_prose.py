"""Readers understand a sentence at once: it is short, and has a plain subject."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages import CHINESE, README, ROOT, drop_blocks

MOST_WORDS = 30
RIDDLES = re.compile(r"\b(whoever|whomever|nobody|somebody|anew)\b", re.IGNORECASE)
"""Words that hide who does something, or that learners do not know."""

QUESTION = re.compile(r"(Who|What|Whether|Where|When|Which|How|Of)\b")

RIDDLES_IN_CHINESE = re.compile("存疑|下一代|实话|由人来看")
"""Words that were translated from the English, where the trade has others."""

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LONG_PAGES = {"cli.md", "money-safety.md", "money-safety-tests.md", "protocol.md"}
"""Rules with all their figures, and what is made from the code."""

SHORT_PAGES = [
    page
    for page in PAGES
    if page.is_relative_to(ROOT / "docs")
    and page.suffixes[:1] != [".zh"]
    and page.name not in LONG_PAGES
]
CHINESE_PAGES = [CHINESE, *(page for page in PAGES if page.suffixes[:1] == [".zh"])]
MODULES = sorted(ROOT.glob("wxpay_async/**/*.py"))

_END = re.compile(r"(?<=[.!?])\s+")
_CHINESE_CHARACTER = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
_STARTS_A_LINE = re.compile(r"\s*([|#*><-]|\d+\.)")


def name_of(path: Path) -> str:
    """Return the path from the root, for the names of tests."""
    return str(path.relative_to(ROOT))


def list_docstrings(source: str) -> list[tuple[int, str]]:
    """Return line and text of each docstring, also of attributes."""
    return [
        (node.lineno, ast.literal_eval(node.value))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]


def find_sentences(page: str) -> Iterator[str]:
    """Yield the sentences of a page: of its paragraphs, list items and cells, without code."""
    for paragraph in re.split(r"\n\s*\n|\n(?=[-*#>|] ?)", drop_blocks(page)):
        for cell in re.split(r"\|| · ", paragraph):
            yield from _END.split(" ".join(cell.split()))


def is_long(sentence: str) -> bool:
    """Whether it must be read twice."""
    return len(sentence.split()) > MOST_WORDS


def find_broken_sentences(page: str) -> list[str]:
    """Return lines of Chinese that go on in the next line, which shows as a blank."""
    lines = drop_blocks(page).splitlines()
    return [
        line
        for line, following in itertools.pairwise(lines)
        if _CHINESE_CHARACTER.search(line)
        and following.strip()
        and not line.startswith(("#", "|"))
        and not _STARTS_A_LINE.match(following)
    ]


@pytest.mark.parametrize("page", SHORT_PAGES, ids=name_of)
def test_page_has_no_long_sentence(page: Path) -> None:
    """As in the README. A hint in a table of errors is one sentence, for a line of a log."""
    sentences = find_sentences(page.read_text(encoding="utf-8"))

    assert [] == [one for one in sentences if is_long(one) and "WXPAY_PROXY" not in one]


def test_readme_has_no_long_sentence() -> None:
    """A sentence has 30 words at most."""
    sentences = find_sentences(README.read_text(encoding="utf-8"))

    assert [] == [sentence for sentence in sentences if is_long(sentence)]


def test_docstring_begins_with_a_short_sentence() -> None:
    """Its first line, in every module of the package."""
    long = [
        f"{name_of(path)}:{line}: {first}"
        for path in MODULES
        for line, text in list_docstrings(path.read_text(encoding="utf-8"))
        for first in _END.split(text.strip().partition("\n")[0])
        if is_long(first)
    ]

    assert [] == long, "\n".join(long)


def test_docstring_of_a_module_says_what_it_does() -> None:
    """It starts with a noun phrase or an imperative, and with no question."""
    questions = [
        f"{name_of(path)}: {text.splitlines()[0]}"
        for path in MODULES
        if QUESTION.match(text := ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
    ]

    assert [] == questions, "\n".join(questions)


def test_docstring_has_a_plain_subject() -> None:
    """Not only in its first line."""
    found = [
        f"{name_of(path)}:{line}: {match[0]}"
        for path in MODULES
        for line, text in list_docstrings(path.read_text(encoding="utf-8"))
        for match in RIDDLES.finditer(text)
    ]

    assert [] == found, "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_has_plain_subjects(page: Path) -> None:
    """A reader learns who does what."""
    assert [] == RIDDLES.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", CHINESE_PAGES, ids=name_of)
def test_chinese_page_has_the_words_of_the_trade(page: Path) -> None:
    """And each of its sentences stands on one line."""
    text = page.read_text(encoding="utf-8")

    assert [] == RIDDLES_IN_CHINESE.findall(text)
    assert [] == find_broken_sentences(text)


@pytest.mark.parametrize(
    ("page", "count"),
    [
        ("word " * 30 + "end.", 1),
        ("word " * 20 + "end. " + "word " * 20 + "end.", 0),
        ("word " * 15 + "\n" + "word " * 15 + "end.", 1),
        ("- " + "word " * 20 + "\n- " + "word " * 20, 0),
        ("| " + "word " * 20 + " | " + "word " * 20 + " |", 0),
        ("```python\n" + "word " * 40 + "\n```\n", 0),
    ],
    ids=["long", "two", "two lines", "list", "table", "code"],
)
def test_long_sentence_is_found(page: str, count: int) -> None:
    """Wherever its lines break; code is none."""
    assert count == sum(map(is_long, find_sentences(page)))


@pytest.mark.parametrize(
    ("page", "count"),
    [("一句话，\n分成两行。", 1), ("一句话。\n\n另一句。", 0), ("- 一项\n- 另一项\n", 0)],
    ids=["broken", "paragraphs", "list"],
)
def test_sentence_that_is_broken_is_found(page: str, count: int) -> None:
    """Chinese has no blank between words, so a line break within a sentence shows."""
    assert count == len(find_broken_sentences(page))


def test_docstrings_of_all_kinds_are_found() -> None:
    """Of modules, classes, functions and attributes."""
    source = "'M.'\nclass C:\n    'C.'\n    x = 1\n    'X.'\nasync def f():\n    'F.'\n"

    assert ["C.", "F.", "M.", "X."] == sorted(text for _, text in list_docstrings(source))
