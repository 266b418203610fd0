"""Spans, as an exporter reads them."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry import propagate, trace

from tests.support import asking, replies
from tests.support.callbacks import OpenMerchant, order, paid
from tests.support.clock import MovedClock
from tests.support.merchant import OpenShop
from tests.support.platform import FORM, Script
from tests.support.tasks import wait_until
from tests.support.watch import Watch, answer_slowly
from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
from wxpay_async.adapters.transports.httpx import HttpxTransport
from wxpay_async.adapters.transports.reqwest import ReqwestTransport
from wxpay_async.engine.telemetry import Event, EventKind
from wxpay_async.errors import InDoubtError, NotSentError, RefusedError
from wxpay_async.policy.retry import RetryPolicy

HOST = "openapi.gongmall.com"
ONE_ATTEMPT = RetryPolicy(attempts=1)


async def test_call_is_one_span_and_each_attempt_another(watch: Watch, open_shop: OpenShop) -> None:
    """There is one name for each operation; attributes tell two calls apart."""
    shop = open_shop([NotSentError("refused"), replies.prepay()], hooks=[watch.hook])
    await shop.gateway.pay(asking.pay())

    assert ["POST", "POST", "wxpay pay"] == [span.name for span in watch.list_spans()]
    assert [
        {
            "http.request.method": "POST",
            "server.address": HOST,
            "server.port": 443,
            "url.full": f"https://{HOST}/api/instant/pay/wxminiprogram",
            "error.type": "not_sent",
            "wxpay.operation": "pay",
            "wxpay.attempt": 1,
            "wxpay.request_id": "pay-1",
        },
        {
            "http.request.method": "POST",
            "server.address": HOST,
            "server.port": 443,
            "url.full": f"https://{HOST}/api/instant/pay/wxminiprogram",
            "http.response.status_code": 200,
            "http.request.resend_count": 1,
            "wxpay.operation": "pay",
            "wxpay.attempt": 2,
            "wxpay.request_id": "pay-1",
        },
        {
            "wxpay.operation": "pay",
            "wxpay.fate": "ok",
            "wxpay.replayed": False,
            "wxpay.attempt": 2,
            "wxpay.request_id": "pay-1",
        },
    ] == [dict(span.attributes or {}) for span in watch.list_spans()]


async def test_kinds_and_status_follow_the_conventions(watch: Watch, open_shop: OpenShop) -> None:
    """An HTTP attempt is a CLIENT span; only a failure has the status ERROR."""
    shop = open_shop([replies.prepay(), replies.no("CO_MSG_000006", "x")], hooks=[watch.hook])
    await shop.gateway.pay(asking.pay())
    with pytest.raises(RefusedError):
        await shop.gateway.refund(asking.refund())

    assert [
        ("POST", trace.SpanKind.CLIENT, trace.StatusCode.UNSET, None),
        ("wxpay pay", trace.SpanKind.INTERNAL, trace.StatusCode.UNSET, None),
        ("POST", trace.SpanKind.CLIENT, trace.StatusCode.ERROR, "CO_MSG_000006"),
        ("wxpay refund", trace.SpanKind.INTERNAL, trace.StatusCode.ERROR, "CO_MSG_000006"),
    ] == [(s.name, s.kind, s.status.status_code, s.status.description) for s in watch.list_spans()]


async def test_span_of_the_caller_is_the_parent(watch: Watch, open_shop: OpenShop) -> None:
    """The call is a child of the caller's span, and its attempts are children of the call."""
    shop = open_shop([replies.prepay()], hooks=[watch.hook])
    with watch.tracer.start_as_current_span("the caller's") as caller:
        await shop.gateway.pay(asking.pay())
    parents = [span.parent for span in watch.list_spans() if span.name != "the caller's"]

    [call] = watch.list_spans("wxpay pay")
    assert [call.get_span_context(), caller.get_span_context()] == parents


