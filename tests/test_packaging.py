"""What the package says of itself to pip: what it needs, and where it comes from."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import pytest

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "wxpay_async"
DISTRIBUTIONS: Final = {
    "Crypto": "pycryptodome",
    "opentelemetry": "opentelemetry-api",
    "taskiq_aio_pika": "taskiq-aio-pika",
}
"""Where a module has another name than what pip installs."""

UNDECLARED: Final = {
    "httpx2": "taken in place of httpx, which the extra declares",
    "pydantic_core": "imported only by hooks that pydantic calls",
}
FOR_PEOPLE: Final = {"dev", "bench", "docs"}
"""Extras for those who work on the package: what they bring is nothing that it may count on."""

NAMED: Final = re.compile(r"pip install (?:-\S+ )*['\"]?wxpay-async(?!\[[\w,{}]+\] @ )")


@cache
def read_project() -> Mapping[str, Any]:
    """Return the table `project`."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return cast("Mapping[str, Any]", tomllib.loads(text)["project"])


def find_names(requirements: list[str]) -> set[str]:
    """Return what requirements install, without versions and extras."""
    return {re.split(r"[\[<>=; ]", each)[0].lower() for each in requirements}


def list_declared() -> set[str]:
    """Return what the package and its extras for merchants need."""
    extras: dict[str, list[str]] = read_project()["optional-dependencies"]
    lists = [each for name, each in extras.items() if name not in FOR_PEOPLE]
    return find_names([*read_project()["dependencies"], *(name for each in lists for name in each)])


def list_imports(text: str) -> Iterator[str]:
    """Return the packages that a module imports from elsewhere, wherever the import stands."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        else:
            continue
        for name in names:
            package = name.partition(".")[0]
            if package != "wxpay_async" and package not in sys.stdlib_module_names:
                yield package


def find_undeclared(text: str) -> set[str]:
    """Return what a module imports and nothing declares."""
    declared, found = list_declared(), set(list_imports(text)) - UNDECLARED.keys()
    return {name for name in found if DISTRIBUTIONS.get(name, name) not in declared}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_import_is_declared(path: Path) -> None:
    """What another library happens to bring may be gone with its next version."""
    assert set() == find_undeclared(path.read_text(encoding="utf-8"))


def test_undeclared_import_is_found() -> None:
    """The check above goes red, also for what is imported in a function."""
    text = "import os, attrs\ndef f():\n    from multidict.abc import x\n    import Crypto.Hash"
    assert {"multidict"} == find_undeclared(text)


def test_every_exception_is_imported() -> None:
    """None is left over."""
    imported = {
        name for path in PACKAGE.rglob("*.py") for name in list_imports(path.read_text("utf-8"))
    }
    assert {*DISTRIBUTIONS, *UNDECLARED} <= imported


@pytest.mark.parametrize(
    "path",
    [
        path
        for folder in ("wxpay_async", "docs", "examples", "benchmarks", ".ci", ".github")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".py", ".md", ".yml", ".html", ".Dockerfile", ""} and path.is_file()
    ]
    + sorted(ROOT.glob("*.md")),
    ids=lambda path: path.name,
)
def test_text_does_not_install_the_package_from_an_index(path: Path) -> None:
    """The name is not ours there: somebody else's program would be installed."""
    assert [] == NAMED.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pip install wxpay-async", True),
        ("pip install -U 'wxpay-async[sql]'", True),
        ("pip install 'wxpay-async[sql,cli] @ git+https://git.example/wx.git'", False),
        ("pip install '.[sql]' in a checkout of `wxpay-async`", False),
    ],
)
def test_installation_by_the_bare_name_is_found(text: str, *, found: bool) -> None:
    """The check above goes red."""
    assert found == bool(NAMED.findall(text))


def test_undocumented_parts_have_an_upper_bound() -> None:
    """Each of these libraries is used by a name that its next major version may change."""
    extras: dict[str, list[str]] = read_project()["optional-dependencies"]
    every = [*read_project()["dependencies"], *(name for each in extras.values() for name in each)]
    bounded = find_names([each for each in every if "<" in each])
    expected = {"aiohttp", "asyncmy", "asyncpg", "httpx", "httpx2", "pyreqwest", "redis", "taskiq"}
    assert expected <= bounded


def test_classifiers_name_the_pythons_of_the_project() -> None:
    """From the oldest that pip accepts, without a gap."""
    marked = "Programming Language :: Python :: 3."
    minors = [
        int(each.removeprefix(marked))
        for each in read_project()["classifiers"]
        if each.startswith(marked)
    ]
    assert read_project()["requires-python"] == f">=3.{minors[0]}"
    assert minors == list(range(minors[0], minors[0] + len(minors)))
