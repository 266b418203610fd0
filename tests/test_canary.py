"""What is secret is planted everywhere, and every place that keeps or shows anything is searched.

The places: logs of all libraries at DEBUG, spans, metrics, `repr`, `str`, tracebacks with the
locals of every frame, the files of a store, and what a payer is answered.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from attrs import define, evolve, field
from Crypto.PublicKey import RSA
from fastapi import FastAPI
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support import asking, replies, vectors
from tests.support.canaries import Canaries, find_leaks, render_error, render_records
from tests.support.merchant import OpenShop
from tests.support.platform import Script
from tests.support.vectors import KEYS
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
from wxpay_async.adapters.transports.httpx import HttpxTransport
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.adapters.transports.reqwest import ReqwestTransport
from wxpay_async.engine.environment import check_quotes, read_seal_keys, read_signer
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.telemetry import Event, logging_hook
from wxpay_async.errors import (
    FailedError,
    IdempotencyConflictError,
    InDoubtError,
    InvalidKeyError,
    MalformedResponseError,
    NotSentError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.integrations.aiohttp import error_middleware
from wxpay_async.integrations.fastapi import register_error_handlers
from wxpay_async.integrations.opentelemetry import OpenTelemetryHook
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.builder import PAY
from wxpay_async.protocol.keys import InsecureKeyFileWarning
from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay, PayMethod, Refund, TradeItem
from wxpay_async.protocol.signing import Md5Signer, Md5Verifier, RsaSigner, RsaVerifier, Signer
from wxpay_async.protocol.wire import MAX_BODY, HttpRequest, HttpResponse, Timeouts
from wxpay_async.sandbox import Sandbox

Call = Callable[[], Awaitable[object]]

PRIVATE_KEY = vectors.PRIVATE_KEY.read_bytes()
PUBLIC_KEY = vectors.PUBLIC_KEY.read_text(encoding="ascii")
OTHER_KEY = (KEYS / "rsa3072.pem").read_bytes()
OTHER_NUMBERS = PRIVATE_KEY.replace(b"/", b"+")
WEAK_KEY = (KEYS / "rsa1024.pem").read_bytes()
LOCKED_KEY = (KEYS / "encrypted-pbes2.pem").read_bytes()
SECRET = "canarySecret0f6b1d2e3c4a59687a"
WRONG_SECRET = "canaryWrongSecret7b8c9d0e1f2a3b"
OPENID = "oCanary-77_openid+31/xyz="
PLANTED_TOKEN = "canary+payToken/91f3=a7"
PLANTED_PREPAY = "wxCanary0616441626856"
PLANTED_SIGN = "canaryPaySign+tEwMVv5w/rcgv=="
PLANTED: Canaries = {
    "the openid": OPENID,
    "the payToken": PLANTED_TOKEN,
    "the prepay": PLANTED_PREPAY,
    "the paySign": PLANTED_SIGN,
}
ONE_ATTEMPT = RetryPolicy(attempts=1)


# What is looked for


def list_key_secrets(name: str, pem: bytes) -> Canaries:
    """Name the numbers that make a private key one, and a piece of its text."""
    key = RSA.import_key(pem)
    numbers = {f"the {name}'s {part}": str(getattr(key, part)) for part in "dpq"}
    hexadecimal = {f"the {name}'s {part} in hex": f"{getattr(key, part):x}" for part in "dpq"}
    return {**numbers, **hexadecimal, **list_pem_secrets(name, pem)}


def list_pem_secrets(name: str, pem: bytes) -> Canaries:
    """Name a line from the middle of a PEM, as it is and as the `repr` of its bytes."""
    lines = pem.decode("ascii").splitlines()
    line = lines[len(lines) // 2]
    # Which quotes are escaped depends on what stands elsewhere in the bytes.
    octets = max(re.split(rb"['\"]", base64.b64decode(line)), key=len)
    return {f"the {name}'s text": line, f"the {name}'s bytes": repr(octets)[2:-1]}


# Where it is looked for


async def catch_failure(call: Call) -> BaseException:
    """Return what a call raises; the frame of this function holds nothing but the call."""
    try:
        await call()
    except (WxPayError, asyncio.CancelledError) as error:
        return error
    raise AssertionError("it did not fail")


def catch_setup_failure(call: Callable[[], object]) -> Exception:
    """Return what making something raises, without the frame of this function."""
    try:
        call()
    except (WxPayError, ImportError, TypeError, ValueError, Warning) as error:
        own = error.__traceback__
        return error.with_traceback(own and own.tb_next)
    raise AssertionError("it did not fail")


async def answer_payers(error: WxPayError) -> dict[str, str]:
    """Return what both integrations answer when a handler raises the error."""

    async def fail(_: web.Request) -> web.Response:
        raise error

    app = web.Application(middlewares=[error_middleware])
    app.add_routes([web.get("/", fail)])
    async with TestClient(TestServer(app)) as payer, payer.get("/") as reply:
        by_aiohttp = f"{reply.status} {reply.headers} {await reply.text()}"
    other = FastAPI()
    register_error_handlers(other)

    @other.get("/")
    async def fail_too() -> None:
        raise error

    transport = httpx.ASGITransport(other)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        answer = await client.get("/")
    by_fastapi = f"{answer.status_code} {answer.headers} {answer.text}"
    name = type(error).__name__
    return {f"aiohttp's answer to {name}": by_aiohttp, f"FastAPI's to {name}": by_fastapi}


def read_store(folder: Path) -> dict[str, bytes]:
    """Return what a store's files hold, those beside the database too."""
    return {file.name: file.read_bytes() for file in folder.glob("store.db*")}


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