async def test_attempt_is_a_child_of_the_call_that_made_it(
    watch: Watch, open_shop: OpenShop
) -> None:
    """A query between two attempts is a call of its own, a child of the payment's."""
    answers = Script([InDoubtError("timeout"), replies.prepay()], query=replies.order("待付款"))
    shop = open_shop(answers, hooks=[watch.hook])
    await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    await shop.gateway.query(out_trade_no="O-1")
    names = {span.context.span_id: span.name for span in watch.list_spans() if span.context}

    assert [
        ("POST", "wxpay pay"),
        ("POST", "wxpay query"),
        ("wxpay query", "wxpay pay"),
        ("POST", "wxpay pay"),
        ("wxpay pay", None),
        ("POST", "wxpay query"),
        ("wxpay query", None),
    ] == [(s.name, s.parent and names[s.parent.span_id]) for s in watch.list_spans()]


async def test_each_hook_has_a_tree_of_its_own(watch: Watch, open_shop: OpenShop) -> None:
    """Two hooks do not take each other's spans for parents."""
    other = Watch()
    shop = open_shop([replies.prepay()], hooks=[watch.hook, other.hook])
    await shop.gateway.pay(asking.pay())
    other.meters.shutdown()

    for each in (watch, other):
        attempt, call = each.list_spans()
        assert call.get_span_context() == attempt.parent


def test_outcome_without_a_start_is_a_span(watch: Watch) -> None:
    """Its start is computed from its end."""
    watch.hook(Event(kind=EventKind.OUTCOME, operation="pay", fate="ok", seconds=2.0))
    [span] = watch.list_spans()

    assert 2_000_000_000 == (span.end_time or 0) - (span.start_time or 0)


async def test_recovery_in_the_background_has_no_parent_span(
    watch: Watch, open_shop: OpenShop
) -> None:
    """The span in which the gateway was opened, such as a start-up, has ended long before."""
    answers = Script([InDoubtError("timeout")], query=InDoubtError("timeout"))
    shop = open_shop(answers, hooks=[watch.hook], retry=ONE_ATTEMPT)
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    asked = asyncio.Event()

    def order() -> object:
        asked.set()
        return replies.order("已付款")

    shop.clock.move(10.0)  # the operation in doubt is due
    answers.query = order
    watch.spans.clear()
    with watch.tracer.start_as_current_span("start-up"):
        async with shop.gateway:
            await asked.wait()
            await wait_until(lambda: len(watch.list_spans()) >= 2)

    attempt, query, start_up = watch.list_spans()
    assert [("wxpay query", None), ("start-up", None)] == [
        (span.name, span.parent) for span in (query, start_up)
    ]
    assert query.get_span_context() == attempt.parent


async def test_span_is_as_long_as_the_call(
    watch: Watch, open_shop: OpenShop, clock: MovedClock
) -> None:
    """It is made at the end, and its start is computed."""
    shop = open_shop(answer_slowly(clock, replies.prepay(), 1.5), hooks=[watch.hook])
    await shop.gateway.pay(asking.pay())

    assert [1_500_000_000] * 2 == [
        (span.end_time or 0) - (span.start_time or 0) for span in watch.list_spans()
    ]


async def test_query_has_no_request_id(watch: Watch, open_shop: OpenShop) -> None:
    """Its spans have none either."""
    shop = open_shop([replies.order("待付款")], hooks=[watch.hook])
    await shop.gateway.query(out_trade_no="O-1")

    assert ["POST", "wxpay query"] == [span.name for span in watch.list_spans()]
    assert not any("wxpay.request_id" in (span.attributes or {}) for span in watch.list_spans())


