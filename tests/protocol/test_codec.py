"""What a reply means: the envelope, redirects, and the platform's clock."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime
from decimal import Decimal

import attrs
import pytest
from hypothesis import example, given, settings, strategies as st

from tests.protocol.replies import (
    PAID,
    SEED,
    URL,
    get_error,
    make_failure,
    make_reply,
    make_success,
    read_reply,
)
from tests.support.examples import count_examples
from tests.support.vectors import VECTORS
from wxpay_async.errors import (
    ConfigurationRefusedError,
    FailedError,
    Fate,
    InDoubtError,
    MalformedResponseError,
    RateLimitedError,
    RefusedError,
    WxPayError,
)
from wxpay_async.protocol import codec
from wxpay_async.protocol.codec import parse_pay, serialize
from wxpay_async.protocol.requests import MiniProgramPay
from wxpay_async.protocol.results import (
    CallResult,
    MerchantPage,
    PayResult,
    RefundResult,
    TradeRef,
    TradeResult,
    TradeState,
    TradeStatus,
)
from wxpay_async.protocol.wire import SANDBOX_MARKER, HttpResponse

CANARY = "canary-7f3a"
EXAMPLES = count_examples(quick=400, full=2000)


# The page's samples


def test_reply_of_the_page_is_read() -> None:
    """With normal punctuation, the sample gives the documented fields."""
    result = read_reply(make_reply(SEED))

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
def test_reply_as_the_page_prints_it_is_malformed(*, moves_money: bool) -> None:
    """Full-width colons and commas are a slip of the page, not a wire format."""
    printed = (VECTORS / "seed_reply_as_printed.txt").read_bytes()
    error = get_error(make_reply(printed), moves_money=moves_money)

    assert MalformedResponseError is type(error)


# Success


@pytest.mark.parametrize("status", [200, 201, 299])
def test_success_has_any_2xx_status(status: int) -> None:
    """The envelope decides; the statuses of the platform are not documented."""
    response = make_reply(
        {"success": True, "errorCode": "", "errorMsg": None, "data": PAID}, status
    )

    assert "RSA" == read_reply(response).sign_type


def test_reply_after_a_byte_order_mark_is_read() -> None:
    """Proxies and templates of servers put the mark there; it means nothing (decision 16)."""
    marked = read_reply(make_reply(b"\xef\xbb\xbf" + SEED))

    assert read_reply(make_reply(SEED)) == marked


def test_success_of_status_f_is_a_failure() -> None:
    """Executed and failed: an error, though the envelope says success."""
    for response, into in (
        (make_reply({"success": True, "data": {"outTradeNo": "1", "status": "F"}}), RefundResult),
        (
            make_success(tradeResList=[{"outTradeNo": "1", "tradeNo": "2", "status": "F"}]),
            PayResult,
        ),
        (
            make_success(tradeResList=[{"outTradeNo": "1", "tradeNo": "2", "status": "F"}]),
            TradeResult,
        ),
    ):
        error = get_error(response, into, moves_money=True)
        assert (FailedError, Fate.REFUSED, False) == (type(error), error.fate, error.retryable)


def test_success_with_one_failed_row_is_a_success() -> None:
    """Only when all of it failed is there no result."""
    rows = [{"outTradeNo": n, "tradeNo": n, "status": s} for n, s in (("1", "F"), ("2", "P"))]

    assert ["F", "P"] == [
        row.status for row in read_reply(make_success(tradeResList=rows)).trade_res_list
    ]


def test_raw_cannot_be_assigned_to() -> None:
    """It is what the platform said."""
    result = read_reply(make_success())

    with pytest.raises(TypeError):
        result.raw["appId"] = "x"
    assert f"ReadOnly({PAID!r})" == repr(result.raw)
    assert len(PAID) == len(result.raw)


def test_result_survives_copies_and_processes() -> None:
    """With everything in it, unknown fields included."""
    result = read_reply(make_success(brandNew={"a": [1]}))

    assert result == copy.deepcopy(result) == pickle.loads(pickle.dumps(result))


def test_local_fields_cannot_be_set_by_the_platform() -> None:
    """It cannot say for us how often we tried or when we signed."""
    signed_at = datetime(2026, 11, 22, tzinfo=UTC)
    hostile = make_success(
        **{"$attempts": 99, "$replayed": True, "$signed_at": "x", "$raw": 1, "attempts": 7}
    )
    silent = read_reply(hostile)
    known = codec.decode(
        hostile,
        PayResult,
        url=URL,
        moves_money=False,
        signed_at=signed_at,
        attempts=2,
    )

    assert (1, False, None) == (silent.attempts, silent.replayed, silent.signed_at)
    assert (2, False, signed_at) == (known.attempts, known.replayed, known.signed_at)
    assert 99 == silent.raw["$attempts"]


def test_platform_teaches_no_status_text() -> None:
    """Only the merchant does."""
    body = b'{"success": true, "data": {"outTradeNo": "O-1", "status": "x", "$taught": "paid"}}'
    status = codec.decode(HttpResponse(200, body), TradeStatus, url=URL, moves_money=False)

    assert (None, TradeState.UNKNOWN) == (status.taught, status.state)


@pytest.mark.parametrize("into", [PayResult, TradeResult, TradeStatus, RefundResult, MerchantPage])
def test_local_fields_of_each_result_are_known(into: type) -> None:
    """What is not among these, `decode` would take from the data."""
    local = {field.name for field in attrs.fields(into) if field.metadata.get("local")}

    common = {"raw", "attempts", "replayed"}
    assert common <= local <= common | {"signed_at", "taught"}


# Replies that prove nothing


@pytest.mark.parametrize("moves_money", [False, True])
@pytest.mark.parametrize(
    ("response", "retryable"),
    [
        pytest.param(make_reply(b"", 200), True, id="empty"),
        pytest.param(make_reply(b"<html>502 Bad Gateway</html>", 200), True, id="html with 200"),
        pytest.param(make_reply(b"<html>502 Bad Gateway</html>", 502), True, id="html with 502"),
        pytest.param(make_reply(b"", 500), True, id="500"),
        pytest.param(make_reply(b"", 503), True, id="503"),
        pytest.param(make_reply(b'{"success": true, "da'), True, id="truncated"),
        pytest.param(make_reply(SEED + b"{}"), True, id="two documents"),
        pytest.param(make_reply(SEED.decode().encode("utf-16")), True, id="utf-16"),
        pytest.param(make_reply(b'{"success": true, "data": {"a": NaN}}'), True, id="NaN"),
        pytest.param(make_reply(b'{"success": true, "success": true}'), True, id="a name twice"),
        pytest.param(make_reply(b"[" * 100_000), True, id="100,000 levels"),
        pytest.param(make_reply([]), True, id="a list"),
        pytest.param(make_reply("ok"), True, id="a text"),
        pytest.param(make_reply(None), True, id="null"),
        pytest.param(make_reply({}), True, id="an empty object"),
        pytest.param(make_reply({"code": 0, "data": PAID}), True, id="another envelope"),
        pytest.param(make_reply({"success": "true", "data": PAID}), True, id="success as text"),
        pytest.param(make_reply({"success": 1, "data": PAID}), True, id="success as number"),
        pytest.param(make_reply({"success": None, "data": PAID}), True, id="success null"),
        pytest.param(
            make_reply({"success": True, "errorCode": "CO_MSG_000006", "data": PAID}),
            True,
            id="success with an error code",
        ),
        pytest.param(make_reply(SEED, 500), True, id="success with 500"),
        pytest.param(make_reply(SEED, 404), True, id="success with 404"),
        pytest.param(make_reply(SEED, 199), True, id="success with 199"),
        pytest.param(make_reply({"success": True}), False, id="no data"),
        pytest.param(make_reply({"success": True, "data": None}), False, id="data null"),
        pytest.param(make_reply({"success": True, "data": []}), False, id="data a list"),
        pytest.param(
            make_reply({"success": True, "data": json.dumps(PAID)}), False, id="data a text"
        ),
        pytest.param(make_success(prepayId="wx-other"), False, id="another prepay"),
        pytest.param(make_success(paySign=None), False, id="a field missing"),
        pytest.param(make_success(paySign=""), False, id="a field empty"),
    ],
)
def test_reply_that_proves_nothing_is_in_doubt(
    response: HttpResponse, *, retryable: bool, moves_money: bool
) -> None:
    """Neither success nor refusal, whatever the operation; no cause that holds the body."""
    error = get_error(response, moves_money=moves_money)

    assert (MalformedResponseError, Fate.IN_DOUBT) == (type(error), error.fate)
    assert retryable == error.retryable
    assert (None, None) == (error.__cause__, error.__context__)


@pytest.mark.parametrize(
    "response",
    [
        make_success(nonceStr=[CANARY]),
        make_success(prepayId=CANARY),
        make_success(tradeResList=CANARY),
        make_reply({"success": "true", "data": CANARY}),
        make_reply(f'{{"success": true, "data": {CANARY}'.encode()),
        make_reply(CANARY.encode() + b"\xff"),
        make_reply(f"<html>{CANARY}</html>".encode(), 502),
    ],
)
def test_error_never_repeats_the_reply(response: HttpResponse) -> None:
    """A reply may hold credentials; a log of the error must not."""
    error = get_error(response, moves_money=False)

    assert CANARY not in str(error) + repr(error) + repr(vars(error))


# Redirects, plain HTTP errors, sandboxes

UNREAD = {400, 401, 403, 404, 405, 411, 413, 414, 415, 417, 421, 425, 431}
"""Statuses that prove that nothing was executed (`money-safety.md` §4)."""


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_redirect_is_in_doubt_and_names_the_host_only(status: int) -> None:
    """Even with a perfect envelope; user, path and query may echo what was sent."""
    location = f"https://{CANARY}:{CANARY}@evil.example:8443/{CANARY}?openid={CANARY}#{CANARY}"
    error = get_error(make_reply(SEED, status, location=location), moves_money=False)

    assert (InDoubtError, Fate.IN_DOUBT, False) == (type(error), error.fate, error.retryable)
    assert f"HTTP {status} to evil.example; redirects are never followed" == str(error)


@pytest.mark.parametrize("location", ["", f"/login?{CANARY}", "https://[oops", "https://", "::"])
def test_redirect_to_nowhere_is_in_doubt(location: str) -> None:
    """A relative or malformed address neither leaks nor raises anything else."""
    error = get_error(make_reply(b"", 302, location=location), moves_money=True)

    assert "HTTP 302 to nowhere; redirects are never followed" == str(error)


def test_redirect_to_a_long_host_is_cut() -> None:
    """An error stays a line."""
    error = get_error(make_reply(b"", 302, location="https://" + "h" * 5000), moves_money=True)

    assert len(str(error)) < 200


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"success": 1}', b'{"error": "no"}'])
@pytest.mark.parametrize("moves_money", [False, True])
@pytest.mark.parametrize("status", [*range(400, 429), *range(430, 500)])
def test_4xx_without_envelope_is_in_doubt_unless_it_proves_that_nothing_was_executed(
    status: int, body: bytes, *, moves_money: bool
) -> None:
    """A proxy that gave up waiting has passed the request on; trying again will not help a 404."""
    error = get_error(make_reply(body, status), moves_money=moves_money)
    refused = (ConfigurationRefusedError, Fate.REFUSED, False)

    assert (type(error), error.fate, error.retryable) == (
        refused if status in UNREAD else (MalformedResponseError, Fate.IN_DOUBT, True)
    )


def test_4xx_without_envelope_tells_its_status_and_the_place_it_came_from() -> None:
    """The host and the path show a wrong address; what else was in the address stays out."""
    response = make_reply(b"<html>", 404)
    url = f"https://{CANARY}:{CANARY}@pay.example:8443/api/instant/refund?sign={CANARY}"
    with pytest.raises(ConfigurationRefusedError) as caught:
        codec.decode(response, RefundResult, url=url, moves_money=True)

    place = "pay.example/api/instant/refund"
    assert f"HTTP 404 without an envelope from {place}: an HTML page" == str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (502, b"<!DOCTYPE html><title>CANARY</title>", "an HTML page"),
        (200, b"\xef\xbb\xbf\n<html><body>CANARY", "an HTML page"),
        (200, b"<!-- CANARY -->\n<HTML>", "an HTML page"),
        (200, b'<?xml version="1.0"?><CANARY/>', "XML or another page"),
        (504, b"", "an empty body"),
        (200, b" \n", "an empty body"),
        (200, b"upstream CANARY", "text that is not JSON"),
        (200, b"\xff\xfeCANARY", "bytes that are not UTF-8"),
        (200, b'{"success": true, "data": {"CANARY": "<html>', "JSON that is cut short or damaged"),
        (200, b'{"success": true} CANARY', "JSON that is cut short or damaged (at character 19)"),
        (200, b'{"CANARY": true}', "JSON without the platform's field success"),
        (200, b'[{"success": true}]', "JSON without the platform's field success"),
        (200, b'{"success": "CANARY"}', "JSON without the platform's field success"),
        (200, b'{"a": 1, "a": 2}', "differently (a name stands twice in one JSON object)"),
        (200, b'{"a": NaN}', "differently (NaN is no JSON number)"),
        (200, b'{"a": "CANARY \\ud800"}', "differently (a lone surrogate)"),
    ],
)
def test_what_came_in_place_of_an_envelope_is_told_with_who_sent_it(
    status: int, body: bytes, said: str
) -> None:
    """A page of a proxy is told as one, and no word of it is repeated; nor is the address."""
    url = f"https://{CANARY}:{CANARY}@pay.example:8443/api/instant/refund?sign={CANARY}"
    with pytest.raises(MalformedResponseError) as caught:
        codec.decode(make_reply(body, status), RefundResult, url=url, moves_money=True)

    text = str(caught.value)
    assert text.startswith(f"HTTP {status} from pay.example: ")
    assert said in text
    assert text.endswith(", in place of the platform's envelope")
    assert CANARY not in text
    assert "CANARY" not in text


@pytest.mark.parametrize(("status", "kind"), [(404, RefusedError), (408, InDoubtError)])
def test_undocumented_refusal_is_believed_under_a_status_that_proves_it(
    status: int, kind: type[WxPayError]
) -> None:
    """A proxy, too, can write `success: false`."""
    error = get_error(make_reply({"success": False}, status), moves_money=False)

    assert kind is type(error)


def test_429_without_envelope_is_a_rate_limit() -> None:
    """Not executed; may be sent again when the window frees."""
    error = get_error(make_reply(b"slow down", 429), moves_money=True)

    assert (RateLimitedError, Fate.REFUSED, True) == (type(error), error.fate, error.retryable)


@pytest.mark.parametrize("body", [SEED, b"{}", b'{"success": false, "errorCode": "CO_MSG_000001"}'])
def test_sandbox_on_a_foreign_host_is_not_believed(body: bytes) -> None:
    """Whatever it says: no money moves there, and nothing it says is about money."""
    error = get_error(make_reply(body, **{SANDBOX_MARKER: "1"}), moves_money=False)

    assert MalformedResponseError is type(error)
    assert not error.retryable
    assert "sandbox" in str(error)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:1"])
def test_sandbox_on_loopback_is_believed(host: str) -> None:
    """That is where sandboxes live."""
    response = make_reply(SEED, **{SANDBOX_MARKER: "1"})
    result = codec.decode(response, PayResult, url=f"http://{host}/api", moves_money=False)

    assert "RSA" == result.sign_type


# The platform's clock


def test_date_of_a_skewed_clock_is_in_the_error() -> None:
    """From the Date header, in UTC whatever its zone."""
    for date in ("Sun, 22 Nov 2026 12:00:00 GMT", "Sun, 22 Nov 2026 20:00:00 +0800"):
        response = HttpResponse(200, make_failure("CO_MSG_000005").body, {"date": date})
        error = get_error(response, moves_money=True)
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
def test_date_that_cannot_be_trusted_is_none(date: str) -> None:
    """Malformed, out of range, or without a zone."""
    response = HttpResponse(200, make_failure("CO_MSG_000005").body, {"date": date})

    assert get_error(response, moves_money=False).server_time is None


@settings(max_examples=EXAMPLES // 10, deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, \d+ Nov \d+ \d+:\d+:\d+ \S*"))
def test_date_of_any_text_breaks_nothing(date: str) -> None:
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
def test_data_of_any_kind_is_a_result_or_our_error(data: dict[str, object], into: type) -> None:
    """No TypeError, KeyError or the like leaves the codec."""
    response = make_reply({"success": True, "data": {**PAID, **data}})
    try:
        result = read_reply(response, into, moves_money=True)
    except (MalformedResponseError, FailedError):
        return

    assert into is type(result)


@settings(max_examples=EXAMPLES // 10, deadline=None)
@given(body=st.binary(max_size=60), status=st.integers(100, 599), moves_money=st.booleans())
@example(body=b'{"success": false', status=200, moves_money=True)
def test_noise_is_never_a_success(body: bytes, status: int, *, moves_money: bool) -> None:
    """Bytes that are no envelope raise one of our errors, and 2xx is in doubt."""
    error = get_error(make_reply(body, status), moves_money=moves_money)

    if 200 <= status < 300 or status >= 500:
        assert Fate.IN_DOUBT == error.fate


# A payment that is asked for again


@pytest.mark.parametrize("more", [{}, {"app_id": "wx1"}])
def test_parse_pay_asks_for_the_same_payment_under_another_id(more: dict[str, str]) -> None:
    """Everything but the requestId, unknown fields included; the order is not in the content."""
    first = MiniProgramPay(
        request_id="r-1",
        pay_token="token-1",
        terminal_payer_id="openid-1",
        out_trade_no="O-1",
        extra={"note": ["x", 1]},
        **more,
    )
    again = parse_pay(serialize(first), request_id="r-2", out_trade_no="O-1")

    assert attrs.evolve(first, request_id="r-2") == again


@pytest.mark.parametrize("data", [{"balance": "1.20"}, ["a"], None], ids=["object", "list", "none"])
def test_data_of_an_endpoint_without_a_model_is_given_as_it_is(data: object) -> None:
    """Its shape is not known here, so nothing about it is refused."""
    result = read_reply(make_reply({"success": True, "data": data}), CallResult)

    assert CallResult(data=data) == result
