"""The help in Chinese: whole, true to the English one, and readable on 80 columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from rich import _wrap
from rich.cells import cell_len
from rich.text import Text

from tests.cli.harness import Run, find_commands
from wxpay_async.cli.help_of_options import OPTION_TEXTS
from wxpay_async.cli.help_texts import COMMAND_TEXTS, translate_help
from wxpay_async.cli.main import app
from wxpay_async.cli.output import join_lines

TEXTS = {**COMMAND_TEXTS, **OPTION_TEXTS}
TOKENS = re.compile(
    r"--[a-z][a-z-]+|`[^`]+`|\w+://|\w+=|[\w-]+\.(?:db|jsonl|md|pem)|[A-Z][A-Z0-9_]+"
    r"|\b[a-z]+[A-Z][A-Za-z]+?(?=s?\b)|\d[\d,.]*\d|\d"
)
"""Options, variables, files, names of the platform and numbers: the same in both languages."""

CHINESE = re.compile(r"[\u4e00-\u9fff]")
NAMES = ["", "store", "keys", "doubts", "sign", *sorted(find_commands())]


@pytest.fixture
def chinese(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run commands in Chinese; rich breaks lines as before when the test has ended."""
    monkeypatch.setenv("WXPAY_LANG", "zh")
    monkeypatch.setattr(_wrap, "re_word", _wrap.re_word)
    monkeypatch.setattr(Text, "rstrip_end", Text.rstrip_end)
    return run


def walk(command: Any, parent: typer.Context | None = None) -> Iterator[tuple[Any, list[Any]]]:  # noqa: ANN401 - its click may be typer's own
    """Yield a command and those below it, each with its parameters."""
    context = typer.Context(command, parent=parent, **command.context_settings)
    yield command, command.get_params(context)
    for below in getattr(command, "commands", {}).values():
        yield from walk(below, context)


def find_texts(program: Any) -> set[str]:  # noqa: ANN401 - as above
    """Return all help texts of a program."""
    found = set[str]()
    for command, parameters in walk(program):
        texts = [command.help, command.epilog, command.short_help]
        texts += [parameter.help for parameter in parameters]
        found |= {join_lines(text) for text in texts if text}
    return found


def test_help_has_a_chinese_text_for_each_english_one_and_no_other() -> None:
    """A text that changes needs its Chinese one changed."""
    found = find_texts(typer.main.get_command(app))
    assert (set(), set()) == (found - set(TEXTS), set(TEXTS) - found)


@pytest.mark.parametrize("english", TEXTS)
def test_chinese_text_keeps_names_and_numbers(english: str) -> None:
    """They are what a reader types."""
    missing = [token for token in TOKENS.findall(english) if token not in TEXTS[english]]
    assert ([], True) == (missing, bool(CHINESE.search(TEXTS[english])))


def test_translated_program_has_chinese_texts_only() -> None:
    """Commands, arguments, options and `--help`, each under a Chinese title."""
    program = typer.main.get_command(app)
    translate_help(program)
    assert [] == [text for text in find_texts(program) if not CHINESE.search(text)]
    for command, parameters in walk(program):
        titles = [command.rich_help_panel, *(each.rich_help_panel for each in parameters)]
        assert set(titles) <= {"命令", "选项", "参数"}


@pytest.mark.parametrize("name", NAMES)
def test_help_in_chinese_is_whole_on_eighty_columns(chinese: Run, name: str) -> None:
    """Nothing is cut off, although Chinese has no spaces where rich breaks lines."""
    shown = chinese(*name.split(), "--help")
    assert 0 == shown.code
    assert "退出码：0 完成；1 被平台拒绝" in shown.out
    assert "…" not in shown.out
    assert max(cell_len(line) for line in shown.out.splitlines()) <= 80


def test_help_in_english_follows_one_in_chinese(
    chinese: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The language is that of each run."""
    assert "命令" in chinese("--help").out
    monkeypatch.setenv("WXPAY_LANG", "en")
    assert not CHINESE.search(chinese("--help").out)
