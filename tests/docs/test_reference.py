"""The pages of the reference are those that the code makes, or name what it has."""

from __future__ import annotations

import re

import attrs
import pytest

import wxpay_async
from tests.support.cli_page import EXIT_CODES, make_page
from tests.support.pages import DOCS
from tests.support.states_table import make_status_table, make_table
from wxpay_async import EventKind, RetryPolicy, Timeouts, Verdict
from wxpay_async.engine.environment import VARIABLES
from wxpay_async.integrations import opentelemetry
from wxpay_async.policy.states import Transition

both_languages = pytest.mark.parametrize("suffix", ["", ".zh"], ids=["English", "Chinese"])


def read(name: str) -> str:
    """Return a page."""
    return (DOCS / name).read_text(encoding="utf-8")


def first_cells(text: str) -> list[str]:
    """Return the names in backticks of the first cell of each row."""
    rows = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    return [name.partition("=")[0] for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_page_of_the_command_line_is_made_of_the_commands() -> None:
    """`python -m tests.support.cli_page` prints it."""
    page = read("cli.md")

    assert page.endswith(make_page())
    assert EXIT_CODES in page


@both_languages
def test_tables_of_states_are_made_of_the_transitions(suffix: str) -> None:
    """`python -m tests.support.states_table` prints them."""
    page, language = read(f"states{suffix}.md"), int(bool(suffix))

    assert make_table(language) in page
    assert make_status_table(language) in page
    assert set(Transition) <= set(re.findall(r"`(\w+)`", page))


@both_languages
def test_events_have_every_kind_verdict_and_metric(suffix: str) -> None:
    """In their order."""
    kinds, _, rest = read(f"events{suffix}.md").partition("CallbackReceiver(")
    metrics = re.findall(r"^\| `([\w.]+)` \|", opentelemetry.__doc__ or "", re.MULTILINE)

    assert list(EventKind) == first_cells(kinds)
    assert [*Verdict, *metrics] == first_cells(rest)


@both_languages
def test_settings_have_every_variable(suffix: str) -> None:
    """Those that the gateway reads, and some of the command line and of hints."""
    named = set(first_cells(read(f"settings{suffix}.md")))

    assert set(VARIABLES) <= named


@both_languages
def test_timeouts_have_every_default(suffix: str) -> None:
    """The tables name each field with its default."""
    page = read(f"timeouts{suffix}.md")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", page, re.MULTILINE))
    fields = (*attrs.fields(Timeouts), *attrs.fields(RetryPolicy))
    given = {field.name: f"{field.default:g}" for field in fields}

    assert given == rows


def test_api_has_every_public_name_once() -> None:
    """Each name of the front door is on one page of the API."""
    pages = "".join(page.read_text("utf-8") for page in sorted((DOCS / "api").glob("*.md")))
    named = re.findall(r"^::: wxpay_async\.(\w+)$", pages, re.MULTILINE)

    assert sorted(set(wxpay_async.__all__) - {"__version__"}) == sorted(named)


def test_every_page_is_in_the_navigation() -> None:
    """Strict builds of the site see to it, too; this one needs no extra."""
    settings = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r": ([\w/-]+\.md)$", settings, re.MULTILINE)
    pages = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if ".zh." not in page.name]

    assert sorted(pages) == sorted(named)
