"""The words of the pages: complete in both languages, and chosen by what the reader wants."""

import re
from importlib.resources import files
from string import Formatter

import pytest

from wxpay_async.sandbox.console.diagnosis import Cause
from wxpay_async.sandbox.console.texts import CAUSES, LANGUAGES, TEXTS, choose_language

# These are the same in both languages on purpose.
NAMES = {"app_key"}


def test_texts_are_complete_in_both_languages() -> None:
    """Each word is there in both, and Chinese where the other is English."""
    assert set(TEXTS["en"]) == set(TEXTS["zh"])
    for name in set(TEXTS["en"]) - NAMES:
        assert TEXTS["en"][name] != TEXTS["zh"][name], name
        assert TEXTS["en"][name].strip(), name
        if name not in {"lang", "other_language"}:
            assert re.search("[\u4e00-\u9fff]", TEXTS["zh"][name]), name


def test_texts_have_the_same_places_to_fill_in() -> None:
    """What is filled into a sentence is filled into both."""
    for name, text in TEXTS["en"].items():
        assert _find_places(text) == _find_places(TEXTS["zh"][name]), name


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_cause_has_a_sentence(language: str) -> None:
    """Each cause of a wrong signature has its own sentence."""
    sentences = CAUSES[language]  # type: ignore[index]
    assert set(Cause) == set(sentences)
    assert len(Cause) == len(set(sentences.values()))


def test_each_word_of_a_template_exists() -> None:
    """No page asks for a word that is missing."""
    folder = files("wxpay_async.sandbox.console") / "templates"
    asked: set[str] = set()
    for template in folder.iterdir():
        asked |= set(re.findall(r"\bt\.(\w+)", template.read_text(encoding="utf-8")))
    assert len(asked) > 50
    assert asked <= set(TEXTS["en"])


@pytest.mark.parametrize(
    ("wanted", "accepted", "language"),
    [
        ("", "", "en"),
        ("zh", "en", "zh"),
        ("en", "zh-CN,zh;q=0.9", "en"),
        ("", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("", "fr-FR,fr;q=0.9,zh;q=0.1", "zh"),
        ("", "zh;q=0.3,en;q=0.7", "en"),
        ("", "zh;q=0,en;q=0.1", "en"),
        ("", "zh;q=much", "en"),
        ("xx", "zh-TW", "zh"),
        ("", "chinese", "en"),
    ],
)
def test_language_is_the_one_asked_for_else_the_browsers(
    wanted: str, accepted: str, language: str
) -> None:
    """`lang=` wins over Accept-Language, whose weights count; English where neither is named."""
    assert choose_language(wanted, accepted) == language


def _find_places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}
