"""A call without a method: signed, limited and told like the others, and never remembered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support import replies
from tests.support.clock import MovedClock
from tests.support.merchant import OpenShop
from tests.support.platform import APP_KEY, SECRET, Script
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.telemetry import EventKind
from wxpay_async.errors import (
    ConfigurationRefusedError,
    Fate,
    InDoubtError,
    InDoubtTimeoutError,
    InvalidRequestError,
    MalformedResponseError,
    NotSentError,
    RateLimitedError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.policy.lanes import Lane
from wxpay_async.policy.retry import QUOTA_WINDOW
from wxpay_async.protocol.canonical import canonical_string
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import HttpResponse
from wxpay_async.sandbox import Sandbox

PATH = "/api/instant/close"
DONE = {"success": True, "data": {"closed": "1"}}
LOST = InDoubtError("read timeout")
UNSENT = NotSentError("connection refused")


async def test_call_is_signed_as_the_others_are(open_shop: OpenShop) -> None:
    """With the appKey, a nonce and the moment; JSON goes as it is signed."""
    shop = open_shop(Script([DONE]))
    await shop.gateway.call(PATH, {"bizContent": {"outTradeNo": "O-1", "why": "客人 & co"}})
    [sent] = shop.sent(PATH)

    assert '{"outTradeNo":"O-1","why":"客人 & co"}' == sent["bizContent"]
    assert (APP_KEY, str(round(shop.clock.time() * 1000))) == (sent["appKey"], sent["timestamp"])
    assert Md5Signer(SECRET).sign(canonical_string(sent).encode()) == sent["sign"]


@pytest.mark.parametrize("data", [{"closed": "1"}, [1, 2], "done", None, {}, False])
async def test_call_returns_whatever_the_data_is(data: object, open_shop: OpenShop) -> None:
    """No table says what an unknown endpoint answers; a `repr` does not show it."""
    shop = open_shop(Script([{"success": True, "data": data}]))
    result = await shop.gateway.call(PATH)

    assert (data, 1, False) == (result.data, result.attempts, result.replayed)
    assert "closed" not in repr(result)


async def test_call_without_data_is_a_success(open_shop: OpenShop) -> None:
    """Some endpoints have nothing to say."""
    assert (await open_shop(Script([{"success": True}])).gateway.call(PATH)).data is None


async def test_call_is_remembered_by_nothing(open_shop: OpenShop) -> None:
    """Called twice it is sent twice, and nothing of it is open."""
    shop = open_shop(Script([DONE]))
    for _ in range(2):
        await shop.gateway.call(PATH, {"bizContent": {"requestId": "r-1"}})

    assert (2, None) == (shop.transport.calls, await shop.state("r-1"))
    assert [] == [one async for one in shop.gateway.open_operations()]


async def test_call_takes_a_slot_of_the_quota(open_shop: OpenShop) -> None:
    """In the lane that is asked for."""
    limiter = LocalLimiter()
    shop = open_shop(Script([DONE]), limiter=limiter)
    await shop.gateway.call(PATH, lane=Lane.BATCH)

    assert {"batch": 1} == {str(name): held for name, held in limiter.held().items() if held}


# Trying again


@pytest.mark.parametrize(
    ("error", "retry_safe", "calls"),
    [
        (LOST, False, 1),
        (LOST, True, 3),
        (MalformedResponseError("HTTP 502"), False, 1),
        (MalformedResponseError("HTTP 502"), True, 3),
        (UNSENT, False, 3),
        (UNSENT, True, 3),
    ],
)
async def test_call_in_doubt_is_tried_again_only_where_that_is_safe(
    error: WxPayError, calls: int, open_shop: OpenShop, *, retry_safe: bool
) -> None:
    """What is proven not to have arrived always goes again; three attempts are all."""
    shop = open_shop(Script([error]))
    with pytest.raises(type(error)) as caught:
        await shop.gateway.call(PATH, retry_safe=retry_safe)

    assert (calls, calls) == (shop.transport.calls, caught.value.attempts)


@pytest.mark.parametrize("retry_safe", [False, True])
async def test_doubt_of_a_call_says_whether_it_may_be_called_again(
    open_shop: OpenShop, *, retry_safe: bool
) -> None:
    """No requestId makes it safe; and there is nothing that could be resolved."""
    shop = open_shop(Script([LOST]))
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.call(PATH, retry_safe=retry_safe)
    with pytest.raises(InDoubtError):
        await caught.value.resolve()

    assert retry_safe is caught.value.retryable


async def test_call_that_was_lost_before_it_was_refused_is_in_doubt(open_shop: OpenShop) -> None:
    """A later refusal does not undo an earlier attempt."""
    shop = open_shop(Script([LOST, replies.no("CO_MSG_000001", "bad")]))
    with pytest.raises(InDoubtError, match="an earlier attempt"):
        await shop.gateway.call(PATH, retry_safe=True)


async def test_refusal_for_too_many_calls_is_waited_for(open_shop: OpenShop) -> None:
    """Nothing was executed: it goes again when the window has freed, in the time that it has."""
    shop = open_shop(Script([replies.no("CO_MSG_000007"), DONE]))
    result = await shop.gateway.call(PATH, timeout=120)

    assert (2, [QUOTA_WINDOW]) == (result.attempts, shop.clock.slept)
    shop = open_shop(Script([replies.no("CO_MSG_000007")]))
    with pytest.raises(RateLimitedError):
        await shop.gateway.call(PATH, timeout=30)


async def test_call_ends_with_its_time(clock: MovedClock, open_shop: OpenShop) -> None:
    """Though it may be tried again, no attempt starts that would be too late."""

    def take_long(_: object) -> WxPayError:
        clock.move(20)
        return InDoubtError("read timeout")

    shop = open_shop(take_long)
    with pytest.raises(InDoubtTimeoutError):
        await shop.gateway.call(PATH, retry_safe=True, timeout=15)

    assert 1 == shop.transport.calls


# Refused


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("CO_MSG_000006", SignatureRefusedError),
        ("CO_MSG_000001", RefusedError),
        ("GM_API_BUS_000001", RefusedError),
    ],
)
async def test_refusal_of_a_call_means_what_it_means_elsewhere(
    code: str, kind: type[WxPayError], open_shop: OpenShop
) -> None:
    """The same codes, the same classes; the message without what was sent."""
    token = "token-canary-0123456789"
    shop = open_shop(Script([replies.no(code, f"of {token}")]))
    with pytest.raises(kind) as caught:
        await shop.gateway.call(PATH, {"bizContent": {"payToken": token}})

    assert (code, "of ***") == (caught.value.code, caught.value.message)


@pytest.mark.parametrize(("retry_safe", "fate"), [(False, Fate.IN_DOUBT), (True, Fate.REFUSED)])
async def test_refusal_without_a_known_code_is_in_doubt_unless_it_only_reads(
    fate: Fate, open_shop: OpenShop, *, retry_safe: bool
) -> None:
    """Of what may move money an unknown word proves nothing."""
    shop = open_shop(Script([replies.no("NEW_CODE", "?")]))
    with pytest.raises(WxPayError) as caught:
        await shop.gateway.call(PATH, retry_safe=retry_safe)

    assert (fate, 1) == (caught.value.fate, shop.transport.calls)


async def test_path_that_does_not_exist_is_refused(open_shop: OpenShop) -> None:
    """By a server that has no envelope for it; the error names the path."""
    shop = open_shop(lambda _: HttpResponse(404, b"not found"))
    with pytest.raises(ConfigurationRefusedError, match=PATH):
        await shop.gateway.call(PATH)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (("api/x",), {}),
        (("/api/instant/refund",), {}),
        ((PATH, {"sign": "x"}), {}),
        ((PATH, {"a": "x&b=y"}), {}),
        ((PATH, {"bizContent": "no JSON"}), {}),
        ((PATH,), {"timeout": 0.1}),
    ],
)
async def test_call_that_cannot_be_made_sends_nothing(
    arguments: tuple[Any, ...], wrong: dict[str, Any], open_shop: OpenShop
) -> None:
    """The error names what is wrong."""
    shop = open_shop(Script([DONE]))
    with pytest.raises(InvalidRequestError):
        await shop.gateway.call(*arguments, **wrong)

    assert (0, []) == (shop.transport.calls, shop.events)


# Told


async def test_hooks_hear_of_a_call_by_one_name(open_shop: OpenShop) -> None:
    """A label of few values; the path is in the address of the attempt, and no parameter is."""
    shop = open_shop(Script([DONE]))
    await shop.gateway.call(PATH, {"outTradeNo": "O-1"})
    [attempt] = [each for each in shop.events if each.kind is EventKind.ATTEMPT_ENDED]

    assert {"call"} == {event.operation for event in shop.events}
    assert attempt.url.endswith(PATH)
    assert EventKind.OUTCOME is shop.events[-1].kind


async def test_sandbox_answers_a_call_as_it_answers_the_method() -> None:
    """The signature holds before an independent verifier, plain parameters and JSON alike."""
    async with Sandbox() as sandbox:
        signer = Md5Signer(sandbox.app_secret)
        async with PayGateway(sandbox.app_key, signer, base_url=sandbox.url) as gateway:
            listed = await gateway.call("/api/company/merchants", {"pageSize": "5"})
            with pytest.raises(RefusedError) as unknown:
                await gateway.call("/api/instant/query", {"outTradeNo": "O-1"}, retry_safe=True)
            with pytest.raises(ConfigurationRefusedError):
                await gateway.call(PATH, {"bizContent": {"outTradeNo": "商 & 1"}})
            names = [merchant.merchant_id async for merchant in gateway.merchants(page_size=5)]

    assert names[:5] == [row["merchantId"] for row in _rows(listed.data)]
    assert unknown.value.code


def _rows(data: Any) -> list[dict[str, str]]:  # noqa: ANN401 - JSON
    rows = data["merchants"]
    return json.loads(rows) if isinstance(rows, str) else list(rows)
