"""What the README says is true of the code."""

from __future__ import annotations

import ast
import itertools
import re
import tomllib
from pathlib import Path

import pytest

import wxpay_async
from tests.support.error_table import (
    Row,
    make_chinese_codes_table,
    make_chinese_table,
    make_codes_table,
    make_rows,
    make_table,
)
from tests.support.pages import CHINESE, README, drop_blocks, find_blocks

EXAMPLES = sorted((README.parent / "examples").glob("*.py"))
COMMANDS = [
    'python3 -m venv .venv && .venv/bin/pip install ".[cli]" && .venv/bin/wxpay-async demo',
    'python3 -m venv .venv && .venv/bin/pip install -e ".[dev]" && .venv/bin/pytest',
]
PUBLIC_MODULES = {
    *("integrations.fastapi", "integrations.aiohttp", "integrations.taskiq"),
    *("batch", "sandbox"),
}
both_languages = pytest.mark.parametrize("file", [README, CHINESE], ids=["English", "Chinese"])
ERRORS = README.parent / "docs" / "errors.md"


@pytest.mark.parametrize(
    ("file", "table"),
    [
        (ERRORS, make_table()),
        (ERRORS, make_codes_table()),
        (ERRORS.with_name("errors.zh.md"), make_chinese_table()),
        (ERRORS.with_name("errors.zh.md"), make_chinese_codes_table()),
    ],
    ids=["docs/errors.md", "errorCodes", "docs/errors.zh.md", "errorCodes in Chinese"],
)
def test_table_of_errors_is_the_one_that_the_code_makes(file: Path, table: str) -> None:
    """Every class, its fate, its parents, whether it is tried again, and what a merchant does.

    `python -m tests.support.error_table` prints it, with `--codes` that of the errorCodes,
    with `--zh` the Chinese one.
    """
    assert table in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("row", make_rows(), ids=lambda row: row.name)
def test_class_of_an_error_says_what_to_do(row: Row) -> None:
    """In its docstring; and it is exported."""
    assert row.advice
    assert row.name in wxpay_async.__all__


def test_chinese_readme_names_what_the_english_one_names() -> None:
    """Every setting, option, extra, address and part."""
    named = set(re.findall(r"`([^`\n]+)`", README.read_text("utf-8")))
    chinese = CHINESE.read_text(encoding="utf-8")

    assert {"WXPAY_STORE_URL", "otel", "error.hint"} <= named
    named.discard(CHINESE.name)
    assert [] == sorted(name for name in named if name not in chinese)


def test_readme_names_every_extra() -> None:
    """In the table, and so does the Chinese one, by the test above."""
    project = tomllib.loads((README.parent / "pyproject.toml").read_text(encoding="utf-8"))
    text = README.read_text(encoding="utf-8")
    extras = project["project"]["optional-dependencies"]

    assert [] == [extra for extra in extras if f"`{extra}`" not in text]


@both_languages
def test_commands_of_the_first_section_make_their_own_environment(file: Path) -> None:
    """Each is one line, which the checks of every change run as it is."""
    blocks = [block.text.strip() for block in find_blocks(file) if block.language == "console"]

    assert COMMANDS == blocks[:2]


@pytest.mark.parametrize("file", [README, CHINESE, *EXAMPLES], ids=lambda file: file.name)
def test_text_for_readers_names_public_modules_only(file: Path) -> None:
    """Everything else is imported from the package itself."""
    named = re.findall(r"\bwxpay_async\.([a-z_]+(?:\.[a-z_]+)*)", file.read_text(encoding="utf-8"))

    assert set(named) <= PUBLIC_MODULES


@pytest.mark.parametrize(
    "name", ["README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
)
def test_links_lead_somewhere(name: str) -> None:
    """To a file of the repository, or to a heading of the page."""
    file = README.with_name(name)
    text = drop_blocks(file.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {f"#{heading.lower().replace(' ', '-')}" for heading in headings}
    links = re.findall(r"\]\(([^)]+)\)", text)

    assert links
    assert [] == [
        link
        for link in links
        if not link.startswith("https://")
        and link not in anchors
        and not (file.parent / link).is_file()
    ]


def test_chinese_readme_leads_to_chinese_pages() -> None:
    """Wherever there is one."""
    links = re.findall(r"\]\((docs/[\w-]+\.md)", CHINESE.read_text("utf-8"))
    pages = [CHINESE.parent / link for link in links]

    assert pages
    assert [] == [page for page in pages if page.with_suffix(f".zh{page.suffix}").exists()]


def test_contents_have_every_section() -> None:
    """In both languages, in the order of the page."""
    for file in (README, CHINESE):
        text = drop_blocks(file.read_text(encoding="utf-8"))
        sections = re.findall(r"^## (.+)$", text, re.MULTILINE)

        assert sections == re.findall(r"\[([^\]]+)\]\(#", text)


def test_code_of_both_languages_is_the_same() -> None:
    """Commands and files are equal; comments and the words of the picture are translated."""
    english, chinese = (
        [(it.language, _strip_words(it.language, it.text)) for it in find_blocks(file)]
        for file in (README, CHINESE)
    )

    assert english == chinese


def _strip_words(language: str, text: str) -> str:
    """Return a block without what is translated."""
    match language:
        case "python":
            return ast.unparse(ast.parse(text))
        case "mermaid":
            return re.sub(r"(?<= as ).+|(?<=: ).+", "", text)
        case _:
            return text


def test_changelog_begins_with_the_version_of_the_package() -> None:
    """Its newest dated section has that version."""
    changelog = README.with_name("CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\](?: - \d{4}-\d{2}-\d{2})?$", changelog, re.MULTILINE)

    assert ["Unreleased", wxpay_async.__version__] == headings[:2]


def test_changelog_compares_each_version_with_the_one_before() -> None:
    """By links that are relative, so that they work in every copy of the repository."""
    changelog = README.with_name("CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d.+?)\]", changelog, re.MULTILINE)
    links = dict(re.findall(r"^\[(.+?)\]: (\S+)$", changelog, re.MULTILINE))

    assert links == {
        "Unreleased": f"../../compare/v{versions[0]}...HEAD",
        **{
            later: f"../../compare/v{earlier}...v{later}"
            for later, earlier in itertools.pairwise(versions)
        },
        versions[-1]: f"../../releases/tag/v{versions[-1]}",
    }


@both_languages
def test_shops_listen_where_callbacks_are_sent(file: Path) -> None:
    """Not on the sandbox's own port."""
    shop = (README.parent / "examples" / "aiohttp_shop.py").read_text(encoding="utf-8")
    [port] = re.findall(r'"PORT", "(\d+)"', shop)
    sent = re.findall(r"--notify-url\s+http://127\.0\.0\.1:(\d+)", file.read_text("utf-8"))

    assert (True, {"8000"}) == (bool(sent), {port, *sent})
