"""What is secret is planted everywhere, and every place that keeps or shows anything is searched.

The places: logs of all libraries at DEBUG, spans, metrics, `repr`, `str`, tracebacks with the
locals of every frame, the files of a store, and what a payer is answered.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus

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

from wxpay_async.errors import (
    FailedError,
    IdempotencyConflictError,
    InDoubtError,
    MalformedResponseError,
    NotSentError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.gateway import PayGateway
from wxpay_async.idempotency.sql import SqlStore
from wxpay_async.integrations.aiohttp import error_middleware
from wxpay_async.integrations.fastapi import register_error_handlers
from wxpay_async.limits.limiter import Unlimited
from wxpay_async.opentelemetry import OpenTelemetryHook
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.builder import PAY
from wxpay_async.protocol.requests import (
    InstantTrade,
    MiniProgramPay,
    PayMethod,
    Refund,
    TradeItem,
)
from wxpay_async.protocol.signing import Md5Signer, RsaSigner, Signer
from wxpay_async.protocol.wire import MAX_BODY, HttpRequest, HttpResponse, Timeouts
from wxpay_async.sandbox import Sandbox
from wxpay_async.telemetry import Event, logging_hook
from wxpay_async.transports.aiohttp import AiohttpTransport
from wxpay_async.transports.httpx import HttpxTransport
from wxpay_async.transports.memory import MemoryTransport

Fixture = Any
"""What a conftest.py defines, which no test module can import."""

Call = Callable[[], Awaitable[object]]
Canaries = dict[str, str]

KEYS = Path(__file__).parent / "vectors" / "keys"
PRIVATE_KEY = (KEYS / "pkcs8.pem").read_bytes()
PUBLIC_KEY = (KEYS / "public.pem").read_text(encoding="ascii")
OTHER_KEY = (KEYS / "rsa3072.pem").read_bytes()
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


def _of_key(name: str, pem: bytes) -> Canaries:
    """Name the numbers that make a private key one, and a piece of its PEM."""
    key = RSA.import_key(pem)
    lines = pem.decode("ascii").splitlines()
    numbers = {f"the {name}'s {part}": str(getattr(key, part)) for part in "dpq"}
    hexadecimal = {f"the {name}'s {part} in hex": f"{getattr(key, part):x}" for part in "dpq"}
    return {**numbers, **hexadecimal, f"the {name}'s text": lines[len(lines) // 2]}


def _forms(value: str) -> set[bytes]:
    """Write a value in every way in which it could be hidden in plain sight."""
    raw = value.encode()
    found = {
        raw,
        raw.hex().encode(),
        raw.hex().upper().encode(),
        quote(value, safe="").encode(),
        quote_plus(value).encode(),
        json.dumps(value)[1:-1].encode(),
        value[::-1].encode(),
        value.encode("utf-16-le"),
    }
    for shift in range(3):  # Base64 of a longer text that holds the value at any offset
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            cut = encode(bytes(shift) + raw)[(0, 2, 3)[shift] :]
            found.add(cut[: len(cut) // 4 * 4 - 4])
    return found


def leaks(places: Mapping[str, str | bytes], canaries: Canaries) -> list[tuple[str, str]]:
    """Return each (place, canary) where something secret was found, in whatever form."""
    forms = {name: _forms(value) for name, value in canaries.items()}
    found: list[tuple[str, str]] = []
    for place, content in places.items():
        raw = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
        found.extend((place, name) for name, all_ in forms.items() if any(f in raw for f in all_))
    return found


# Where it is looked for


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and all below it, also those that `from None` keeps out of tracebacks."""
    chain: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        link = todo.pop()
        if link is not None and link not in chain:
            chain.append(link)
            todo += [link.__cause__, link.__context__]
    return chain