@pytest.mark.parametrize("transport", [AiohttpTransport, HttpxTransport, ReqwestTransport])
async def test_no_trace_context_reaches_the_platform(
    transport: type, watch: Watch, open_shop: OpenShop
) -> None:
    """The span and baggage of the merchant's systems are not for other parties."""
    arrived: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        arrived.extend(name.lower() for name in request.headers)
        return web.json_response({"success": False, "errorCode": "CO_MSG_000001"})

    app = web.Application()
    app.add_routes([web.post("/{path:.*}", answer)])
    async with TestServer(app) as server:
        url = f"http://127.0.0.1:{server.port}"
        shop = open_shop(base_url=url, transport=transport(), hooks=[watch.hook])
        with watch.tracer.start_as_current_span("the caller's"):
            offered: dict[str, str] = {}
            propagate.inject(offered)
            with pytest.raises(RefusedError):
                await shop.gateway.pay(asking.pay())
        await shop.gateway.aclose()

    assert "traceparent" in offered
    assert "content-type" in arrived
    assert set() == {"traceparent", "tracestate", "baggage", "b3"} & set(arrived)


async def test_spans_name_the_order_where_it_is_known(watch: Watch, open_shop: OpenShop) -> None:
    """A person who has only the order's number finds its calls, the queries among them."""
    shop = open_shop([replies.prepay(), replies.order("待付款")], hooks=[watch.hook])
    await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    await shop.gateway.query(out_trade_no="O-1")

    spans = watch.list_spans()
    assert ["POST", "wxpay pay", "POST", "wxpay query"] == [span.name for span in spans]
    assert {"O-1"} == {(span.attributes or {}).get("wxpay.out_trade_no") for span in spans}


# Callbacks


async def test_callback_is_a_span_around_its_query_and_its_handler(
    watch: Watch, open_merchant: OpenMerchant
) -> None:
    """A child of the web server's span; what its handler does is a child of it."""
    merchant = open_merchant([order(), order(number="O-2")], "md5", hooks=[watch.hook])

    async def handle(_: object) -> None:
        with watch.tracer.start_as_current_span("ship"):
            await merchant.gateway.query(out_trade_no="O-2")

    receiver = merchant.another(on_trade=handle)
    with watch.tracer.start_as_current_span("POST /notify"):
        await receiver.receive(FORM, merchant.body(paid()))

    names = {span.context.span_id: span.name for span in watch.list_spans() if span.context}
    parents = [(s.name, s.parent and names[s.parent.span_id]) for s in watch.list_spans()]
    assert [
        ("POST", "wxpay query"),
        ("wxpay query", "wxpay callback"),
        ("POST", "wxpay query"),
        ("wxpay query", "ship"),
        ("ship", "wxpay callback"),
        ("wxpay callback", "POST /notify"),
        ("POST /notify", None),
    ] == parents
    [callback] = watch.list_spans("wxpay callback")
    assert {
        "wxpay.operation": "callback",
        "wxpay.out_trade_no": "O-1",
        "wxpay.verdict": "handled",
    } == dict(callback.attributes or {})


async def test_callback_that_failed_is_a_span_with_an_error(
    watch: Watch, open_merchant: OpenMerchant
) -> None:
    """One that is doubled or forged is none of ours."""
    merchant = open_merchant(hooks=[watch.hook])
    merchant.failing = 1
    for _ in range(3):
        await merchant.deliver(paid())
    await merchant.receiver.receive(FORM, b"appKey=forged")

    assert [
        ("failed", trace.StatusCode.ERROR),
        ("handled", trace.StatusCode.UNSET),
        ("duplicate", trace.StatusCode.UNSET),
        ("refused", trace.StatusCode.UNSET),
    ] == [((s.attributes or {})["wxpay.verdict"], s.status.status_code) for s in watch.list_spans()]


async def test_span_of_a_callback_is_not_current_afterwards(
    watch: Watch, open_merchant: OpenMerchant
) -> None:
    """A refused one runs in the request's own context, which must stay the web server's."""
    merchant = open_merchant(hooks=[watch.hook])
    with watch.tracer.start_as_current_span("POST /notify") as span:
        await merchant.receiver.receive(FORM, b"appKey=forged")
        await merchant.deliver(paid())

        assert span is trace.get_current_span()
