"""The error codes of the platform."""

from __future__ import annotations

import pytest

from wxpay_async.protocol.error_codes import is_business_code


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("GM_API_BUS_000005", True),
        ("GM_API_BUS_0000015", True),
        ("GM_API_BUS_000099", True),
        ("GM_API_BUS_", False),
        ("GM_API_BUS_1 ", False),
        ("GM_API_BUS_1\n", False),
        ("GM_API_BUS_٣", False),
        ("gm_api_bus_1", False),
        ("XGM_API_BUS_1", False),
        ("CO_MSG_000001", False),
        ("", False),
        (None, False),
    ],
)
def test_business_code_by_its_whole_shape(code: str | None, *, expected: bool) -> None:
    """Any number counts, since most are not documented; nothing else may stand beside it."""
    assert expected == is_business_code(code)
