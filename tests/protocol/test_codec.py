"""Replies are read in one way or prove nothing; values survive the wire exactly."""

import copy
import json
import pickle
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import attrs
import pytest
from hypothesis import example, given, settings, strategies as st

from tests.support.examples import count_examples
from wxpay_async.errors import (
    AccessDeniedError,
    ClockSkewError,
    DuplicateRequestError,
    FailedError,
    Fate,
    InDoubtError,
    MalformedResponseError,
    RateLimitedError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.protocol import codec
from wxpay_async.protocol.requests import (
    InstantTrade,
    MiniProgramPay,
    PayMethod,
    Refund,
    Royalty,
    TradeItem,
)
from wxpay_async.protocol.results import (
    Merchant,
    MerchantPage,
    PayResult,
    RefundResult,
    RoyaltyShare,
    TradeRef,
    TradeResult,
    TradeState,
    TradeStatus,
)
from wxpay_async.protocol.wire import PRODUCTION, SANDBOX_MARKER, HttpResponse

VECTORS = Path(__file__).parents[1] / "vectors"
SEED = (VECTORS / "seed_reply.json").read_bytes()
EXAMPLES = count_examples(quick=400, full=2000)
URL = PRODUCTION + "/api/instant/pay/wxminiprogram"
PAID = json.loads(SEED)["data"]
CANARY = "canary-7f3a"


def reply(body: object, status: int = 200, **headers: str) -> HttpResponse:
    """Make a response; what is not bytes becomes JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(status, raw, headers)


def decode(response: HttpResponse, into: type = PayResult, *, moves_money: bool = False) -> object:
    """Read a reply of the production host."""
    return codec.decode(response, into, url=URL, moves_money=moves_money)


def succeeded(**data: object) -> HttpResponse:
    """Make a success with the sample's data, with changes."""
    return reply({"success": True, "data": {**PAID, **data}})


def failed(code: object, *, message: object = "出错了", status: int = 200) -> HttpResponse:
    """Make a failure envelope."""
    return reply({"success": False, "errorCode": code, "errorMsg": message, "data": None}, status)


def refusal(response: HttpResponse, into: type = PayResult, *, moves_money: bool) -> WxPayError:
    """Return what decoding raises."""
    with pytest.raises(WxPayError) as caught:
        decode(response, into, moves_money=moves_money)
    return caught.value


# The page's samples


def test_the_page_s_reply_is_read() -> None:
    """With normal punctuation, the sample gives the documented fields."""
    result = decode(reply(SEED))

    row = TradeRef(out_trade_no="201910170001", trade_no="2019101700000001", status="P")
    expected = PayResult(
        app_id="wx9236b1e84ffbf10a",
        time_stamp="1573029856",
        nonce_str="19a855c337bd4c14978899a560372a97",
        prepay_id="wx061644162685653f3da37a5a1589465200",
        ext_package="prepay_id=wx061644162685653f3da37a5a1589465200",
        sign_type="RSA",
        pay_sign=PAID["paySign"],
        inst_amount=Decimal("0.10"),
        trade_res_list=(row, row),
        raw=PAID,
    )
    assert expected == result


@pytest.mark.parametrize("moves_money", [False, True])
def test_the_page_s_reply_as_printed_is_no_reply(*, moves_money: bool) -> None:
    """Full-width colons and commas are a slip of the page, not a wire format."""
    printed = (VECTORS / "seed_reply_as_printed.txt").read_bytes()
    error = refusal(reply(printed), moves_money=moves_money)

    assert MalformedResponseError is type(error)


# Success


@pytest.mark.parametrize("status", [200, 201, 299])
def test_any_2xx_with_an_envelope_is_a_success(status: int) -> None:
    """The envelope decides; the statuses of the platform are not documented."""
    response = reply({"success": True, "errorCode": "", "errorMsg": None, "data": PAID}, status)

    assert "RSA" == decode(response).sign_type


def test_a_trade_list_may_be_its_own_json_text() -> None:
    """The page's table says text, its sample shows a list: both are read alike."""
    as_list = decode(succeeded())
    as_text = decode(succeeded(tradeResList=json.dumps(PAID["tradeResList"])))

    assert as_list.trade_res_list == as_text.trade_res_list
    assert 2 == len(as_text.trade_res_list)


@pytest.mark.parametrize("absent", [None, "", [], "[]"])
def test_an_empty_trade_list_is_empty(absent: object) -> None:
    """Null, empty text, an empty list, and the text of one."""
    assert () == decode(succeeded(tradeResList=absent)).trade_res_list


def test_absent_optional_fields_are_none() -> None:
    """Left out, null and empty text mean the same."""
    for data in ({"requestId": None, "instAmount": ""}, {"requestId": "", "instAmount": None}):
        result = decode(succeeded(**data))
        assert (None, None) == (result.request_id, result.inst_amount)


def test_unknown_fields_and_statuses_are_kept() -> None:
    """What is newer than the documentation is never dropped and never fatal."""
    rows = [{"outTradeNo": "1", "tradeNo": "2", "status": "冻结", "note": "x"}]
    result = decode(succeeded(brandNew={"a": [1]}, tradeResList=rows))

    assert "冻结" == result.trade_res_list[0].status
    assert {**PAID, "brandNew": {"a": [1]}, "tradeResList": rows} == result.raw


def test_raw_cannot_be_assigned_to() -> None:
    """It is what the platform said."""
    result = decode(succeeded())

    with pytest.raises(TypeError):
        result.raw["appId"] = "x"
    assert f"ReadOnly({PAID!r})" == repr(result.raw)


def test_results_survive_copies_and_processes() -> None:
    """With everything in them, what is unknown included."""
    result = decode(succeeded(brandNew={"a": [1]}))

    assert result == copy.deepcopy(result) == pickle.loads(pickle.dumps(result))


def test_local_fields_come_from_us_alone() -> None:
    """The platform cannot say for us how often we tried or when we signed."""
    signed_at = datetime(2026, 11, 22, tzinfo=UTC)
    hostile = succeeded(
        **{"$attempts": 99, "$replayed": True, "$signed_at": "x", "$raw": 1, "attempts": 7}
    )
    silent = decode(hostile)
    told = codec.decode(
        hostile,
        PayResult,
        url=URL,
        moves_money=False,
        signed_at=signed_at,
        attempts=2,
    )

    assert (1, False, None) == (silent.attempts, silent.replayed, silent.signed_at)
    assert (2, False, signed_at) == (told.attempts, told.replayed, told.signed_at)
    assert 99 == silent.raw["$attempts"]


@pytest.mark.parametrize("into", [PayResult, TradeResult, TradeStatus, RefundResult, MerchantPage])
def test_no_local_field_is_left_to_the_platform(into: type) -> None:
    """What is not among these, `decode` would take from the data."""
    local = {field.name for field in attrs.fields(into) if field.metadata.get("local")}

    assert {"raw", "attempts", "replayed"} <= local <= {"raw", "attempts", "replayed", "signed_at"}


def test_a_trade_reply_is_read() -> None:
    """A payToken, a QR code's address, and no JSAPI fields."""
    data = {"requestId": "r-1", "payToken": "t-1", "returnUrl": "https://qr.example/1"}
    result = decode(reply({"success": True, "data": data}), TradeResult, moves_money=True)

    expected = TradeResult(
        request_id="r-1", pay_token="t-1", return_url="https://qr.example/1", raw=data
    )
    assert expected == result


def test_a_query_reply_is_read() -> None:
    """Amounts as text or as JSON numbers are exact; digits of a quantity are text."""
    body = """{"success": true, "data": {"outTradeNo": "1", "tradeNo": "2", "status": "待付款",
        "price": 11.23, "quantity": 3, "totalAmount": "33.69", "payerFee": 0, "payeeFee": "-0.5",
        "partnerFee": 0.1234,
        "royaltyInfo": [{"payeeMemberId": "1000", "payeeName": "甲", "amount": "12.45"}]}}"""
    result = decode(reply(body.encode()), TradeStatus)

    assert TradeState.AWAITING == result.state
    amounts = (result.price, result.total_amount, result.payer_fee, result.payee_fee)
    assert ("11.23", "33.69", "0", "-0.5") == tuple(map(str, amounts))
    assert ("3", Decimal("0.1234")) == (result.quantity, result.partner_fee)
    share = RoyaltyShare(payee_member_id="1000", payee_name="甲", amount=Decimal("12.45"))
    assert (share,) == result.royalty_info


def test_a_refund_reply_is_read() -> None:
    """S and P are results, and so is a status that nobody has heard of."""
    for status in ("S", "P", "X"):
        data = {"outTradeNo": "1", "status": status, "requestId": "r-1"}
        result = decode(reply({"success": True, "data": data}), RefundResult, moves_money=True)
        assert (status, "r-1") == (result.status, result.request_id)


def test_a_page_of_merchants_is_read() -> None:
    """Counts may be numbers or digits."""
    data = {"total": 21, "totalPage": "3", "currentPage": None, "merchants": [{"merchantId": 7}]}
    result = decode(reply({"success": True, "data": data}), MerchantPage)

    assert (21, 3, None) == (result.total, result.total_page, result.current_page)
    assert (Merchant(merchant_id="7"),) == result.merchants


@pytest.mark.parametrize("total", ["many", "-1", "1.0", "１", "1" * 21, 1.5, True, []])
def test_a_count_is_a_number(total: object) -> None:
    """Or its digits, and not too many of them."""
    response = reply({"success": True, "data": {"total": total, "merchants": []}})

    assert "no integer" in str(refusal(response, MerchantPage, moves_money=False))


def test_status_f_is_a_failure() -> None:
    """Executed and failed: an error, though the envelope says success."""
    for response, into in (
        (reply({"success": True, "data": {"outTradeNo": "1", "status": "F"}}), RefundResult),
        (succeeded(tradeResList=[{"outTradeNo": "1", "tradeNo": "2", "status": "F"}]), PayResult),
        (succeeded(tradeResList=[{"outTradeNo": "1", "tradeNo": "2", "status": "F"}]), TradeResult),
    ):
        error = refusal(response, into, moves_money=True)
        assert (FailedError, Fate.REFUSED, False) == (type(error), error.fate, error.retryable)


def test_a_failure_among_others_is_a_row() -> None:
    """Only when all of it failed is there nothing to hand over."""
    rows = [{"outTradeNo": n, "tradeNo": n, "status": s} for n, s in (("1", "F"), ("2", "P"))]

    assert ["F", "P"] == [row.status for row in decode(succeeded(tradeResList=rows)).trade_res_list]


# Replies that prove nothing

DEEP = b'{"a":' * 33 + b"1" + b"}" * 33
ENVELOPE = b'{"success": true, "data": %b}'


@pytest.mark.parametrize("moves_money", [False, True])
@pytest.mark.parametrize(
    ("response", "retryable"),
    [
        pytest.param(reply(b"", 200), True, id="empty"),
        pytest.param(reply(b"<html>502 Bad Gateway</html>", 200), True, id="html with 200"),
        pytest.param(reply(b"<html>502 Bad Gateway</html>", 502), True, id="html with 502"),
        pytest.param(reply(b"", 500), True, id="500"),
        pytest.param(reply(b"", 503), True, id="503"),
        pytest.param(reply(b'{"success": true, "da'), True, id="truncated"),
        pytest.param(reply(SEED + b"{}"), True, id="two documents"),
        pytest.param(reply(b"\xef\xbb\xbf" + SEED), True, id="byte order mark"),
        pytest.param(reply(SEED.decode().encode("utf-16")), True, id="utf-16"),
        pytest.param(reply('{"success": false, "errorMsg": "错"}'.encode("gbk")), True, id="gbk"),
        pytest.param(reply(ENVELOPE % b'{"a": NaN}'), True, id="NaN"),
        pytest.param(reply(ENVELOPE % b'{"a": -Infinity}'), True, id="Infinity"),
        pytest.param(reply(ENVELOPE % b'{"a": 1, "a": 1}'), True, id="a name twice"),
        pytest.param(reply(b'{"success": true, "success": false}'), True, id="success twice"),
        pytest.param(reply(ENVELOPE % b'{"a": 1, "\\u0061": 1}'), True, id="a name twice, escaped"),
        pytest.param(reply(ENVELOPE % (b'{"a": %b}' % (b"1" * 21))), True, id="21 digits"),
        pytest.param(reply(ENVELOPE % (b'{"a": 0.%b}' % (b"1" * 19))), True, id="19 places"),
        pytest.param(reply(ENVELOPE % b'{"a": "\\ud800"}'), True, id="lone surrogate"),
        pytest.param(reply(ENVELOPE % b'{"\\uDFFF": 1}'), True, id="lone surrogate in a name"),
        pytest.param(reply(ENVELOPE % DEEP), True, id="33 levels and one"),
        pytest.param(reply(b"[" * 100_000), True, id="100,000 levels"),
        pytest.param(reply([]), True, id="a list"),
        pytest.param(reply("ok"), True, id="a text"),
        pytest.param(reply(None), True, id="null"),
        pytest.param(reply({}), True, id="an empty object"),
        pytest.param(reply({"code": 0, "data": PAID}), True, id="another envelope"),
        pytest.param(reply({"success": "true", "data": PAID}), True, id="success as text"),
        pytest.param(reply({"success": 1, "data": PAID}), True, id="success as number"),
        pytest.param(reply({"success": None, "data": PAID}), True, id="success null"),
        pytest.param(reply({"success": True}), False, id="no data"),
        pytest.param(reply({"success": True, "data": None}), False, id="data null"),
        pytest.param(reply({"success": True, "data": []}), False, id="data a list"),
        pytest.param(reply({"success": True, "data": json.dumps(PAID)}), False, id="data a text"),
        pytest.param(
            reply({"success": True, "errorCode": "CO_MSG_000006", "data": PAID}),
            True,
            id="success with an error code",
        ),
        pytest.param(reply(SEED, 500), True, id="success with 500"),
        pytest.param(reply(SEED, 404), True, id="success with 404"),
        pytest.param(reply(SEED, 199), True, id="success with 199"),
        *(
            pytest.param(
                reply({"success": True, "data": {k: v for k, v in PAID.items() if k != name}}),
                False,
                id=f"no {name}",
            )
            for name in (
                *(
                    "appId",
                    "timeStamp",
                    "nonceStr",
                    "prepayId",
                    "extPackage",
                    "signType",
                    "paySign",
                ),
            )
        ),
        *(
            pytest.param(succeeded(**{name: value}), False, id=f"{name} {value!r}")
            for name, value in (
                ("appId", None),
                ("appId", ""),
                ("paySign", ""),
                ("timeStamp", 1.5),
                ("timeStamp", True),
                ("nonceStr", {}),
                ("prepayId", "wx-other"),
                ("extPackage", "prepay_id=wx-other"),
                ("instAmount", "0.1O"),
                ("instAmount", "1e2"),
                ("instAmount", True),
                ("instAmount", "1" * 16),
                ("tradeResList", {}),
                ("tradeResList", 7),
                ("tradeResList", "no json"),
                ("tradeResList", '{"outTradeNo": "1"}'),
                ("tradeResList", [1]),
                ("tradeResList", [None]),
                ("tradeResList", ["text"]),
                ("tradeResList", [[]]),
                ("tradeResList", [{"outTradeNo": "1", "status": "P"}]),
            )
        ),
        pytest.param(
            reply(SEED.replace(b'"0.10"', b"1E+99999999")), False, id="an amount to format for ever"
        ),
    ],
)
def test_an_answer_that_proves_nothing_is_in_doubt(
    response: HttpResponse, *, retryable: bool, moves_money: bool
) -> None:
    """Neither success nor refusal, whatever the operation; no cause that holds the body."""
    error = refusal(response, moves_money=moves_money)

    assert (MalformedResponseError, Fate.IN_DOUBT) == (type(error), error.fate)
    assert retryable == error.retryable
    assert (None, None) == (error.__cause__, error.__context__)


def test_32_levels_pass() -> None:
    """The envelope's and the data's count, the deepest value does not."""
    thirty = b'{"a":' * 30 + b'"]}[{"' + b"}" * 30
    wide = b"[" + b",".join([b"{}"] * 100) + b"]"

    assert codec.strict_json(ENVELOPE % (b"[%b]" % thirty))
    assert 100 == len(codec.strict_json(wide))
    with pytest.raises(ValueError, match="deeper than 32"):
        codec.strict_json(ENVELOPE % (b"[[%b]]" % thirty))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"\\ud83d\\ude00"', "😀"),
        ('"\\\\ud800"', "\\ud800"),
        ('["\\ud83d\\ude00", 1.50]', ["😀", Decimal("1.50")]),
        ("12345678901234567890", 12345678901234567890),
        ("-1234567890123456789", -1234567890123456789),
        ("0.10", Decimal("0.10")),
    ],
)
def test_strict_json_reads_exactly(text: str, expected: object) -> None:
    """A pair of surrogates is one character, a number keeps its digits."""
    actual = codec.strict_json(text.encode())

    assert expected == actual
    assert str(expected) == str(actual)


