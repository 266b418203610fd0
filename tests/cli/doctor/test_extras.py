"""What is installed, and what that leads to."""

from __future__ import annotations

import sys

import pytest

from tests.support.vectors import PRIVATE_KEY, ROOT
from wxpay_async import __version__
from wxpay_async.cli.doctor import extras
from wxpay_async.cli.doctor.extras import check_extras
from wxpay_async.cli.doctor.findings import Finding, Status
from wxpay_async.cli.doctor.settings import read_setup
from wxpay_async.language import Sentence

MD5 = {"WXPAY_APP_SECRET": "secret"}
RSA = {"WXPAY_PRIVATE_KEY": PRIVATE_KEY.read_text()}


def check(variables: dict[str, str]) -> dict[str, Finding]:
    """Return the lines by their names."""
    environ = {"WXPAY_APP_KEY": "k", **variables}
    return {line.name: line for line in check_extras(read_setup(environ, environ))}


def test_versions_are_those_of_this_program_and_of_python() -> None:
    """They are the first thing that support asks for."""
    text = check(MD5)["wxpay-async"].text
    assert text.startswith(f"{__version__}, Python {sys.version.split()[0]}, OpenSSL")


@pytest.mark.parametrize(("variables", "status"), [(MD5, Status.OK), (RSA, Status.WARNING)])
def test_missing_extra_says_what_it_leads_to(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], status: Status
) -> None:
    """Slow signatures are a warning where there are RSA signatures."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    lines = check(variables)
    assert status is lines["not installed"].status
    assert "speedups (RSA signatures in a third of the time)" in lines["not installed"].text
    assert "pip install" in lines["not installed"].advice
    assert "speedups" not in lines["installed"].text


def test_installed_extras_have_their_versions() -> None:
    """Whatever else is installed, the command line's is."""
    import typer  # noqa: PLC0415 - for its version alone

    extra = extras._Extra("cli", Sentence("the command line", "命令行"), "typer")
    assert typer.__version__ == extras._find_version(extra)


def test_every_extra_for_merchants_is_known() -> None:
    """A new one in `pyproject.toml` gets its line."""
    import tomllib  # noqa: PLC0415 - for this test alone

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    offered = set(project["optional-dependencies"]) - {"cli", "bench", "dev", "docs"}
    assert offered == {each.name for each in extras._EXTRAS}