# The run


@define(eq=False)
class Run:
    """A shop on its way through everything that can happen, watched by every hook."""

    sandbox: Sandbox
    signer: Signer
    wrong_signer: Signer
    folder: Path
    tap: NotingTransport = field(factory=NotingTransport)
    spans: InMemorySpanExporter = field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(factory=InMemoryMetricReader)
    events: list[Event] = field(factory=list)
    errors: list[BaseException] = field(factory=list)
    shown: list[object] = field(factory=list)
    canaries: Canaries = field(factory=dict)
    hook: OpenTelemetryHook = field(init=False)

    def __attrs_post_init__(self) -> None:
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        meters = MeterProvider(metric_readers=[self.reader])
        self.hook = OpenTelemetryHook(tracers.get_tracer("canary"), meters.get_meter("canary"))

    def gateway(self, **changes: Any) -> PayGateway:  # noqa: ANN401 - the constructor's
        """Make a gateway over the same store."""
        given = {
            "signer": self.signer,
            "base_url": self.sandbox.url,
            "transport": self.tap,
            "store": SqlStore(f"sqlite:///{self.folder}/store.db"),
            "limiter": Unlimited(),
            "retry": ONE_ATTEMPT,
            "hooks": [logging_hook(), self.hook, self.events.append],
        } | changes
        return PayGateway(self.sandbox.app_key, **given)

    async def everything(self) -> None:
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
        for fault in ("drop", "reset", "truncated", "html-502"):
            self.sandbox.faults.inject(fault, path=PAY.path)
            lost = evolve(pay, request_id=f"lost-{fault}", out_trade_no=None)
            await self.expect(lambda lost=lost: gateway.pay(lost), InDoubtError)
        for _ in range(3):  # one for each attempt, also of the payment that follows
            self.sandbox.faults.inject("drop", path=PAY.path)
        order = make_trade("checkout", "O-2")
        await self.expect(
            lambda: gateway.checkout(order, openid=OPENID, app_id="wx1"), InDoubtError
        )
        outcome = await gateway.resolve("lost-drop")
        self.shown.append(outcome)
        self.errors += [outcome.error] if outcome.error else []
        await self.cancel(gateway, evolve(pay, request_id="cancelled"))

    async def cancel(self, gateway: PayGateway, pay: MiniProgramPay) -> None:
        """Cancel a payment, and a query, while their answers are on their way."""
        for call in (
            lambda: gateway.pay(pay),
            lambda: gateway.query(out_trade_no="O-1"),
        ):
            self.sandbox.faults.inject("delay", seconds=30.0)
            sent = len(self.tap.requests)
            task = asyncio.ensure_future(call())
            while len(self.tap.requests) == sent:  # noqa: ASYNC110 - others' code, no event
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)  # let it get beyond the headers
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
        metrics = self.reader.get_metrics_data()
        values = [*self.shown, *self.tap.requests, *self.events]
        places: dict[str, str | bytes] = {
            "repr": "\n".join(map(repr, values)),
            "str": "\n".join(map(str, values)),
            "spans": "\n".join(span.to_json() for span in self.spans.get_finished_spans()),
            "metrics": metrics.to_json() if metrics else "",
        }
        for error in self.errors:
            places |= {f"{len(places)} {name}": text for name, text in render_error(error).items()}
            if isinstance(error, WxPayError):
                places |= await answer_payers(error)
        return places


