"""How a difference is laid out on a screen of 80 columns."""

from __future__ import annotations

import attrs
import pytest
from rich.cells import cell_len

from wxpay_async.cli.sign_screen import print_explanation, to_fields
from wxpay_async.language import Language
from wxpay_async.protocol.explain import explain
from wxpay_async.protocol.explain_causes import Cause
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


@pytest.mark.parametrize("language", ["en", "zh"])
def test_sentence_that_is_longer_than_a_line_is_shown_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, language: Language
) -> None:
    """Chinese has no blanks at which it could be broken."""
    monkeypatch.setenv("COLUMNS", "40")
    found = explain({"a": "1"}, SIGNER, against="a=%31&timestamp=1\n")
    assert found.comparison is not None
    every = attrs.evolve(found.comparison, causes=tuple(Cause))
    print_explanation(attrs.evolve(found, comparison=every), language)
    shown = "".join(capsys.readouterr().out.split())

    for cause in Cause:
        assert "".join(cause.sentence.in_language(language).split()) in shown


def test_empty_string_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """There may be nothing to sign."""
    print_explanation(explain({"a": ""}, SIGNER), "en")

    assert "Canonical string, 0 bytes" in capsys.readouterr().out


def test_path_is_told_to_programs_where_it_is_known() -> None:
    """It is not signed."""
    assert "/api/x" == to_fields(explain({"a": "1"}, SIGNER, path="/api/x"), "en")["path"]
    assert "path" not in to_fields(explain({"a": "1"}, SIGNER), "en")
