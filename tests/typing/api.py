"""How merchants write against the SDK; read by mypy and pyright (strict), never run.

A type hint that lies (lesson 23) is an error here: `assert_type` says what a name must be, and an
ignore that is not needed any more is an error too.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, assert_type

from wxpay_async import (
    CallResult,
    Event,
    Explanation,
    Fate,
    Hook,
    HttpRequest,
    HttpResponse,
    IdempotencyStore,
    InDoubtError,
    InstantTrade,
    Limiter,
    Md5Signer,
    MemoryStore,
    MemoryTransport,
    Merchant,
    MiniProgramPay,
    Outcome,
    OutcomeStream,
    PayGateway,
    PayMethod,
    PayResult,
    RecordingTransport,
    Refund,
    RefundResult,
    RefusedError,
    ReplayTransport,
    RetryPolicy,
    RsaSigner,
    Signer,
    Store,
    Timeouts,
    TradeItem,
    TradeRef,
    TradeResult,
    TradeState,
    TradeStatus,
    Transport,
    Unlimited,
    WxPayError,
    canonical_string,
    derive_request_id,
)


class KeyService:
    """A signer over the network."""

    @property
    def sign_type(self) -> str | None:
        """Announce RSA."""
        return "RSA"

    async def sign(self, message: bytes) -> str:
        """Sign elsewhere."""
        await asyncio.sleep(0)
        return message.hex()


class Tapped:
    """A transport around another."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Hand on."""
        return await self.inner.send(request, timeout=timeout)

    async def aclose(self) -> None:
        """Hand on."""
        await self.inner.aclose()


def count(event: Event) -> None:
    """Be a hook."""
    assert_type(event.request_id, str | None)
    assert_type(event.seconds, float)


SIGNERS: list[Signer] = [Md5Signer("secret"), RsaSigner.from_pem(b""), KeyService()]
TRANSPORTS: list[Transport] = [
    MemoryTransport(answers=[]),
    Tapped(MemoryTransport()),
    RecordingTransport(MemoryTransport(), "cassette.jsonl", keep=["storeId"], hide=["secret"]),
    ReplayTransport("cassette.jsonl", repeat=True),
]
STORE: Store = MemoryStore()
OPERATIONS: IdempotencyStore = STORE
LIMITER: Limiter = Unlimited()
HOOK: Hook = count


def made() -> PayGateway:
    """Make gateways in every way."""
    assert_type(PayGateway.from_env({"WXPAY_APP_KEY": "k"}), PayGateway)
    return PayGateway(
        "app-key",
        SIGNERS[0],
        base_url="https://openapi-qa.gongmall.com",
        transport=TRANSPORTS[1],
        store=STORE,
        limiter=LIMITER,
        retry=RetryPolicy(attempts=2),
        timeouts=Timeouts(call=20.0),
        hooks=[count, HOOK],
        seal_keys=(bytes(32), Md5Signer("former secret"), RsaSigner.from_file("former.pem")),
    )


def from_environment() -> None:
    """Give keywords beside the environment; they are those of the constructor."""
    PayGateway.from_env(transport=TRANSPORTS[0], max_in_flight=100, hooks=[count, HOOK])
    PayGateway.from_env({}, limiter=None, absent_codes=["X"], placement="query")
    PayGateway.from_env(retries=3)  # type: ignore[call-arg] # a mistake
    PayGateway.from_env(max_in_flight="100")  # type: ignore[arg-type] # a mistake
    PayGateway.from_env(store=TRANSPORTS[0])  # type: ignore[arg-type] # a mistake


def asked() -> MiniProgramPay:
    """Make a request."""
    return MiniProgramPay(
        request_id=derive_request_id("app-key", "pay", "201910170001"),
        pay_token="token",
        terminal_payer_id="openid",
        app_id="wx9236b1e84ffbf10a",
        out_trade_no="201910170001",
    )


async def pays() -> None:
    """Pay, and read the result."""
    async with made() as gateway:
        assert_type(gateway, PayGateway)
        result = await gateway.pay(asked(), timeout=10)
    assert_type(result, PayResult)
    assert_type(result.jsapi_params(), dict[str, str])
    assert_type(result.expires_at, datetime | None)
    assert_type(result.inst_amount, Decimal | None)
    assert_type(result.trade_res_list, tuple[TradeRef, ...])
    assert_type(result.attempts, int)
    assert_type(result.replayed, bool)
    assert_type(result.raw, Mapping[str, Any])


async def trades(gateway: PayGateway) -> None:
    """Order; amounts are Decimal, str or int."""
    item = TradeItem(
        out_trade_no="1",
        subject="s",
        price="11.23",
        quantity=3,
        total_amount=Decimal("33.69"),
        payee_identity="100",
    )
    trade = InstantTrade(
        request_id="t1",
        trade_info=[item],
        payer_ip="11.22.33.44",
        pay_method=PayMethod(pay_product_code="67", amount=34, open_id="openid"),
    )
    created = await gateway.trade(trade)
    assert_type(created, TradeResult)
    assert_type(created.pay_token, str | None)
    assert_type(await gateway.checkout(trade, openid="o", app_id="wx"), PayResult)