def test_a_missing_field_is_named() -> None:
    """By the platform's name, inside rows too; values are not shown."""
    rows = [{"outTradeNo": CANARY, "tradeNo": CANARY}]
    error = refusal(succeeded(tradeResList=rows), moves_money=False)

    assert "the data does not hold a PayResult: status is missing" == str(error)


@pytest.mark.parametrize(
    "response",
    [
        succeeded(nonceStr=[CANARY]),
        succeeded(prepayId=CANARY),
        succeeded(tradeResList=CANARY),
        reply({"success": "true", "data": CANARY}),
        reply(f'{{"success": true, "data": {CANARY}'.encode()),
        reply(CANARY.encode() + b"\xff"),
        reply(f"<html>{CANARY}</html>".encode(), 502),
    ],
)
def test_an_error_never_repeats_the_answer(response: HttpResponse) -> None:
    """An answer may hold credentials; a log of the error must not."""
    error = refusal(response, moves_money=False)

    assert CANARY not in str(error) + repr(error) + repr(vars(error))


# Redirects, plain HTTP errors, sandboxes


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_a_redirect_is_in_doubt_and_names_the_host_only(status: int) -> None:
    """Even with a perfect envelope; user, path and query may echo what was sent."""
    location = f"https://{CANARY}:{CANARY}@evil.example:8443/{CANARY}?openid={CANARY}#{CANARY}"
    error = refusal(reply(SEED, status, location=location), moves_money=False)

    assert (InDoubtError, Fate.IN_DOUBT, False) == (type(error), error.fate, error.retryable)
    assert f"HTTP {status} to evil.example; redirects are never followed" == str(error)


