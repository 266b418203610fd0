"""What is secret is planted everywhere, and every place that keeps or shows anything is searched.

The places: logs of all libraries at DEBUG, spans, metrics, `repr`, `str`, tracebacks with the
locals of every frame, the files of a store, and what a payer is answered.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote_plus

import pytest
from attrs import define, evolve, field

from tests.support import asking, vectors
from tests.support.canaries import (
    OPENID,
    PLANTED,
    PLANTED_TOKEN,
    SECRET,
    WRONG_SECRET,
    Call,
    Canaries,
    catch_failure,
    find_leaks,
    list_key_secrets,
    read_store,
    render_error,
    render_records,
)
from tests.support.payers import answer_payers
from tests.support.tasks import wait_until
from tests.support.vectors import KEYS
from tests.support.watch import Watch
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.telemetry import Event, logging_hook
from wxpay_async.errors import (
    IdempotencyConflictError,
    InDoubtError,
    NotSentError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay, Refund
from wxpay_async.protocol.signing import Md5Signer, RsaSigner, Signer
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts
from wxpay_async.sandbox import Fault, FaultKind, Sandbox

PRIVATE_KEY = vectors.PRIVATE_KEY.read_bytes()
PUBLIC_KEY = vectors.PUBLIC_KEY.read_text(encoding="ascii")
OTHER_KEY = (KEYS / "rsa3072.pem").read_bytes()
ONE_ATTEMPT = RetryPolicy(attempts=1)


@define(eq=False)
class NotingTransport:
    """A transport that keeps what went through it."""

    inner: AiohttpTransport = field(factory=AiohttpTransport)
    requests: list[HttpRequest] = field(factory=list)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Keep the request and send it."""
        self.requests.append(request)
        return await self.inner.send(request, timeout=timeout)

    async def aclose(self) -> None:
        """Release connections."""
        await self.inner.aclose()

    def signatures(self) -> Canaries:
        """Return the signature of every request that was sent."""
        bodies = [parse_qs(request.body.decode("ascii")) for request in self.requests]
        return {f"signature {n}": body["sign"][0] for n, body in enumerate(bodies)}


@define(eq=False)
class Run:
    """A shop on its way through everything that can happen, watched by every hook."""

    sandbox: Sandbox
    signer: Signer
    wrong_signer: Signer
    folder: Path
    tap: NotingTransport = field(factory=NotingTransport)
    watch: Watch = field(factory=Watch)
    events: list[Event] = field(factory=list)
    errors: list[BaseException] = field(factory=list)
    shown: list[object] = field(factory=list)
    canaries: Canaries = field(factory=dict)

    def gateway(self, **changes: Any) -> PayGateway:  # noqa: ANN401 - the constructor's
        """Make a gateway over the same store."""
        given = {
            "signer": self.signer,
            "base_url": self.sandbox.url,
            "transport": self.tap,
            "store": SqlStore(f"sqlite:///{self.folder}/store.db"),
            "limiter": Unlimited(),
            "retry": ONE_ATTEMPT,
            "hooks": [logging_hook(), self.watch.hook, self.events.append],
        } | changes
        return PayGateway(self.sandbox.app_key, **given)

    async def run_day(self) -> None:
        """Let everything happen that a merchant's day may bring."""
        async with self.gateway() as gateway:
            pay = await self.purchase(gateway)
            await self.failures(gateway, pay)
            self.shown += [gateway, gateway.store, gateway._dispatcher, self.signer]
        async with self.gateway(base_url="http://127.0.0.1:9", signer=self.wrong_signer) as nowhere:
            await self.expect(lambda: nowhere.pay(evolve(pay, request_id="not-sent")), NotSentError)
        async with self.gateway(signer=self.wrong_signer) as other:
            refused = evolve(pay, request_id="wrong")
            await self.expect(lambda: other.pay(refused), SignatureRefusedError)

    async def purchase(self, gateway: PayGateway) -> MiniProgramPay:
        """Buy something, look at it again, and give the money back."""
        trade = make_trade("trade", "O-1")
        created = await gateway.trade(trade)
        self.canaries["the payToken"] = created.pay_token or ""
        pay = MiniProgramPay(
            request_id="pay",
            pay_token=created.pay_token or "",
            terminal_payer_id=OPENID,
            app_id="wx1",
            out_trade_no="O-1",
        )
        result = await gateway.pay(pay)
        self.canaries["the paySign"] = result.pay_sign
        self.canaries["the prepay"] = result.prepay_id
        replayed = await gateway.pay(pay)
        self.sandbox.confirm("O-1")
        status = await gateway.query(out_trade_no="O-1")
        refund = Refund(
            request_id="refund",
            out_trade_no="R-1",
            orig_out_trade_no="O-1",
            refund_amount=Decimal("1.00"),
        )
        refunded = await gateway.refund(refund)
        outcome = await gateway.resolve("pay")
        self.shown += [trade, created, pay, result, replayed, status, refund, refunded, outcome]
        return pay

    async def failures(self, gateway: PayGateway, pay: MiniProgramPay) -> None:
        """Fail in every way in which the platform or the network can."""
        conflicting = evolve(pay, terminal_payer_id=f"{OPENID}2")
        await self.expect(lambda: gateway.pay(conflicting), IdempotencyConflictError)
        for fault in (Fault.drop_after_commit, Fault.reset, Fault.cut_body, Fault.html_502):
            self.sandbox.faults.inject(fault(operation="pay"))
            lost = evolve(pay, request_id=f"lost-{fault.__name__}", out_trade_no=None)
            await self.expect(lambda lost=lost: gateway.pay(lost), InDoubtError)
        for _ in range(3):  # one for each attempt, also of the payment that follows
            self.sandbox.faults.inject(Fault.drop_after_commit(operation="pay"))
        order = make_trade("checkout", "O-2")
        await self.expect(
            lambda: gateway.checkout(order, openid=OPENID, app_id="wx1"), InDoubtError
        )
        outcome = await gateway.resolve("lost-drop_after_commit")
        self.shown.append(outcome)
        self.errors += [outcome.error] if outcome.error else []
        await self.cancel(gateway, evolve(pay, request_id="cancelled"))

    async def cancel(self, gateway: PayGateway, pay: MiniProgramPay) -> None:
        """Cancel a payment, and a query, while their answers are on their way."""
        faults = self.sandbox.faults
        for call in (
            lambda: gateway.pay(pay),
            lambda: gateway.query(out_trade_no="O-1"),
        ):
            delayed = faults.injected[FaultKind.DELAY]
            faults.inject(Fault.delay(seconds=30.0))
            task = asyncio.ensure_future(call())
            await wait_until(lambda delayed=delayed: faults.injected[FaultKind.DELAY] != delayed)
            task.cancel()
            self.errors.append(await catch_failure(lambda task=task: task))

    async def expect(self, call: Call, kind: type[WxPayError]) -> None:
        """Keep the error of a call."""
        error = await catch_failure(call)
        assert isinstance(error, kind)
        self.errors.append(error)

    def files(self) -> dict[str, bytes]:
        """Return what the store's files hold."""
        return read_store(self.folder)

    async def places(self) -> dict[str, str | bytes]:
        """Return everything that can be looked at afterwards."""
        metrics = self.watch.reader.get_metrics_data()
        values = [*self.shown, *self.tap.requests, *self.events]
        places: dict[str, str | bytes] = {
            "repr": "\n".join(map(repr, values)),
            "str": "\n".join(map(str, values)),
            "spans": "\n".join(span.to_json() for span in self.watch.list_spans()),
            "metrics": metrics.to_json() if metrics else "",
        }
        for error in self.errors:
            places |= {f"{len(places)} {name}": text for name, text in render_error(error).items()}
            if isinstance(error, WxPayError):
                places |= await answer_payers(error)
        return places


