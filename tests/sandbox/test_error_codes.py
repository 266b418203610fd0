"""The codes of the sandbox against the documented ones."""

import re

from wxpay_async.protocol.codec import CODES
from wxpay_async.sandbox.error_codes import MEANINGS, Code, RefusalError


def test_documented_codes_are_all_there() -> None:
    """Every code of the documentation's table can be answered."""
    assert set(CODES) <= set(Code)


def test_our_codes_are_business_refusals() -> None:
    """A code that we chose has the platform's form and is no documented one."""
    ours = set(Code) - set(CODES)
    assert len(ours) == 7
    assert all(re.fullmatch(r"GM_API_BUS_00000[0-9]{2}", code) for code in ours)


def test_every_code_has_a_meaning() -> None:
    """No code goes out without words."""
    assert set(Code) == set(MEANINGS)
    assert len(set(MEANINGS.values())) == len(MEANINGS)


def test_refusal_tells_code_and_detail() -> None:
    """A refusal's text is its code, its meaning and the detail."""
    error = RefusalError(Code.EXPIRED, "5 ms")
    assert str(error) == "CO_MSG_000005 the request has expired: 5 ms"
