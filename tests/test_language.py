"""The language for people, and sentences in both languages."""

from __future__ import annotations

import pytest

from wxpay_async.language import Sentence, find_language


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


def test_sentence_is_that_of_the_language() -> None:
    """There are two."""
    sentence = Sentence("tea", "茶")

    assert ("tea", "茶") == (sentence.in_language("en"), sentence.in_language("zh"))