def make_trade(request_id: str, out_trade_no: str) -> InstantTrade:
    """Make an order of one yuan."""
    one = Decimal("1.00")
    item = TradeItem(
        out_trade_no=out_trade_no,
        subject="商品的标题",
        price=one,
        quantity=1,
        total_amount=one,
        payee_identity="100",
    )
    method = PayMethod(pay_product_code="67", amount=one, app_id="wx1", open_id=OPENID)
    return InstantTrade(
        request_id=request_id, trade_info=[item], payer_ip="11.22.33.44", pay_method=method
    )


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
    await run.everything()
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
    assert {"wxpay trade", "wxpay pay", "POST"} <= {s.name for s in run.spans.get_finished_spans()}
    assert "oCa…z=" in places["repr"]


# Replies that hold credentials and cannot be used


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
    places |= {"outcome": repr(outcome), "entry": repr(await shop.entry("pay-1"))}

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
    method = PayMethod(pay_product_code="67", amount=Decimal("1.00"), open_id=OPENID)
    if operation == "pay":
        message = repeat(payToken=PLANTED_TOKEN, terminalPayerId=OPENID)
        request = asking.pay("id-1", pay_token=PLANTED_TOKEN, terminal_payer_id=OPENID)
    else:
        message = repeat(openId=OPENID)
        request = asking.trade("id-1", pay_method=method)
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


# Set-ups that fail


def make_unfit_key() -> RSA.RsaKey:
    """Make a key that pycryptodome takes and OpenSSL refuses."""
    key = RSA.import_key(PRIVATE_KEY)
    return RSA.construct((key.n, key.e, key.d, key.p, key.q + 2), consistency_check=False)


def read_environment(**env: str) -> Callable[[], object]:
    """Make the function that reads a gateway from these variables."""
    return partial(PayGateway.from_env, {"WXPAY_APP_KEY": "k", **env})


