"""Measure what other clients do with the same server, each at the job of theirs that is nearest.

- `pay`: ours, with a new requestId each time, memory store, no quota; over aiohttp and reqwest.
- `floor`: a signature and then the bare transport, no SDK: the most that one core can do.
- `wechatpayv3`: its asynchronous client prepares a JSAPI payment in WeChat's public-key mode: it
  signs the request by RSA and verifies the answer's signature by RSA, both in OpenSSL.
- `stripe with httpx`, `stripe with aiohttp`: `payment_intents.create_async`; a secret in a header,
  no signature.
- `raw httpx`, `raw aiohttp`: a post of the bytes that `pay` sends by MD5, as the library is set up
  by default; no SDK at all.

64 in flight. All are taken on asyncio and on uvloop, and compared on the same event loop; the
peers keep their own defaults for connections, which are 20 kept alive of 100 with httpx. Nothing
but loopback is asked: both SDKs are pointed at the canned server, and stripe's telemetry is off.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import itertools
import json
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Final

import aiohttp
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15

from benchmarks.figures import Figure, Size
from benchmarks.payments import (
    LOOPS,
    Signed,
    gateway,
    installed,
    loops,
    merchant_key,
    paying,
    schemes,
    signed,
    signers,
    signing_and_sending,
    ways,
)
from benchmarks.rates import Call, Opened, Subject, concurrent, interleaved
from benchmarks.server import Reply, canned_server
from wxpay_async import Signer, Transport

SECTION: Final = "peers"

_TRANSPORTS: Final = ("aiohttp", "reqwest")
_PREPAY_PATH: Final = "/v3/pay/transactions/jsapi"
_INTENT_PATH: Final = "/v1/payment_intents"
_PUBLIC_KEY_ID: Final = "PUB_KEY_ID_0123456789"

Peer = Callable[[str, Signed], Opened]
"""Takes the server's origin and a payment of ours as bytes."""


def run(size: Size) -> Iterator[Figure]:
    """Measure all clients."""
    platform_key = RSA.generate(2048)
    peers = _peers(platform_key)
    with canned_server(_replies(platform_key)) as server:
        posted = signed(signers()["MD5"], server.url)
        subjects = [
            *_ours(server.url, size.in_flight),
            *_theirs(peers, size.in_flight, url=server.url, posted=posted),
        ]
        body = posted.request.body
        yield from interleaved(SECTION, subjects, size=size, server=server, body=body)


def _ours(url: str, in_flight: int) -> Iterator[Subject]:
    for way in ways(itertools.product(_TRANSPORTS, LOOPS, (in_flight,))):
        for scheme, signer in schemes().items():
            yield way.subject(f"pay, {scheme}", partial(_paying, url, signer, in_flight))
        for scheme, signer in signers().items():
            floor = partial(signing_and_sending, signer=signer, posted=signed(signer, url))
            yield way.subject(f"floor, {scheme}", floor)


def _paying(url: str, signer: Signer, in_flight: int, transport: Transport) -> Opened:
    return paying(gateway(url, signer, transport=transport, in_flight=in_flight))


def _theirs(
    peers: Mapping[str, Peer], in_flight: int, *, url: str, posted: Signed
) -> Iterator[Subject]:
    for name, peer in peers.items():
        for loop, make_loop in loops().items():
            yield concurrent(
                f"{name}, {loop}, {in_flight} in flight",
                partial(peer, url, posted),
                in_flight=in_flight,
                make_loop=make_loop,
            )


def _peers(platform_key: RSA.RsaKey) -> dict[str, Peer]:
    return installed(
        [
            ("wechatpayv3", partial(_wechatpayv3, platform_key)),
            ("stripe with httpx", partial(_stripe, "HTTPXClient", "httpx")),
            ("stripe with aiohttp", partial(_stripe, "AIOHTTPClient", "aiohttp")),
            ("raw httpx", _raw_httpx),
            ("raw aiohttp", lambda: _post_by_aiohttp),
        ]
    )


# wechatpayv3


