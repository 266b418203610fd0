"""The words of the report, in both languages."""

from __future__ import annotations

import re

import pytest

from wxpay_async import errors
from wxpay_async.batch.report_texts import CHINESE, CHINESE_ADVICE, ENGLISH, read_advice
from wxpay_async.batch.tally import LABELS
from wxpay_async.errors import NotSentError, WxPayError
from wxpay_async.protocol.error_codes import CODES

ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, WxPayError)
]


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (0.0123, "0.01 s", "0.01 秒"),
        (9.99, "9.99 s", "9.99 秒"),
        (59.6, "1 min", "1 分钟"),
        (61, "1 min 1 s", "1 分钟 1 秒"),
        (3600, "1 h", "1 小时"),
        (3 * 3600 + 725, "3 h 12 min", "3 小时 12 分钟"),
        (2 * 86400 + 3601, "2 d 1 h", "2 天 1 小时"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, english: str, chinese: str) -> None:
    """Digits that help, and no others."""
    assert english == ENGLISH.format_duration(seconds).replace("\xa0", " ")
    assert chinese == CHINESE.format_duration(seconds).replace("\xa0", " ")


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_has_its_advice_in_both_languages(kind: type[WxPayError]) -> None:
    """The English is its docstring; the Chinese stands in a table of its own."""
    english, chinese = ENGLISH.find_advice(kind), CHINESE.find_advice(kind)

    assert english[1:] == f"{read_advice(kind)[1:]}."
    assert english[0] == read_advice(kind)[0].upper()
    assert f"{CHINESE_ADVICE[kind.__name__]}。" == chinese


def test_an_error_of_ones_own_has_the_advice_of_its_parent() -> None:
    """A part that is plugged in may raise it."""

    class OwnError(NotSentError):
        """A connection of one's own is down."""

    assert ENGLISH.find_advice(NotSentError) == ENGLISH.find_advice(OwnError)
    assert CHINESE.find_advice(NotSentError) == CHINESE.find_advice(OwnError)


def test_texts_of_both_languages_have_the_same_parts() -> None:
    """Nothing is said in one language only, down to the places of numbers."""
    for name in ("words", "labels", "notes", "operations", "sections", "meanings"):
        assert set(getattr(ENGLISH, name)) == set(getattr(CHINESE, name))
    places = re.compile(r"\{\w+\}")
    for name, text in ENGLISH.words.items():
        assert set(places.findall(text)) == set(places.findall(CHINESE.words[name]))
    assert set(LABELS) == set(ENGLISH.labels) == set(ENGLISH.notes)
    assert set(CODES) == set(CHINESE.meanings)