@pytest.mark.parametrize("location", ["", f"/login?{CANARY}", "https://[oops", "https://", "::"])
def test_a_redirect_to_nowhere_is_told_too(location: str) -> None:
    """A relative or malformed address neither leaks nor raises anything else."""
    error = refusal(reply(b"", 302, location=location), moves_money=True)

    assert "HTTP 302 to nowhere; redirects are never followed" == str(error)


def test_a_long_host_is_cut() -> None:
    """An error stays a line."""
    error = refusal(reply(b"", 302, location="https://" + "h" * 5000), moves_money=True)

    assert len(str(error)) < 200


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"success": 1}', b'{"error": "no"}'])
@pytest.mark.parametrize("moves_money", [False, True])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 499])
def test_a_4xx_without_envelope_is_refused(status: int, body: bytes, *, moves_money: bool) -> None:
    """Something in front of the platform said no; trying again will not help."""
    error = refusal(reply(body, status), moves_money=moves_money)

    assert (RefusedError, Fate.REFUSED, False) == (type(error), error.fate, error.retryable)
    assert f"HTTP {status} without an envelope" == str(error)


def test_a_429_without_envelope_is_a_rate_limit() -> None:
    """Not executed; may be sent again when the window frees."""
    error = refusal(reply(b"slow down", 429), moves_money=True)

    assert (RateLimitedError, Fate.REFUSED, True) == (type(error), error.fate, error.retryable)