SETUPS: dict[str, Callable[[], object]] = {
    "a secret with a line break": partial(Md5Signer, f"{SECRET}\n"),
    "a secret of bytes": partial(Md5Signer, SECRET.encode()),
    "a verifier's secret": partial(Md5Verifier, f" {SECRET}"),
    "a text to sign": lambda: Md5Signer(SECRET).sign("text"),  # type: ignore[arg-type]
    "a secret in the environment": read_environment(WXPAY_APP_SECRET=f"{SECRET} "),
    "a secret in quotes": read_environment(WXPAY_APP_SECRET=f'"{SECRET}"'),
    "a secret in quotes, by the check": partial(check_quotes, {"WXPAY_APP_SECRET": f'"{SECRET}"'}),
    "two schemes": read_environment(WXPAY_APP_SECRET=SECRET, WXPAY_PRIVATE_KEY_FILE="merchant.pem"),
    "two schemes, by the signer": partial(
        read_signer, {"WXPAY_APP_SECRET": SECRET, "WXPAY_PRIVATE_KEY_FILE": "merchant.pem"}
    ),
    "another setting": read_environment(
        WXPAY_APP_SECRET=SECRET, WXPAY_BASE_URL="http://shop.example"
    ),
    "a missing library": read_environment(
        WXPAY_APP_SECRET=SECRET, WXPAY_STORE_URL="postgresql+no://shop"
    ),
    "a key for a path": read_environment(WXPAY_PRIVATE_KEY_FILE=PRIVATE_KEY.decode("ascii")),
    "a damaged key": partial(
        RsaSigner.from_pem, PRIVATE_KEY.replace(b"\n-----END", b"a\n-----END")
    ),
    "a key with other numbers": partial(RsaSigner.from_pem, OTHER_NUMBERS),
    "a key cut short": partial(RsaSigner.from_pem, PRIVATE_KEY[:-100]),
    "a weak key": partial(RsaSigner.from_pem, WEAK_KEY),
    "a weak key, loaded": partial(RsaSigner, RSA.import_key(WEAK_KEY)),
    "a private key for a public one": partial(RsaVerifier.from_pem, PRIVATE_KEY),
    "one that is loaded": partial(RsaVerifier, RSA.import_key(PRIVATE_KEY)),
    "one for a path": partial(RsaVerifier.from_file, PRIVATE_KEY.decode("ascii")),
    "a wrong passphrase": partial(RsaSigner.from_pem, LOCKED_KEY, WRONG_SECRET),
    "a passphrase that is none": partial(RsaSigner.from_pem, PRIVATE_KEY, 5),
    "no such backend": partial(RsaSigner.from_pem, PRIVATE_KEY, backend="none"),
    "a key that OpenSSL refuses": partial(RsaSigner, make_unfit_key(), backend="openssl"),
    "a seal key": partial(
        PayGateway,
        "k",
        Md5Signer("another"),
        store=SqlStore("sqlite:///never-opened.db"),
        seal_keys=[SECRET.encode()],
    ),
    "a seal key alone": partial(
        PayGateway,
        "k",
        Md5Signer("another"),
        store=SqlStore("sqlite:///never-opened.db"),
        seal_keys=SECRET.encode(),
    ),
    "a seal key in the environment": read_environment(
        WXPAY_APP_SECRET="another", WXPAY_SEAL_KEY=SECRET
    ),
    "a seal key in the environment, by its reader": partial(
        read_seal_keys, {"WXPAY_SEAL_KEY": SECRET}, Md5Signer("another")
    ),
    "a former secret": read_environment(
        WXPAY_APP_SECRET="another", WXPAY_FORMER_SECRETS=f"{SECRET}\u00e9"
    ),
    "a former secret, by its reader": partial(
        read_seal_keys, {"WXPAY_FORMER_SECRETS": f"{SECRET}\u00e9"}, Md5Signer("another")
    ),
}


@pytest.mark.parametrize("why", SETUPS)
def test_setup_that_fails_shows_no_secret(why: str) -> None:
    """No frame of the traceback holds the secret, the key, its passphrase or the environment."""
    error = catch_setup_failure(SETUPS[why])
    canaries = {
        "the secret": SECRET,
        "the passphrase": WRONG_SECRET,
        **list_key_secrets("key", PRIVATE_KEY),
        **list_key_secrets("weak key", WEAK_KEY),
        **list_pem_secrets("locked key", LOCKED_KEY),
    }

    assert [] == find_leaks(render_error(error), canaries)


