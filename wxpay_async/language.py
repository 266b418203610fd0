"""Texts for people in English and in Chinese, and how the language is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from attrs import frozen

Language = Literal["en", "zh"]


@frozen
class Sentence:
    """One sentence in both languages; technical names are the same in both."""

    en: str
    zh: str

    def in_language(self, language: Language) -> str:
        """Return the sentence of a language."""
        return self.zh if language == "zh" else self.en


def find_language(environ: Mapping[str, str]) -> Language:
    """Return the language for people: that of `WXPAY_LANG`, else of the locale, else English."""
    for name in ("WXPAY_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if environ.get(name):
            return "zh" if environ[name].lower().startswith("zh") else "en"
    return "en"
