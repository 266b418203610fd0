"""What the sections pay with: schemes, transports and event loops, as far as they are installed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import json
import secrets
import sys
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Final, TypeVar
from urllib.parse import urlencode

from attrs import frozen
from Crypto.PublicKey import RSA

from benchmarks.rates import Call, MakeLoop, Opened, Subject, concurrent
from wxpay_async import (
    HttpRequest,
    Limiter,
    Md5Signer,
    MiniProgramPay,
    PayGateway,
    ProcessSigner,
    RequestBuilder,
    RsaSigner,
    Signer,
    Store,
    Timeouts,
    Transport,
    Unlimited,
)
from wxpay_async.protocol.builder import PAY, parameters

T = TypeVar("T")

APP_KEY: Final = "benchmark"
LOOPS: Final = ("asyncio", "uvloop")
TRANSPORTS: Final = ("aiohttp", "httpx", "reqwest")

MakeTransport = Callable[[int], Transport]
"""Takes how many connections there may be at once."""

_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
_SECRET: Final = "0123456789abcdef0123456789abcdef"  # noqa: S105 - no merchant has it


def installed(things: Iterable[tuple[str, Callable[[], T]]]) -> dict[str, T]:
    """Make what can be made, by name, and say on stderr what is left out and why."""
    found: dict[str, T] = {}
    for name, make in things:
        try:
            found[name] = make()
        except ImportError as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
    return found


@frozen(kw_only=True)
class Way:
    """How payments travel: over which transport, on which event loop, so many at once."""

    transport: str
    make_transport: MakeTransport
    loop: str
    make_loop: MakeLoop
    in_flight: int

    def __str__(self) -> str:
        return f"{self.transport}, {self.loop}, {self.in_flight} in flight"

    def subject(self, name: str, opening: Callable[[Transport], Opened]) -> Subject:
        """Return what opens on a transport of its own each time."""
        return concurrent(
            f"{name}, {self}",
            lambda: opening(self.make_transport(self.in_flight)),
            in_flight=self.in_flight,
            make_loop=self.make_loop,
        )


def ways(wanted: Iterable[tuple[str, str, int]]) -> Iterator[Way]:
    """Return those that are installed, of transports, loops and calls in flight."""
    made, found = transports(), loops()
    for transport, loop, in_flight in wanted:
        if transport in made and loop in found:
            yield Way(
                transport=transport,
                make_transport=made[transport],
                loop=loop,
                make_loop=found[loop],
                in_flight=in_flight,
            )


@functools.cache
def merchant_key() -> RSA.RsaKey:
    """Make one key for all sections of a run: it takes up to seconds and guards nothing."""
    return RSA.generate(2048)


@functools.cache
def signers() -> Mapping[str, Signer]:
    """Return the signers by scheme."""
    key = merchant_key()
    return installed(
        [
            ("MD5", lambda: Md5Signer(_SECRET)),
            ("RSA by pycryptodome", lambda: RsaSigner(key, backend="pycryptodome")),
            ("RSA by OpenSSL", lambda: RsaSigner(key, backend="openssl")),
        ]
    )


@functools.cache
def schemes() -> Mapping[str, Signer]:
    """Return the signers, and the quickest one in a process of its own."""
    known, quickest = signers(), "RSA by OpenSSL"
    inner = known.get(quickest)
    if not isinstance(inner, RsaSigner):
        return known
    return {**known, f"{quickest} in a process": ProcessSigner(inner)}


@functools.cache
def transports() -> Mapping[str, MakeTransport]:
    """Return the transports by the library that they go over."""
    return installed((name, functools.partial(_transport, name)) for name in TRANSPORTS)


def _transport(name: str) -> MakeTransport:
    module = importlib.import_module(f"wxpay_async.adapters.transports.{name}")
    kind = getattr(module, f"{name.title()}Transport")
    return lambda connections: kind(max_connections=connections)


@functools.cache
def loops() -> Mapping[str, MakeLoop]:
    """Return the event loops by name."""
    return installed(
        [
            ("asyncio", lambda: asyncio.new_event_loop),
            ("uvloop", lambda: importlib.import_module("uvloop").new_event_loop),
        ]
    )


def request() -> MiniProgramPay:
    """Return a payment that was not asked for before."""
    return MiniProgramPay(
        request_id=uuid.uuid4().hex,
        pay_token="2019110616441626",  # noqa: S106 - no order has it
        terminal_payer_id="oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
        app_id="wx9236b1e84ffbf10a",
    )


@frozen
class Signed:
    """One payment as bytes.

    Attributes:
        message: what was signed.
        request: what is posted.
    """

    message: bytes
    request: HttpRequest


def signed(signer: Signer, url: str) -> Signed:
    """Return a payment that a gateway with this signer could have sent."""
    builder = RequestBuilder(APP_KEY, signer.sign_type, url)
    draft = builder.draft(PAY, parameters(request()), now_ms=1573029856000, nonce="0" * 32)
    return Signed(draft.message, draft.signed(_signature(signer, draft.message)))


def _signature(signer: Signer, message: bytes) -> str:
    signature = signer.sign(message)
    assert isinstance(signature, str)
    return signature


def gateway(
    url: str,
    signer: Signer,
    *,
    transport: Transport,
    in_flight: int,
    store: Store | None = None,
    limiter: Limiter | None = None,
) -> PayGateway:
    """Return a gateway; its quota is off unless given one."""
    return PayGateway(
        APP_KEY,
        signer,
        base_url=url,
        transport=transport,
        store=store,
        limiter=limiter or Unlimited(),
        max_in_flight=in_flight,
    )


@contextlib.asynccontextmanager
async def paying(gateway: PayGateway) -> AsyncGenerator[Call]:
    """Open the gateway, and yield the payment of a new requestId."""
    async with gateway:
        await gateway.pay(request())  # what the first call starts is no part of a rate
        yield lambda: gateway.pay(request())


@contextlib.asynccontextmanager
async def sending(transport: Transport, posted: Signed) -> AsyncGenerator[Call]:
    """Yield the bare transport, which posts the same bytes again and again."""
    timeouts = Timeouts()
    try:
        yield lambda: transport.send(posted.request, timeout=timeouts)
    finally:
        await transport.aclose()


@contextlib.asynccontextmanager
async def doing_the_least(transport: Transport, signer: Signer, url: str) -> AsyncGenerator[Call]:
    """Yield what the protocol asks of every client, by the standard library, over a transport.

    It lays out, signs, quotes, sends and decodes, and nothing else: no validation, no quota, no
    idempotency, no retry, no checks of the answer.
    """

    async def call() -> object:
        fields = {
            "requestId": uuid.uuid4().hex,
            "payToken": "2019110616441626",
            "terminalPayerId": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
            "appId": "wx9236b1e84ffbf10a",
            "targetOrganization": "WECHAT",
        }
        params = {
            "appKey": APP_KEY,
            "bizContent": json.dumps(fields, separators=(",", ":")),
            "nonce": secrets.token_hex(16),
            "timestamp": str(time.time_ns() // 1_000_000),
            **({"signType": signer.sign_type} if signer.sign_type else {}),
        }
        message = "&".join(f"{name}={params[name]}" for name in sorted(params))
        params["sign"] = _signature(signer, message.encode())
        posted = HttpRequest(url + PAY.path, urlencode(params).encode(), _FORM)
        response = await transport.send(posted, timeout=timeouts)
        return json.loads(response.body)["data"]

    timeouts = Timeouts()
    try:
        yield call
    finally:
        await transport.aclose()


@contextlib.asynccontextmanager
async def signing_and_sending(
    transport: Transport, signer: Signer, posted: Signed
) -> AsyncGenerator[Call]:
    """Yield the floor: a signature over the same bytes, and then the bare transport."""
    async with sending(transport, posted) as send:

        def call() -> Awaitable[object]:
            signer.sign(posted.message)
            return send()

        yield call