def make_trade(request_id: str, out_trade_no: str) -> InstantTrade:
    """Make an order of one yuan."""
    items, method = [asking.item(out_trade_no)], asking.method(open_id=OPENID)
    return asking.trade(request_id, trade_info=items, pay_method=method)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Run a platform with a merchant who may sign either way."""
    async with Sandbox(app_secret=SECRET, merchant_public_key=PUBLIC_KEY) as running:
        yield running


SCHEMES: dict[str, Callable[[], tuple[Signer, Signer]]] = {
    "MD5": lambda: (Md5Signer(SECRET), Md5Signer(WRONG_SECRET)),
    "RSA": lambda: (RsaSigner.from_pem(PRIVATE_KEY), RsaSigner.from_pem(OTHER_KEY)),
}


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_whole_day_leaves_no_secret_anywhere(
    scheme: str, sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Purchase and failures over HTTP and SQLite, everything at DEBUG: no secret is found."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0  # asyncio then logs every step that a task takes
    for name in (None, "asyncio", "aiohttp", "aiosqlite", "sqlalchemy", "wxpay_async"):
        caplog.set_level(logging.DEBUG, logger=name)
    caplog.handler.setLevel(logging.DEBUG)

    run = Run(sandbox, *SCHEMES[scheme](), tmp_path)
    await run.run_day()
    places = await run.places()
    loop.set_debug(False)
    places["logs"] = render_records(caplog.records) + caplog.text
    places |= run.files()
    canaries = {
        "the secret": SECRET,
        "the wrong secret": WRONG_SECRET,
        "the openid": OPENID,
        **list_key_secrets("private key", PRIVATE_KEY),
        **list_key_secrets("other private key", OTHER_KEY),
        **run.canaries,
        **run.tap.signatures(),
    }

    assert all(len(canary) >= 20 for canary in canaries.values())
    assert [] == find_leaks(places, canaries)
    logged = {record.name.partition(".")[0] for record in caplog.records}
    assert {"wxpay_async", "asyncio", "sqlalchemy"} <= logged
    assert {"wxpay trade", "wxpay pay", "POST"} <= {s.name for s in run.watch.list_spans()}
    assert "oCa…z=" in places["repr"]


# The search itself


@pytest.mark.parametrize(
    "hidden",
    [
        lambda text: text,
        quote_plus,
        lambda text: text.encode().hex(),
        lambda text: json.dumps({"a": text}),
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.b64encode(b"x" + text.encode()).decode(),
        lambda text: base64.b64encode(b"xy" + text.encode() + b"z").decode(),
    ],
)
def test_search_finds_every_form(hidden: Callable[[str], str]) -> None:
    """A canary test that cannot find its canary proves nothing."""
    places = {"somewhere": f"a long text with {hidden(OPENID)} in the middle"}

    assert [("somewhere", "the openid")] == find_leaks(places, PLANTED)


async def test_search_looks_into_locals() -> None:
    """What stands in a local variable of a frame below is found."""

    async def fail() -> None:
        token = PLANTED_TOKEN
        raise NotSentError(f"{len(token)}")

    found = find_leaks(render_error(await catch_failure(fail)), PLANTED)

    assert [("traceback with locals of NotSentError", "the payToken")] == found