@pytest.mark.parametrize(
    ("mode", "kind"), [(0o600, InvalidKeyError), (0o644, InsecureKeyFileWarning)]
)
def test_key_file_that_fails_shows_no_secret(
    mode: int, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong passphrase, and a warning where warnings are errors; from the own environment."""
    file = tmp_path / "merchant.pem"
    file.write_bytes(LOCKED_KEY)
    file.chmod(mode)
    monkeypatch.setenv("WXPAY_APP_KEY", "k")
    monkeypatch.setenv("WXPAY_PRIVATE_KEY_FILE", str(file))
    monkeypatch.setenv("WXPAY_PRIVATE_KEY_PASSPHRASE", WRONG_SECRET)
    places: dict[str, str] = {}
    for n, call in enumerate(
        (PayGateway.from_env, lambda: RsaSigner.from_file(file, WRONG_SECRET))
    ):
        error = catch_setup_failure(call)
        assert isinstance(error, kind)
        places |= {f"{n} {name}": text for name, text in render_error(error).items()}

    canaries = {"the passphrase": WRONG_SECRET, **list_pem_secrets("key", LOCKED_KEY)}
    assert [] == find_leaks(places, canaries)


# Addresses that are signed


SIGNED_QUERY = urlencode(
    {"bizContent": json.dumps({"payToken": PLANTED_TOKEN}), "sign": PLANTED_SIGN}
)
CLOSED = "http://127.0.0.1:9/"
FAULTS = {
    "hang": b"",
    "drop": b"",
    "garbage": b"\x15\x03\x01\r\n\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123",
    "large": b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n",
}


@pytest.fixture
async def faulty_server() -> AsyncIterator[str]:
    """Serve what each path is named after; return the origin."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        name = target[1:].partition("?")[0]
        writer.write(FAULTS[name])
        if name == "hang":
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield "http://{}:{}".format(*server.sockets[0].getsockname())


@pytest.mark.parametrize(
    "address", [*FAULTS, CLOSED, "http://127.0.0.1:999999/", "http://[::1/", "ftp://127.0.0.1/"]
)
@pytest.mark.parametrize("transport", [AiohttpTransport, HttpxTransport, ReqwestTransport])
async def test_signed_address_is_no_part_of_a_failure(
    transport: Callable[[], Any], address: str, faulty_server: str
) -> None:
    """With the parameters in the query, no frame of ours or of a library's shows the address."""
    url = address if ":" in address else f"{faulty_server}/{address}"
    request = HttpRequest(f"{url}?{SIGNED_QUERY}", b"")
    carrier = transport()
    error = await catch_failure(lambda: carrier.send(request, timeout=Timeouts(read=0.2)))
    await carrier.aclose()

    assert [] == find_leaks(render_error(error), PLANTED)


@pytest.mark.parametrize(
    ("transport", "said"),
    [
        (AiohttpTransport, "by the caller"),
        (HttpxTransport, "by the caller"),
        (ReqwestTransport, "Request was cancelled"),  # pyreqwest's own words for it
    ],
)
async def test_signed_address_is_no_part_of_a_cancellation(
    transport: Callable[[], Any], said: str, faulty_server: str
) -> None:
    """It is the caller's own cancellation that comes through, without the frames below."""
    request = HttpRequest(f"{faulty_server}/hang?{SIGNED_QUERY}", b"")
    carrier = transport()
    timeouts = Timeouts(connect=1, read=1, attempt=2)
    task = asyncio.ensure_future(carrier.send(request, timeout=timeouts))
    await asyncio.sleep(0.1)  # let it get beyond the headers
    task.cancel("by the caller")
    error = await catch_failure(lambda: task)
    await carrier.aclose()
    if transport is ReqwestTransport:
        await asyncio.sleep(1.5)  # it goes on until its read timeout

    assert isinstance(error, asyncio.CancelledError)
    assert (said,) == error.args
    assert [] == find_leaks(render_error(error), PLANTED)


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