def _wechatpayv3(platform_key: RSA.RsaKey) -> Peer:
    package = importlib.import_module("wechatpayv3.async_")
    importlib.import_module("wechatpayv3.async_.core")  # it imports what it needs when it is made

    @contextlib.asynccontextmanager
    async def preparing(url: str, _: Signed) -> AsyncGenerator[Call]:
        client = package.AsyncWeChatPay(
            wechatpay_type=package.WeChatPayType.MINIPROG,
            mchid="1230000109",
            private_key=merchant_key().export_key(pkcs=8).decode(),
            cert_serial_no="444F4864EA9B34415",
            appid="wx9236b1e84ffbf10a",
            apiv3_key="0123456789abcdef0123456789abcdef",
            notify_url="https://merchant.example/notify",
            public_key=platform_key.public_key().export_key().decode(),
            public_key_id=_PUBLIC_KEY_ID,
        )
        client._core._gate_way = url  # noqa: SLF001 - it has no setting for it
        async with client:
            yield lambda: _prepare(client)

    return preparing


async def _prepare(client: Any) -> None:  # noqa: ANN401 - it has no types
    status, reply = await client.pay(
        description="Image-QQ",
        out_trade_no=uuid.uuid4().hex,
        amount={"total": 10, "currency": "CNY"},
        payer={"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
    )
    assert status == 200, reply


def _replies(platform_key: RSA.RsaKey) -> dict[str, Reply]:
    prepay = b'{"prepay_id":"wx061644162685653f3da37a5a1589465200"}'
    timestamp, nonce = "1573029856", "19a855c337bd4c14978899a560372a97"
    message = b"".join(line + b"\n" for line in (timestamp.encode(), nonce.encode(), prepay))
    signature = pkcs1_15.new(platform_key).sign(SHA256.new(message))
    headers = {
        "Wechatpay-Nonce": nonce,
        "Wechatpay-Serial": _PUBLIC_KEY_ID,
        "Wechatpay-Signature": base64.b64encode(signature).decode(),
        "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
        "Wechatpay-Timestamp": timestamp,
    }
    intent = {
        "id": "pi_3MtwBwLkdIwHu7ix28a3tqPa",
        "object": "payment_intent",
        "amount": 10,
        "amount_received": 0,
        "automatic_payment_methods": {"enabled": True},
        "capture_method": "automatic",
        "client_secret": "pi_3MtwBwLkdIwHu7ix28a3tqPa_secret_YrKJUKribcBjcG8HVhfZluoGH",
        "created": 1573029856,
        "currency": "cny",
        "livemode": False,
        "metadata": {},
        "payment_method_types": ["card", "wechat_pay"],
        "status": "requires_payment_method",
    }
    return {
        _PREPAY_PATH: Reply(body=prepay, headers=headers),
        _INTENT_PATH: Reply(body=json.dumps(intent).encode()),
    }


# stripe


def _stripe(client_name: str, library: str) -> Peer:
    stripe: Any = importlib.import_module("stripe")
    importlib.import_module(library)
    stripe.enable_telemetry = False

    @contextlib.asynccontextmanager
    async def creating(url: str, _: Signed) -> AsyncGenerator[Call]:
        carrier = getattr(stripe, client_name)()
        client = stripe.StripeClient(
            "sk_test_benchmark", http_client=carrier, base_addresses={"api": url}
        )
        try:
            yield lambda: client.v1.payment_intents.create_async({"amount": 10, "currency": "cny"})
        finally:
            await carrier.close_async()

    return creating


# Libraries alone


def _raw_httpx() -> Peer:
    httpx: ModuleType = importlib.import_module("httpx")

    @contextlib.asynccontextmanager
    async def posting(_: str, posted: Signed) -> AsyncGenerator[Call]:
        url, body, headers = posted.request.url, posted.request.body, dict(posted.request.headers)
        async with httpx.AsyncClient() as client:
            yield lambda: client.post(url, content=body, headers=headers)

    return posting


@contextlib.asynccontextmanager
async def _post_by_aiohttp(_: str, posted: Signed) -> AsyncGenerator[Call]:
    url, body, headers = posted.request.url, posted.request.body, posted.request.headers

    async with aiohttp.ClientSession(raise_for_status=True) as session:

        async def post() -> bytes:
            async with session.post(url, data=body, headers=headers) as response:
                return await response.read()

        yield post