def _frames_of_ours(error: BaseException) -> str:
    """Show the locals of the package's frames, whatever a traceback would leave out."""
    walks = (traceback.walk_tb(link.__traceback__) for link in _chain(error))
    return "\n".join(
        f"{frame.f_code.co_qualname}:{line} {name}={value!r}"
        for walk in walks
        for frame, line in walk
        if frame.f_globals.get("__name__", "").startswith("wxpay_async")
        for name, value in frame.f_locals.items()
    )


def rendered(error: BaseException) -> dict[str, str]:
    """Show an error in every way that a log, a debugger or an error tracker would."""
    with_locals = traceback.TracebackException.from_exception(error, capture_locals=True)
    name = type(error).__name__
    return {
        f"str of {name}": str(error),
        f"repr of {name}": "\n".join(repr(link) for link in _chain(error)),
        f"attributes of {name}": "\n".join(repr(vars(link)) for link in _chain(error)),
        f"traceback of {name}": "".join(traceback.format_exception(error)),
        f"traceback with locals of {name}": "".join(with_locals.format()),
        f"frames of {name}": _frames_of_ours(error),
    }


async def failure(call: Call) -> BaseException:
    """Return what a call raises; the frame of this function holds nothing but the call."""
    try:
        await call()
    except (WxPayError, asyncio.CancelledError) as error:
        return error
    raise AssertionError("it did not fail")


async def answers_to_payers(error: WxPayError) -> dict[str, str]:
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


def _of_records(records: Iterable[logging.LogRecord]) -> str:
    """Show log records with their arguments and their `extra`."""
    return "\n".join(f"{record.getMessage()} {vars(record)!r}" for record in records)


@define(eq=False)
class Tap:
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
    tap: Tap = field(factory=Tap)
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
            self.shown += [gateway, gateway.store, gateway._dispatcher.wiring, self.signer]
        async with self.gateway(base_url="http://127.0.0.1:9", signer=self.wrong_signer) as nowhere:
            await self.fails(lambda: nowhere.pay(evolve(pay, request_id="not-sent")), NotSentError)
        async with self.gateway(signer=self.wrong_signer) as other:
            refused = evolve(pay, request_id="wrong")
            await self.fails(lambda: other.pay(refused), SignatureRefusedError)

    async def purchase(self, gateway: PayGateway) -> MiniProgramPay:
        """Buy something, look at it again, and give the money back."""
        trade = _trade("trade", "O-1")
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
        await self.fails(lambda: gateway.pay(conflicting), IdempotencyConflictError)
        for mishap in ("drop", "reset", "truncated", "html-502"):
            self.sandbox.faults.spoil(mishap, path=PAY.path)
            lost = evolve(pay, request_id=f"lost-{mishap}", out_trade_no=None)
            await self.fails(lambda lost=lost: gateway.pay(lost), InDoubtError)
        self.sandbox.faults.spoil("drop", path=PAY.path)
        order = _trade("checkout", "O-2")
        await self.fails(lambda: gateway.checkout(order, openid=OPENID, app_id="wx1"), InDoubtError)
        outcome = await gateway.resolve("lost-drop")
        self.shown.append(outcome)
        self.errors += [outcome.error] if outcome.error else []
        await self.cancelled(gateway, evolve(pay, request_id="cancelled"))

    async def cancelled(self, gateway: PayGateway, pay: MiniProgramPay) -> None:
        """Cancel a payment, and a query, while their answers are on their way."""
        for call in (
            lambda: gateway.pay(pay),
            lambda: gateway.query(out_trade_no="O-1"),
        ):
            self.sandbox.faults.spoil("delay", seconds=30.0)
            sent = len(self.tap.requests)
            task = asyncio.ensure_future(call())
            while len(self.tap.requests) == sent:  # noqa: ASYNC110 - others' code, no event
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)  # let it get beyond the headers
            task.cancel()
            self.errors.append(await failure(lambda task=task: task))

    async def fails(self, call: Call, kind: type[WxPayError]) -> None:
        """Keep the error of a call."""
        error = await failure(call)
        assert isinstance(error, kind)
        self.errors.append(error)

    def files(self) -> dict[str, bytes]:
        """Return what the store's files hold, those beside the database too."""
        return {file.name: file.read_bytes() for file in self.folder.glob("store.db*")}

    async def places(self) -> dict[str, str | bytes]:
        """Return everything that anybody can look at afterwards."""
        metrics = self.reader.get_metrics_data()
        values = [*self.shown, *self.tap.requests, *self.events]
        places: dict[str, str | bytes] = {
            "repr": "\n".join(map(repr, values)),
            "str": "\n".join(map(str, values)),
            "spans": "\n".join(span.to_json() for span in self.spans.get_finished_spans()),
            "metrics": metrics.to_json() if metrics else "",
        }
        for error in self.errors:
            places |= {f"{len(places)} {name}": text for name, text in rendered(error).items()}
            if isinstance(error, WxPayError):
                places |= await answers_to_payers(error)
        return places


