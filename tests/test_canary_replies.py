"""What the platform says, or is asked, holds credentials: no error, log or store shows them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support import asking, replies
from tests.support.canaries import (
    OPENID,
    PLANTED,
    PLANTED_PREPAY,
    PLANTED_SIGN,
    PLANTED_TOKEN,
    catch_failure,
    find_leaks,
    read_store,
    render_error,
    render_records,
)
from tests.support.merchant import OpenShop
from tests.support.payers import answer_payers
from tests.support.platform import Script
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
from wxpay_async.adapters.transports.httpx import HttpxTransport
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.adapters.transports.reqwest import ReqwestTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import (
    FailedError,
    InDoubtError,
    MalformedResponseError,
    NotSentError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.wire import MAX_BODY, HttpResponse

ONE_ATTEMPT = RetryPolicy(attempts=1)


def make_prepay(**changes: str | None) -> dict[str, Any]:
    """Make a reply whose credentials are planted."""
    data = {
        "appId": "wx1",
        "timeStamp": "1573029856",
        "nonceStr": "19a855c337bd4c14978899a560372a97",
        "prepayId": PLANTED_PREPAY,
        "extPackage": f"prepay_id={PLANTED_PREPAY}",
        "signType": "RSA",
        "paySign": PLANTED_SIGN,
        "requestId": "pay-1",
    } | changes
    return {"success": True, "data": {name: v for name, v in data.items() if v is not None}}


def make_failed() -> dict[str, Any]:
    """Make a prepay whose only order failed."""
    reply = make_prepay()
    row = {"outTradeNo": "O-1", "tradeNo": "T-1", "status": "F"}
    reply["data"]["tradeResList"] = [row]
    return reply


def make_nested() -> dict[str, Any]:
    """Make a prepay with a row that is no order."""
    return make_prepay(tradeResList=f'[{{"paySign": "{PLANTED_SIGN}"}}]')


UNUSABLE: dict[str, tuple[Callable[[], object], type[WxPayError]]] = {
    "a field is missing": (lambda: make_prepay(nonceStr=None), MalformedResponseError),
    "a field is empty": (lambda: make_prepay(signType=""), MalformedResponseError),
    "the package is another": (lambda: make_prepay(extPackage="x"), MalformedResponseError),
    "it answers another": (lambda: make_prepay(requestId="other"), MalformedResponseError),
    "an amount is none": (lambda: make_prepay(instAmount=PLANTED_SIGN), MalformedResponseError),
    "a row is none": (make_nested, MalformedResponseError),
    "all of it failed": (make_failed, FailedError),
    "a code contradicts it": (
        lambda: {**make_prepay(), "errorCode": "CO_MSG_000002"},
        MalformedResponseError,
    ),
    "it is refused": (
        lambda: {**make_prepay(), "success": False, "errorCode": "CO_MSG_000001"},
        RefusedError,
    ),
    "no envelope": (lambda: make_prepay()["data"], MalformedResponseError),
    "no JSON": (
        lambda: HttpResponse(200, json.dumps(make_prepay()).encode() + b"}"),
        MalformedResponseError,
    ),
    "a name twice": (
        lambda: HttpResponse(200, json.dumps(make_prepay()).replace("appId", "signType").encode()),
        MalformedResponseError,
    ),
    "a redirect": (
        lambda: HttpResponse(302, b"", {"location": f"https://h/?{PLANTED_SIGN}"}),
        InDoubtError,
    ),
}


@pytest.mark.parametrize("why", UNUSABLE)
async def test_reply_that_cannot_be_used_shows_no_credential(why: str, open_shop: OpenShop) -> None:
    """Wherever a reply is refused, no frame that can be seen holds what was in it."""
    make, kind = UNUSABLE[why]
    shop = open_shop([make()] * 9, retry=ONE_ATTEMPT)
    request = asking.pay("pay-1", pay_token=PLANTED_TOKEN, terminal_payer_id=OPENID)
    error = await catch_failure(lambda: shop.gateway.pay(request))
    again = await catch_failure(lambda: shop.gateway.pay(request))
    outcome = await shop.gateway.resolve("pay-1")
    places = render_error(error) | {f"again: {k}": v for k, v in render_error(again).items()}
    places |= render_error(outcome.error) if outcome.error else {}
    places |= {"outcome": repr(outcome), "record": repr(await shop.get_record("pay-1"))}

    assert isinstance(error, kind)
    assert [] == find_leaks(places, PLANTED)


@pytest.mark.parametrize("transport", [AiohttpTransport, HttpxTransport, ReqwestTransport])
async def test_reply_that_is_too_large_shows_nothing_of_itself(
    transport: Callable[[], Any], open_shop: OpenShop
) -> None:
    """A megabyte with a paySign in it is not part of the traceback of its refusal."""

    async def flood(_: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        reply.enable_chunked_encoding()
        await reply.prepare(_)
        await reply.write(PLANTED_SIGN.encode() * (MAX_BODY // len(PLANTED_SIGN) + 1))
        return reply

    app = web.Application()
    app.add_routes([web.post("/{path:.*}", flood)])
    async with TestServer(app) as server:
        url = f"http://127.0.0.1:{server.port}"
        shop = open_shop(base_url=url, transport=transport(), retry=ONE_ATTEMPT)
        request = asking.pay(pay_token=PLANTED_TOKEN, terminal_payer_id=OPENID)
        error = await catch_failure(lambda: shop.gateway.pay(request))
        await shop.gateway.aclose()

    assert isinstance(error, MalformedResponseError)
    assert [] == find_leaks(render_error(error), PLANTED)


# A platform that repeats what it was asked


def repeat(**values: str) -> str:
    """Say no with the values as they are, as in a form, and as in JSON."""
    in_form = " ".join(map(quote_plus, values.values()))
    return f"{' '.join(values.values())} ({in_form}) of {json.dumps(values)} is no good"


@pytest.mark.parametrize("code", ["CO_MSG_000001", "CO_MSG_000002", "GM_API_BUS_0000015"])
@pytest.mark.parametrize("operation", ["pay", "trade"])
async def test_message_that_repeats_the_request_is_shown_without_its_credentials(
    operation: str, code: str, open_shop: OpenShop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At once, out of the store, by `resolve`, in the log of an answer, and in a store's file."""
    if operation == "pay":
        message = repeat(payToken=PLANTED_TOKEN, terminalPayerId=OPENID)
        request = asking.pay("id-1", pay_token=PLANTED_TOKEN, terminal_payer_id=OPENID)
    else:
        message = repeat(openId=OPENID)
        request = asking.trade("id-1", pay_method=asking.method(open_id=OPENID))
    reply = {"success": False, "errorCode": code, "errorMsg": message}
    store = SqlStore(f"sqlite:///{tmp_path}/store.db")
    shop = open_shop([reply] * 9, store=store, retry=ONE_ATTEMPT)
    call = getattr(shop.gateway, operation)
    first = await catch_failure(lambda: call(request))
    again = await catch_failure(lambda: call(request))
    outcome = await shop.gateway.resolve("id-1")
    places: dict[str, str | bytes] = {"outcome": repr(outcome)}
    for error in (first, again, outcome.error):
        places |= {f"{len(places)} {name}": text for name, text in render_error(error).items()}
        places |= await answer_payers(error)
    places["logs"] = render_records(caplog.records) + caplog.text
    places |= read_store(tmp_path)

    assert isinstance(first, WxPayError)
    assert f"[{code}: *** " in str(first)
    assert "is no good" in str(first)
    assert [] == find_leaks(places, PLANTED)


