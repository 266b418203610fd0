"""The platform's error codes."""

from __future__ import annotations

import re
from typing import Final

_BUSINESS_CODE: Final = re.compile(r"GM_API_BUS_[0-9]+", re.ASCII)


def is_business_code(code: str | None) -> bool:
    """Tell whether a refusal comes from the platform's business logic.

    Only a few of these codes are documented, but each means that a well-formed request was refused.
    """
    return code is not None and _BUSINESS_CODE.fullmatch(code) is not None
