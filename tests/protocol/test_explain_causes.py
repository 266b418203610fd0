"""Every cause is told in both languages."""

from __future__ import annotations

import pytest

from wxpay_async.language import Language
from wxpay_async.protocol.explain_causes import Cause, Dropped, Verdict


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_cause_has_a_sentence_in_both_languages(language: Language) -> None:
    """One sentence each, and no two alike."""
    words = [*Cause, *Verdict, *Dropped]
    texts = [each.sentence.in_language(language) for each in words]

    assert len(words) == len(set(texts))
    assert all(any("\u4e00" <= c <= "\u9fff" for c in text) == (language == "zh") for text in texts)
