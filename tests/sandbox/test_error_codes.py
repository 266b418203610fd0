"""The codes of the sandbox against the documented ones."""

import re

from wxpay_async.protocol.error_codes import CODES
from wxpay_async.sandbox.error_codes import (
    MESSAGES,
    Code,
    MalformedError,
    RefusalError,
    ReplayedError,
)


def test_codes_include_every_documented_code() -> None:
    """Every code of the documentation's table can be answered."""
    assert set(CODES) <= set(Code)


def test_codes_of_our_own_have_the_platforms_form() -> None:
    """A code that we chose has the form of a business refusal and is not a documented one."""
    ours = set(Code) - set(CODES)
    assert len(ours) == 8
    assert all(re.fullmatch(r"GM_API_BUS_00000[0-9]{2}", code) for code in ours)


def test_messages_of_all_codes_differ() -> None:
    """Every code has a message of its own."""
    assert set(Code) == set(MESSAGES)
    assert len(set(MESSAGES.values())) == len(MESSAGES)


def test_refusal_has_code_message_and_detail() -> None:
    """A refusal's text is its code, its meaning and the detail."""
    error = RefusalError(Code.EXPIRED, "5 ms")
    assert str(error) == "CO_MSG_000005 the request has expired: 5 ms"


def test_malformed_and_replayed_requests_share_a_code() -> None:
    """Only the message tells a malformed parameter from a used nonce."""
    errors = [MalformedError("nonce", "is missing"), ReplayedError()]
    assert [error.code for error in errors] == [Code.MALFORMED] * 2
    assert [error.message for error in errors] == [
        "malformed parameters: nonce is missing",
        "malformed parameters: nonce was used before: a replayed request",
    ]
