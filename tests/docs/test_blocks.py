"""Every block of code of the documents is right: typed, parsed, or a command that there is.

A block of Python whose first line is `# name.py` is a file. Tests of its page run it. All others
are fragments, which are typed here, with the names of `given.py`.
"""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.support.cli_page import PROGRAM, find_options, iter_commands
from tests.support.pages import DOCS, ROOT, Block, find_blocks, find_commands, find_pages
from wxpay_async.engine.environment import VARIABLES

BLOCKS = [block for page in find_pages() for block in find_blocks(page)]
ENGLISH = [block for block in BLOCKS if ".zh." not in block.page.name]
FRAGMENTS = [block for block in ENGLISH if block.language == "python" and not block.name]
RUN_BY_TESTS = {
    "tutorial.md": "tests/docs/test_tutorial.py",
    "signers.md": "tests/docs/test_signers_page.py",
    "sync-code.md": "tests/test_sync_docs.py",
    "testing.md": "tests/test_testing_docs.py",
    "web.md": "tests/test_web_docs.py",
}
HEAD = """
import asyncio
import json
import os
from datetime import timedelta
from typing import Annotated

from fastapi import Body
from redis.asyncio import Redis

import wxpay_async as wx
from given import *
from wxpay_async import *
from wxpay_async.integrations.fastapi import GatewayDependency


async def example() -> None:
"""
LANGUAGES = {
    *("console", "cron", "dockerfile", "html", "ini", "json", "python", "sql", "text", "toml"),
    "yaml",
}
COMMANDS = dict(iter_commands())
EXTRAS = set(
    tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
)
OTHER_VARIABLES = {
    *("WXPAY_BROKER_URL", "WXPAY_LANG", "WXPAY_PAY_PUBLIC_KEY", "WXPAY_PLATFORM_KEY_FILE"),
    *("WXPAY_TEST_EXAMPLES", "TEA_WXPAY_APP_KEY"),
}


def each(*languages: str) -> pytest.MarkDecorator:
    """Run a test for each block of some languages."""
    chosen = [block for block in ENGLISH if block.language in languages]
    return pytest.mark.parametrize("block", chosen, ids=lambda block: block.place)


def test_blocks_say_their_language() -> None:
    """Each is one that something below, or a reader's editor, knows."""
    assert [] == [block.place for block in BLOCKS if block.language not in LANGUAGES]


def test_files_of_pages_are_run_by_tests() -> None:
    """A page with a block that is a file has a test of its own."""
    pages = {block.page.name for block in ENGLISH if block.language == "python" and block.name}

    assert pages == set(RUN_BY_TESTS)
    assert [] == [test for test in RUN_BY_TESTS.values() if not (ROOT / test).is_file()]


def test_fragments_of_python_are_typed(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """All of them in one run of mypy; a line of its output names the page."""
    shutil.copy(Path(__file__).with_name("given.py"), tmp_path / "given.py")
    for number, block in enumerate(FRAGMENTS):
        name = re.sub(r"\W", "_", block.place.removeprefix("docs/"))
        (tmp_path / f"{name}_{number}.py").write_text(wrap(block), encoding="utf-8")
    settings = "[mypy]\nignore_missing_imports = True\ncheck_untyped_defs = True\n"
    (tmp_path / "mypy.ini").write_text(settings, encoding="utf-8")
    cache = pytestconfig.cache.mkdir("mypy-of-docs") if pytestconfig.cache else tmp_path / "cache"

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(cache), "."],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def wrap(block: Block) -> str:
    """Return a module of a fragment, in which it may also await."""
    return HEAD + textwrap.indent(block.text, "    ")


@pytest.mark.parametrize("page", find_pages(), ids=lambda page: page.name)
def test_commands_of_a_page_exist_with_their_options(page: Path) -> None:
    """In blocks for the shell, and in backticks within the text."""
    shell = [block.text for block in find_blocks(page) if block.language in {"console", "cron"}]
    inline = re.findall(rf"`({PROGRAM} [^`\n]+)`", page.read_text(encoding="utf-8"))
    wrong = [
        " ".join(words)
        for text in (*shell, *inline)
        for words in find_commands(text, PROGRAM)
        if "COMMAND" not in words and not is_command(words)
    ]

    assert [] == wrong


def is_command(words: list[str]) -> bool:
    """Tell whether there is such a command, with such options."""
    name, rest = PROGRAM, list(words)
    while rest and f"{name} {rest[0]}" in COMMANDS:
        name = f"{name} {rest.pop(0)}"
    if name != PROGRAM and hasattr(COMMANDS[name], "commands"):
        return not rest  # a group is named as a whole
    options = {word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"}
    return options <= find_options(COMMANDS[name]) and (
        name != PROGRAM or not (set(rest) - options)
    )


def test_command_that_is_made_up_is_found() -> None:
    """The check above goes red for a command and for an option."""
    assert is_command(["doubts", "list", "--older-than", "1h"])
    assert not is_command(["doubts", "list", "--younger-than", "1h"])
    assert not is_command(["heal", "everything"])


@each("console", "dockerfile")
def test_extras_that_are_installed_exist(block: Block) -> None:
    """The project is installed from its folder, never by a name of an index."""
    extras = re.findall(r"\[([\w,]+)\]", " ".join(re.findall(r"pip install [^\n]+", block.text)))

    assert {name for group in extras for name in group.split(",")} <= EXTRAS
    assert not re.search(r"pip install [^\n&]*wxpay-async", block.text)


@each("json")
def test_json_is_read(block: Block) -> None:
    """By Python's own reader."""
    assert json.loads(block.text)


@each("toml")
def test_toml_is_read(block: Block) -> None:
    """By Python's own reader."""
    assert tomllib.loads(block.text)


@each("yaml")
def test_yaml_is_read(block: Block) -> None:
    """By PyYAML's safe reader."""
    assert yaml.safe_load(block.text)


@each("ini")
def test_settings_of_an_example_exist(block: Block) -> None:
    """Each line sets a variable that the gateway reads, and no value is quoted."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign,assignment] - names in upper case
    parser.read_string(f"[env]\n{textwrap.dedent(block.text)}")

    assert set(parser["env"]) <= set(VARIABLES)
    assert [] == [value for value in parser["env"].values() if value[:1] in {"'", '"'}]


def test_variables_that_pages_name_exist() -> None:
    """In text, too."""
    named = {
        name
        for page in find_pages()
        for name in re.findall(r"\b(?:TEA_)?WXPAY_[A-Z_]+[A-Z]\b", page.read_text("utf-8"))
    }

    assert named <= {*VARIABLES, *OTHER_VARIABLES}


def test_alerts_are_read() -> None:
    """The files for Prometheus and Grafana."""
    folder = DOCS / "monitoring"

    assert yaml.safe_load((folder / "alerts.yml").read_text("utf-8"))["groups"]
    assert json.loads((folder / "grafana.json").read_text("utf-8"))["panels"]