def floats() -> None:
    """Find that a float is no amount, before it runs."""
    Refund(
        request_id="r1",
        out_trade_no="R1",
        orig_out_trade_no="O1",
        refund_amount=1.5,  # type: ignore[arg-type] # a mistake
    )


async def reads(gateway: PayGateway) -> None:
    """Query."""
    status = await gateway.query(out_trade_no="1")
    assert_type(status, TradeStatus)
    assert_type(status.state, TradeState)
    assert_type(await gateway.wait_paid("1", timeout=60), TradeStatus)
    async for merchant in gateway.merchants(page_size=50):
        assert_type(merchant, Merchant)


async def catches(gateway: PayGateway, refund: Refund) -> Fate | None:
    """Handle errors by their fate."""
    try:
        assert_type(await gateway.refund(refund), RefundResult)
    except InDoubtError as error:
        assert_type(error.fate, Fate)
        await error.resolve()
    except RefusedError as error:
        assert_type(error.code, str | None)
        assert_type(error.attempts, int)
        return error.fate
    except WxPayError as error:
        assert_type(error.retryable, bool)
        assert_type(error.request_id, str | None)
    return None


def judge(outcome: Outcome[MiniProgramPay, PayResult]) -> None:
    """Ask an outcome how it ended; what would always be true is found before it runs."""
    assert_type(outcome.kind, Literal["ok", "refused", "not_sent", "in_doubt", "open"])
    assert_type(outcome.succeeded, bool)
    assert_type(outcome.is_refused or outcome.is_not_sent, bool)
    assert_type(outcome.is_in_doubt or outcome.is_open, bool)
    if outcome.ok:  # type: ignore[attr-defined] # a mistake
        return
    if outcome.failed:  # type: ignore[attr-defined] # a mistake
        return
    assert_type(outcome.kind == "failed", bool)  # type: ignore[comparison-overlap] # a mistake


async def looks(gateway: PayGateway) -> None:
    """List what is open, narrowed by names that are checked."""
    async for one in gateway.open_operations(state=["unknown", "pending"], older_than=60):
        assert_type(one.operation, Literal["pay", "trade", "refund"])
        assert_type(one.state, Literal["sending", "unknown", "pending", "conflict", "needs_review"])
        assert_type(one.amount, Decimal | None)
    gateway.open_operations(older_than=timedelta(hours=1), operation="refund")
    gateway.open_operations(state="done")  # type: ignore[arg-type] # a mistake
    gateway.open_operations(operation="query")  # type: ignore[arg-type] # a mistake


async def calls(gateway: PayGateway) -> None:
    """Call what has no method."""
    content = {"outTradeNo": "1", "rows": ["a", None]}
    result = await gateway.call(
        "/api/instant/close", {"bizContent": content, "currency": "CNY"}, retry_safe=True
    )
    assert_type(result, CallResult)
    await gateway.call("/api/x", {"amount": 1.5})  # type: ignore[dict-item] # a mistake


def plain() -> None:
    """Turn requests and results into dictionaries, and back."""
    assert_type(asked().to_dict(secrets=True), dict[str, Any])
    assert_type(MiniProgramPay.from_dict({"requestId": "r1"}, extra=True), MiniProgramPay)
    assert_type(TradeStatus.from_dict({}), TradeStatus)
    TradeStatus.from_dict([])  # type: ignore[arg-type] # a mistake


async def explains(gateway: PayGateway) -> None:
    """Explain how a request would be signed."""
    found = await gateway.explain(asked(), against="appKey=...")
    assert_type(found, Explanation)
    assert_type(found.signature, str | None)


async def batches(gateway: PayGateway) -> None:
    """Feed iterables of both kinds; narrow an outcome by its kind."""

    def lazily() -> Iterator[MiniProgramPay]:
        yield asked()

    async def slowly() -> AsyncIterator[MiniProgramPay]:
        yield asked()

    for source in (lazily(), slowly(), [asked()]):
        async for outcome in gateway.pay_many(source, concurrency=100):
            assert_type(outcome, Outcome[MiniProgramPay, PayResult])
            assert_type(outcome.unwrap(), PayResult)
            assert_type(outcome.error, WxPayError | None)
            assert_type(outcome.request, MiniProgramPay)
            judge(outcome)
    async for refunded in gateway.refund_many([]):
        assert_type(refunded, Outcome[Refund, RefundResult])
    async for found in gateway.query_many(["1", "2"]):
        assert_type(found, Outcome[str, TradeStatus])
    async with gateway.pay_many([asked()]) as outcomes, aclosing(gateway.query_many(["1"])) as rows:
        assert_type(outcomes, OutcomeStream[MiniProgramPay, PayResult])
        assert_type(await anext(outcomes), Outcome[MiniProgramPay, PayResult])
        assert_type(await anext(rows), Outcome[str, TradeStatus])


def signs() -> None:
    """Compare canonical strings."""
    assert_type(canonical_string({"appKey": "k"}), str)
    signature: str | Awaitable[str] = SIGNERS[2].sign(b"message")
    del signature


async def wrongly(gateway: PayGateway, refund: Refund) -> None:
    """Find the wrong request before it runs."""
    await gateway.pay(refund)  # type: ignore[arg-type] # a mistake
