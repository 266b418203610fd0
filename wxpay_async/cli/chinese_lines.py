"""Let rich break lines of Chinese, which has no spaces between its words.

rich breaks lines at spaces only, and cuts off a longer text in the tables of a help text. It has no
setting for that, so two of its parts are replaced, and only in a program that speaks Chinese.
"""

from __future__ import annotations

import re
from typing import Final

from rich import _wrap
from rich.text import Text

_LATIN: Final = r"[^\s\u2e80-\u9fff\uff00-\uffef]"
_CHINESE: Final = r"[\u2e80-\u9fff\uff00-\uffef]"
_WORD: Final = re.compile(
    rf"\s*（?(?:{_LATIN}{{7,24}}[_-](?={_LATIN}{{10}})|{_LATIN}{{22,}}"
    rf"|(?:{_LATIN}+|{_CHINESE})[，。；：、）]*)\s*"
)
"""What stays on one line: a Latin word or a Chinese character, with the punctuation around it.

A narrow column has no room for a long name: it may break at `_` or `-`, and before what follows it.
"""


def break_between_characters() -> None:
    """Let rich break a line between two Chinese characters, too, from now on."""
    _wrap.re_word = _WORD
    Text.rstrip_end = _strip_end  # type: ignore[assignment, method-assign] # rich has no setting


def _strip_end(text: Text, size: int) -> None:
    """Remove spaces beyond a width in cells; rich counts characters, and a Chinese one is wide."""
    spaces = len(text.plain) - len(text.plain.rstrip())
    beyond = text.cell_len - size
    if min(spaces, beyond) > 0:
        text.right_crop(min(spaces, beyond))
