"""How a difference is laid out on a screen of 80 columns."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from wxpay_async.cli.sign_screen import find_language, print_explanation, to_fields
from wxpay_async.protocol.explain import explain
from wxpay_async.protocol.signing import Md5Signer

SIGNER = Md5Signer("secret")


@pytest.mark.parametrize("letter", ["x", "茶"])
def test_lines_of_a_difference_never_break(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, letter: str
) -> None:
    """Chinese takes two cells a character."""
    monkeypatch.setenv("COLUMNS", "80")
    value, other = letter * 60 + "1" + letter * 60, letter * 60 + "2" + letter * 60
    found = explain({"a": value, "b": "1"}, SIGNER, against=f"a={other}&b=1")
    print_explanation(found, "zh")
    right, mark, theirs = capsys.readouterr().out.splitlines()[-3:]

    assert cell_len(mark) <= 80
    assert cell_len(right.partition("1")[0]) == cell_len(theirs.partition("2")[0])
    assert cell_len(right.partition("1")[0]) == mark.index("^")
    assert all(cell_len(line) <= 80 for line in (right, theirs))


def test_empty_string_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """There may be nothing to sign."""
    print_explanation(explain({"a": ""}, SIGNER), "en")

    assert "Canonical string, 0 bytes" in capsys.readouterr().out


def test_path_is_told_to_programs_where_it_is_known() -> None:
    """It is not signed."""
    assert "/api/x" == to_fields(explain({"a": "1"}, SIGNER, path="/api/x"), "en")["path"]
    assert "path" not in to_fields(explain({"a": "1"}, SIGNER), "en")


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "WXPAY_LANG": "EN"}, "en"),
        ({"WXPAY_LANG": "ZH"}, "zh"),
    ],
)
def test_language_is_found_in_the_environment(environ: dict[str, str], language: str) -> None:
    """WXPAY_LANG, then the locale, else English."""
    assert language == find_language(environ)
