"""Lines of Chinese break between characters, and Latin names stay whole."""

from __future__ import annotations

import pytest
from rich import _wrap
from rich.console import Console
from rich.text import Text

from wxpay_async.cli.chinese_lines import break_between_characters


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rich break lines as before when the test has ended."""
    monkeypatch.setattr(_wrap, "re_word", _wrap.re_word)
    monkeypatch.setattr(Text, "rstrip_end", Text.rstrip_end)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("订单已支付订单已退款", ["订单已支付", "订单已退款"]),
        ("订单已支付，订单", ["订单已支", "付，订单"]),
        ("订单 requestId 不变", ["订单", "requestId", "不变"]),
        ("order is paid", ["order is", "paid"]),
    ],
)
def test_text_in_ten_cells_breaks_between_characters_and_keeps_names(
    text: str, lines: list[str]
) -> None:
    """No line begins with a comma, and none is wider than its column."""
    break_between_characters()
    wrapped = Text(text).wrap(Console(), 10)

    assert lines == [line.plain.rstrip() for line in wrapped]