def _trade(request_id: str, out_trade_no: str) -> InstantTrade:
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
async def test_a_whole_day_leaves_no_secret_anywhere(
    scheme: str, sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Purchase and failures over HTTP and SQLite, everything at DEBUG: none found."""
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
    places["logs"] = _of_records(caplog.records) + caplog.text
    places |= run.files()
    canaries = {
        "the secret": SECRET,
        "the wrong secret": WRONG_SECRET,
        "the openid": OPENID,
        **_of_key("private key", PRIVATE_KEY),
        **_of_key("other private key", OTHER_KEY),
        **run.canaries,
        **run.tap.signatures(),
    }

    assert all(len(canary) >= 20 for canary in canaries.values())
    assert [] == leaks(places, canaries)
    logged = {record.name.partition(".")[0] for record in caplog.records}
    assert {"wxpay_async", "asyncio", "sqlalchemy"} <= logged
    assert {"wxpay trade", "wxpay pay", "POST"} <= {s.name for s in run.spans.get_finished_spans()}
    assert "oCa…z=" in places["repr"]


# Replies that hold credentials and cannot be used


def _prepay(**changes: str | None) -> dict[str, Any]:
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


def _failed() -> dict[str, Any]:
    reply = _prepay()
    row = {"outTradeNo": "O-1", "tradeNo": "T-1", "status": "F"}
    reply["data"]["tradeResList"] = [row]
    return reply


def _nested() -> dict[str, Any]:
    return _prepay(tradeResList=f'[{{"paySign": "{PLANTED_SIGN}"}}]')


UNUSABLE: dict[str, tuple[Callable[[], object], type[WxPayError]]] = {
    "a field is missing": (lambda: _prepay(nonceStr=None), MalformedResponseError),
    "a field is empty": (lambda: _prepay(signType=""), MalformedResponseError),
    "the package is another": (lambda: _prepay(extPackage="x"), MalformedResponseError),
    "it answers another": (lambda: _prepay(requestId="other"), MalformedResponseError),
    "an amount is none": (lambda: _prepay(instAmount=PLANTED_SIGN), MalformedResponseError),
    "a row is none": (_nested, MalformedResponseError),
    "all of it failed": (_failed, FailedError),
    "a code contradicts it": (
        lambda: {**_prepay(), "errorCode": "CO_MSG_000002"},
        MalformedResponseError,
    ),
    "it is refused": (
        lambda: {**_prepay(), "success": False, "errorCode": "CO_MSG_000001"},
        RefusedError,
    ),
    "no envelope": (lambda: _prepay()["data"], MalformedResponseError),
    "no JSON": (
        lambda: HttpResponse(200, json.dumps(_prepay()).encode() + b"}"),
        MalformedResponseError,
    ),
    "a name twice": (
        lambda: HttpResponse(200, json.dumps(_prepay()).replace("appId", "signType").encode()),
        MalformedResponseError,
    ),
    "a redirect": (
        lambda: HttpResponse(302, b"", {"location": f"https://h/?{PLANTED_SIGN}"}),
        InDoubtError,
    ),
}


@pytest.mark.parametrize("why", UNUSABLE)
async def test_a_reply_that_cannot_be_used_shows_no_credential(
    why: str, asking: Fixture, open_shop: Fixture
) -> None:
    """Wherever a reply is refused, no frame that can be seen holds what was in it."""
    make, kind = UNUSABLE[why]
    shop = open_shop([make()] * 9, retry=ONE_ATTEMPT)
    request = asking.pay("pay-1", pay_token=PLANTED_TOKEN, terminal_payer_id=OPENID)
    error = await failure(lambda: shop.gateway.pay(request))
    again = await failure(lambda: shop.gateway.pay(request))
    outcome = await shop.gateway.resolve("pay-1")
    places = rendered(error) | {f"again: {k}": v for k, v in rendered(again).items()}
    places |= rendered(outcome.error) if outcome.error else {}
    places |= {"outcome": repr(outcome), "entry": repr(await shop.entry("pay-1"))}

    assert isinstance(error, kind)
    assert [] == leaks(places, PLANTED)


@pytest.mark.parametrize("transport", [AiohttpTransport, HttpxTransport])
async def test_a_reply_that_is_too_large_shows_nothing_of_itself(
    transport: Callable[[], Any], asking: Fixture, open_shop: Fixture
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
        error = await failure(lambda: shop.gateway.pay(request))
        await shop.gateway.aclose()

    assert isinstance(error, MalformedResponseError)
    assert [] == leaks(rendered(error), PLANTED)


class _BrokenSigner:
    """A key-management service that is down."""

    sign_type = None

    async def sign(self, message: bytes) -> str:
        """Fail, with the message in a local."""
        await asyncio.sleep(0)
        raise NotSentError(f"no answer about {message!r}", retryable=False)


async def test_a_signer_that_fails_shows_nothing_of_what_it_should_sign(
    asking: Fixture,
) -> None:
    """The message holds the bizContent: neither the SDK's frames nor the signer's show it."""
    gateway = PayGateway("app", _BrokenSigner(), transport=MemoryTransport([]))
    request = asking.pay(pay_token=PLANTED_TOKEN, terminal_payer_id=OPENID)
    error = await failure(lambda: gateway.pay(request))
    await gateway.aclose()

    assert isinstance(error, NotSentError)
    assert "no answer about <" in str(error)
    assert [] == leaks(rendered(error), PLANTED)


async def test_a_new_prepay_that_fails_shows_nothing_of_the_old_one(
    asking: Fixture, open_shop: Fixture, script: Fixture, replies: Fixture, tmp_path: Path
) -> None:
    """Out of a durable store the bytes come sealed, and are as hidden as before once opened."""
    answers = script(InDoubtError("timeout"), query=replies.order("待付款"))
    store = SqlStore(f"sqlite:///{tmp_path}/store.db")
    shop = open_shop(answers, store=store, retry=ONE_ATTEMPT)
    request = asking.pay(
        "pay-1", pay_token=PLANTED_TOKEN, terminal_payer_id=OPENID, out_trade_no="O-1"
    )
    await failure(lambda: shop.gateway.pay(request))
    outcome = await shop.gateway.resolve("pay-1", reissue=True)

    assert isinstance(outcome.error, InDoubtError)
    assert [] == leaks(rendered(outcome.error), PLANTED)


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
def test_the_search_finds_every_form(hidden: Callable[[str], str]) -> None:
    """A canary test that cannot find its canary proves nothing."""
    places = {"somewhere": f"a long text with {hidden(OPENID)} in the middle"}

    assert [("somewhere", "the openid")] == leaks(places, PLANTED)


async def test_the_search_looks_into_locals() -> None:
    """What stands in a local variable of a frame below is found."""

    async def fail() -> None:
        token = PLANTED_TOKEN
        raise NotSentError(f"{len(token)}")

    found = leaks(rendered(await failure(fail)), PLANTED)

    assert [("traceback with locals of NotSentError", "the payToken")] == found
