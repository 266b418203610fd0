"""The error codes of the platform, and what a reply with one means."""

from __future__ import annotations

import pytest

from tests.protocol.replies import get_error, make_failure, make_reply
from wxpay_async.errors import (
    AccessDeniedError,
    ClockSkewError,
    ConfigurationRefusedError,
    DuplicateRequestError,
    Fate,
    InDoubtError,
    RateLimitedError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.protocol import error_codes
from wxpay_async.protocol.error_codes import is_business_code
from wxpay_async.protocol.results import PayResult, RefundResult, TradeResult

NOT_EXECUTED = {
    "CO_MSG_000001": RefusedError,
    "CO_MSG_000004": AccessDeniedError,
    "CO_MSG_000005": ClockSkewError,
    "CO_MSG_000006": SignatureRefusedError,
    "CO_MSG_000007": RateLimitedError,
    "CO_MSG_000008": AccessDeniedError,
    "CO_MSG_0000011": AccessDeniedError,
    "CO_MSG_0000015": ConfigurationRefusedError,
    "CO_MSG_0000016": ConfigurationRefusedError,
    "CO_MSG_0000017": AccessDeniedError,
    "GM_API_BUS_000005": RefusedError,
    "GM_API_BUS_000007": RefusedError,
}
OPEN = {
    "CO_MSG_000002": InDoubtError,
    "CO_MSG_000003": InDoubtError,
    "GM_API_BUS_0000015": DuplicateRequestError,
}
RETRYABLE = {"CO_MSG_000002", "CO_MSG_000003", "CO_MSG_000005", "CO_MSG_000007"}


def test_table_of_codes_is_the_documented_one() -> None:
    """It cannot be changed at run time."""
    assert {*NOT_EXECUTED, *OPEN} == set(error_codes.CODES)
    with pytest.raises(TypeError):
        error_codes.CODES["CO_MSG_000018"] = (RefusedError, "x")


@pytest.mark.parametrize("moves_money", [False, True])
@pytest.mark.parametrize("status", [200, 400, 429, 500])
@pytest.mark.parametrize(("code", "kind"), [*NOT_EXECUTED.items(), *OPEN.items()])
def test_documented_code_means_what_the_table_says(
    code: str, kind: type[WxPayError], status: int, *, moves_money: bool
) -> None:
    """Whatever the HTTP status and the operation; code and message are kept and shown."""
    error = get_error(
        make_failure(code, message="请求错误", status=status), moves_money=moves_money
    )

    assert kind is type(error)
    assert (Fate.IN_DOUBT if code in OPEN else Fate.REFUSED) == error.fate
    assert (code in RETRYABLE) == error.retryable
    assert (code, "请求错误") == (error.code, error.message)
    assert str(error).endswith(f"[{code}: 请求错误]")


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("code", ["GM_API_BUS_000099", "GM_API_BUS_1"])
def test_other_business_code_is_a_refusal(code: str, status: int) -> None:
    """Also for operations that move money: the platform understood and said no."""
    error = get_error(make_failure(code, status=status), moves_money=True)

    assert (RefusedError, Fate.REFUSED, False) == (type(error), error.fate, error.retryable)
    assert code == error.code


@pytest.mark.parametrize(
    "code",
    ["CO_MSG_000099", "CO_MSG_0000012", "co_msg_000006", "CO_MSG_000006 ", "GM_API_BUS_", "E1", ""],
)
def test_unknown_code_is_as_serious_as_the_operation(code: str) -> None:
    """In doubt where money moves or the server broke down, else refused; never sent again."""
    money = get_error(make_failure(code), TradeResult, moves_money=True)
    refund = get_error(make_failure(code), RefundResult, moves_money=True)
    credential = get_error(make_failure(code), PayResult, moves_money=False)
    broken = get_error(make_failure(code, status=500), PayResult, moves_money=False)

    assert [InDoubtError, InDoubtError, RefusedError, InDoubtError] == [
        type(error) for error in (money, refund, credential, broken)
    ]
    assert not any(error.retryable for error in (money, refund, credential, broken))
    assert (code or None) == money.code


@pytest.mark.parametrize(
    ("code", "expected"),
    [(40001, "40001"), (True, None), (None, None), ([], None), ({"a": 1}, None), (1.5, None)],
)
def test_code_of_another_type_is_none(code: object, expected: str | None) -> None:
    """A number is kept as its digits; what is no code at all is none."""
    error = get_error(make_failure(code, message=None), moves_money=False)

    assert (expected, None) == (error.code, error.message)


def test_failure_without_a_code_is_still_a_failure() -> None:
    """`success` false with nothing else."""
    assert RefusedError is type(get_error(make_reply({"success": False}), moves_money=False))
    assert InDoubtError is type(get_error(make_reply({"success": False}), moves_money=True))


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