@pytest.mark.parametrize("body", [SEED, b"{}", b'{"success": false, "errorCode": "CO_MSG_000001"}'])
def test_a_sandbox_on_a_foreign_host_is_not_believed(body: bytes) -> None:
    """Whatever it says: no money moves there, and nothing it says is about money."""
    error = refusal(reply(body, **{SANDBOX_MARKER: "1"}), moves_money=False)

    assert MalformedResponseError is type(error)
    assert not error.retryable
    assert "sandbox" in str(error)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:1"])
def test_a_sandbox_on_loopback_is(host: str) -> None:
    """That is where sandboxes live."""
    response = reply(SEED, **{SANDBOX_MARKER: "1"})
    result = codec.decode(response, PayResult, url=f"http://{host}/api", moves_money=False)

    assert "RSA" == result.sign_type


# Error codes

NOT_EXECUTED = {
    "CO_MSG_000001": RefusedError,
    "CO_MSG_000004": AccessDeniedError,
    "CO_MSG_000005": ClockSkewError,
    "CO_MSG_000006": SignatureRefusedError,
    "CO_MSG_000007": RateLimitedError,
    "CO_MSG_000008": AccessDeniedError,
    "CO_MSG_0000011": AccessDeniedError,
    "CO_MSG_0000015": RefusedError,
    "CO_MSG_0000016": RefusedError,
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


def test_every_documented_code_is_known() -> None:
    """The table of the code is the one of the documentation; it cannot be changed at run time."""
    assert {*NOT_EXECUTED, *OPEN} == set(codec.CODES)
    with pytest.raises(TypeError):
        codec.CODES["CO_MSG_000018"] = (RefusedError, "x")


@pytest.mark.parametrize("moves_money", [False, True])
@pytest.mark.parametrize("status", [200, 400, 429, 500])
@pytest.mark.parametrize(("code", "kind"), [*NOT_EXECUTED.items(), *OPEN.items()])
def test_a_documented_code_means_what_the_table_says(
    code: str, kind: type[WxPayError], status: int, *, moves_money: bool
) -> None:
    """Whatever the HTTP status and the operation; code and message are kept and shown."""
    error = refusal(failed(code, message="请求错误", status=status), moves_money=moves_money)

    assert kind is type(error)
    assert (Fate.IN_DOUBT if code in OPEN else Fate.REFUSED) == error.fate
    assert (code in RETRYABLE) == error.retryable
    assert (code, "请求错误") == (error.code, error.message)
    assert str(error).endswith(f"[{code}: 请求错误]")


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("code", ["GM_API_BUS_000099", "GM_API_BUS_1"])
def test_another_business_code_is_a_refusal(code: str, status: int) -> None:
    """Also for operations that move money: the platform understood and said no."""
    error = refusal(failed(code, status=status), moves_money=True)

    assert (RefusedError, Fate.REFUSED, False) == (type(error), error.fate, error.retryable)
    assert code == error.code


@pytest.mark.parametrize(
    "code",
    ["CO_MSG_000099", "CO_MSG_0000012", "co_msg_000006", "CO_MSG_000006 ", "GM_API_BUS_", "E1", ""],
)
def test_an_unknown_code_is_as_serious_as_the_operation(code: str) -> None:
    """In doubt where money moves or the server broke down, else refused; never sent again."""
    money = refusal(failed(code), TradeResult, moves_money=True)
    refund = refusal(failed(code), RefundResult, moves_money=True)
    credential = refusal(failed(code), PayResult, moves_money=False)
    broken = refusal(failed(code, status=500), PayResult, moves_money=False)

    assert [InDoubtError, InDoubtError, RefusedError, InDoubtError] == [
        type(error) for error in (money, refund, credential, broken)
    ]
    assert not any(error.retryable for error in (money, refund, credential, broken))
    assert (code or None) == money.code


@pytest.mark.parametrize(
    ("code", "expected"),
    [(40001, "40001"), (True, None), (None, None), ([], None), ({"a": 1}, None), (1.5, None)],
)
def test_a_code_of_another_type(code: object, expected: str | None) -> None:
    """A number is kept as its digits; what is no code at all is none."""
    error = refusal(failed(code, message=None), moves_money=False)

    assert (expected, None) == (error.code, error.message)


def test_a_failure_without_a_code_is_still_a_failure() -> None:
    """`success` false with nothing else."""
    assert RefusedError is type(refusal(reply({"success": False}), moves_money=False))
    assert InDoubtError is type(refusal(reply({"success": False}), moves_money=True))


# The platform's clock


def test_clock_skew_carries_the_platform_s_time() -> None:
    """From the Date header, in UTC whatever its zone."""
    for date in ("Sun, 22 Nov 2026 12:00:00 GMT", "Sun, 22 Nov 2026 20:00:00 +0800"):
        response = HttpResponse(200, failed("CO_MSG_000005").body, {"date": date})
        error = refusal(response, moves_money=True)
        assert datetime(2026, 11, 22, 12, tzinfo=UTC) == error.server_time
        assert UTC == error.server_time.tzinfo


@pytest.mark.parametrize(
    "date",
    [
        "",
        "yesterday",
        "Sun, 22 Nov 2026 12:00:00",
        "Sun, 22 Nov 2026 12:00:00 -0000",
        "Sun, 99 Nov 2026 12:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -0100",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Sun, 22 Nov 2026 12:00:00 +9999",
    ],
)
def test_a_date_that_cannot_be_trusted_is_none(date: str) -> None:
    """Malformed, out of range, or without a zone."""
    response = HttpResponse(200, failed("CO_MSG_000005").body, {"date": date})

    assert refusal(response, moves_money=False).server_time is None


@settings(max_examples=EXAMPLES // 10, deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, \d+ Nov \d+ \d+:\d+:\d+ \S*"))
def test_no_date_header_breaks_the_reading(date: str) -> None:
    """A time in UTC or none, never an exception."""
    time = codec.server_time(HttpResponse(200, b"", {"date": date}))

    assert time is None or time.tzinfo is UTC


# Nothing but our errors


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
RESULTS = st.sampled_from([PayResult, TradeResult, TradeStatus, RefundResult, MerchantPage])


@settings(max_examples=EXAMPLES // 10, deadline=None)
@given(
    data=st.dictionaries(st.sampled_from([*PAID, "status", "outTradeNo", "merchants"]), JSON),
    into=RESULTS,
)
def test_whatever_the_data_holds_it_is_a_result_or_our_error(
    data: dict[str, object], into: type
) -> None:
    """No TypeError, KeyError or the like leaves the codec."""
    response = reply({"success": True, "data": {**PAID, **data}})
    try:
        result = decode(response, into, moves_money=True)
    except (MalformedResponseError, FailedError):
        return

    assert into is type(result)


@settings(max_examples=EXAMPLES // 10, deadline=None)
@given(body=st.binary(max_size=60), status=st.integers(100, 599), moves_money=st.booleans())
@example(body=b'{"success": false', status=200, moves_money=True)
def test_noise_is_never_a_success(body: bytes, status: int, *, moves_money: bool) -> None:
    """Bytes that are no envelope raise one of our errors, and 2xx is in doubt."""
    error = refusal(reply(body, status), moves_money=moves_money)

    if 200 <= status < 300 or status >= 500:
        assert Fate.IN_DOUBT == error.fate


# Money


AMOUNTS = st.decimals(min_value="0.01", max_value="100000000000.00", places=2)


@settings(max_examples=EXAMPLES, deadline=None)
@given(AMOUNTS)
@example(Decimal("0.01"))
@example(Decimal("100000000000.00"))
@example(Decimal("1E+2"))
def test_amounts_survive_the_wire_exactly(amount: Decimal) -> None:
    """Model to bizContent, bizContent to Decimal, reply to result: the same yuan each time."""
    request = Refund(
        request_id="r-1", out_trade_no="1", orig_out_trade_no="2", refund_amount=amount
    )
    sent = codec.strict_json(codec.serialize(request))["refundAmount"]
    as_text = decode(succeeded(instAmount=sent)).inst_amount
    as_number = decode(reply(SEED.replace(b'"0.10"', sent.encode()))).inst_amount

    assert re.fullmatch(r"[0-9]+\.[0-9]{2}", sent)
    assert amount == Decimal(sent)
    assert (sent, sent) == (str(as_text), str(as_number))
    assert amount == as_text == as_number


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    price=st.decimals(min_value="0.01", max_value="99999.99", places=2),
    quantity=st.integers(1, 10**6),
)
def test_prices_quantities_and_totals_survive_the_wire(price: Decimal, quantity: int) -> None:
    """Each order's figures come out as text with two places and multiply as they went in."""
    order = TradeItem(
        out_trade_no="1",
        subject="s",
        price=price,
        quantity=quantity,
        total_amount=price * quantity,
        payee_identity="1",
        royalty_info=[Royalty(payee_member_id="1", amount=price)],
    )
    request = InstantTrade(
        request_id="r-1",
        trade_info=[order],
        payer_ip="::1",
        pay_method=PayMethod(pay_product_code="65", amount=price * quantity),
    )
    sent = codec.strict_json(codec.serialize(request))
    row = sent["tradeInfo"][0]

    assert f"{price:.2f}" == row["price"] == row["royaltyInfo"][0]["amount"]
    assert str(quantity) == row["quantity"]
    assert Decimal(row["price"]) * int(row["quantity"]) == Decimal(row["totalAmount"])
    assert row["totalAmount"] == sent["payMethod"]["amount"]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1).filter(str.strip))
@example('商品 & = + % \\ " 😀 </script>')
def test_texts_survive_the_wire_exactly(subject: str) -> None:
    """UTF-8 without escapes for anything that needs none, and the same bytes every time."""
    request = MiniProgramPay(request_id="r-1", pay_token=subject, terminal_payer_id="o")
    sent = codec.serialize(request)

    assert subject == json.loads(sent.decode("utf-8"))["payToken"]
    assert sent == codec.serialize(request)
    assert b"\\u" not in sent or "\\u" in subject
