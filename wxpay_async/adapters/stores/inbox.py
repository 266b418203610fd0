"""Whether a callback was handled already."""

from __future__ import annotations

import enum
from typing import Final

DAY: Final = 86_400.0
INBOX_RETENTION: Final = 30 * DAY
"""Seconds for which a handled callback is recognised when it comes again."""


class Receipt(enum.StrEnum):
    """Whose a callback is."""

    YOURS = "yours"
    BUSY = "busy"
    HANDLED = "handled"