class _BrokenSigner:
    """A key-management service that is down."""

    sign_type = None

    async def sign(self, message: bytes) -> str:
        """Fail, with the message in a local."""
        await asyncio.sleep(0)
        raise NotSentError(f"no answer about {message!r}", retryable=False)


async def test_signer_that_fails_shows_nothing_of_what_it_should_sign() -> None:
    """The message holds the bizContent: neither the SDK's frames nor the signer's show it."""
    gateway = PayGateway("app", _BrokenSigner(), transport=MemoryTransport([]))
    request = asking.pay(pay_token=PLANTED_TOKEN, terminal_payer_id=OPENID)
    error = await catch_failure(lambda: gateway.pay(request))
    await gateway.aclose()

    assert isinstance(error, NotSentError)
    assert "no answer about <" in str(error)
    assert [] == find_leaks(render_error(error), PLANTED)


async def test_new_prepay_that_fails_shows_nothing_of_the_old_one(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    """Out of a durable store the bytes come sealed, and are as hidden as before once opened."""
    answers = Script([InDoubtError("timeout")], query=replies.order("待付款"))
    store = SqlStore(f"sqlite:///{tmp_path}/store.db")
    shop = open_shop(answers, store=store, retry=ONE_ATTEMPT)
    request = asking.pay(
        "pay-1", pay_token=PLANTED_TOKEN, terminal_payer_id=OPENID, out_trade_no="O-1"
    )
    await catch_failure(lambda: shop.gateway.pay(request))
    outcome = await shop.gateway.resolve("pay-1", reissue=True)

    assert isinstance(outcome.error, InDoubtError)
    assert [] == find_leaks(render_error(outcome.error), PLANTED)
