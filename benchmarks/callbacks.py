"""Measure callbacks, and what the sandbox can take.

`parse` is `Notifications.parse` of one signed callback over and over, bytes in and notification
out, by one thread. Without OpenSSL it is left out, with a line on stderr.

The sandbox runs in a process of its own, without a quota. It gets `pay` requests that were signed
beforehand, each with a requestId and a nonce of its own, for one order. A client that only copies
bytes posts them over 16 connections; its own share of a core is a figure too, since a client at
100 % would have measured itself. For each request the sandbox verifies what came and signs a
prepay by RSA, through OpenSSL where that is installed.

Each round takes all of it, one after another.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import re
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from decimal import Decimal
from multiprocessing.connection import Connection
from typing import Final
from urllib.parse import urlencode, urlsplit

import attrs
from Crypto.PublicKey import RSA

from benchmarks.figures import Figure, Size
from benchmarks.payments import merchant_key, request, signers
from wxpay_async import (
    InstantTrade,
    Md5Signer,
    Md5Verifier,
    Notifications,
    PayGateway,
    PayMethod,
    RequestBuilder,
    RsaSigner,
    RsaVerifier,
    Signer,
    TradeItem,
    Verifier,
    canonical_string,
)
from wxpay_async.protocol.builder import PAY, parameters
from wxpay_async.sandbox import Sandbox

_APP_KEY: Final = "sandbox-app-key"
_SECRET: Final = "0123456789abcdef0123456789abcdef"  # noqa: S105 - no merchant has it
_CONNECTIONS: Final = 16
_POSTS_A_SECOND: Final = 2_000
_BATCH: Final = 10
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
_TRADE: Final = {
    "out_trade_no": "201910170001",
    "inner_trade_no": "2019101700000001",
    "trade_status": "TRADE_SUCCESS",
    "trade_amount": "33.69",
    "gmt_payment": "2019-10-17 12:30:00",
}
_LENGTH: Final = re.compile(rb"\r\nContent-Length: ([0-9]+)\r\n", re.IGNORECASE)

Settings = Mapping[str, str]
"""Where the sandbox is, as the environment would say it."""


def run(size: Size) -> Iterator[Figure]:
    """Measure verifying, then the sandbox, in every round."""
    samples: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    signing: dict[str, Signer] = {**signers(), "MD5": Md5Signer(_SECRET)}
    posting = {"MD5": signing["MD5"], "RSA": RsaSigner(merchant_key())}
    with _sandbox(merchant_key().export_key()) as settings:
        token = asyncio.run(_pay_token(settings))
        for turn in range(size.rounds):
            print(f"callbacks: round {turn + 1} of {size.rounds}", file=sys.stderr)
            for scheme, signer in signing.items():
                rate = _parse(signer, seconds=size.seconds)
                samples[f"parse, {scheme}", "/s"].append(rate)
            for scheme, signer in posting.items():
                count = int(_POSTS_A_SECOND * size.seconds)
                posts = [_post(settings, signer, token) for _ in range(count)]
                rate, share = asyncio.run(_send(settings, posts))
                samples[f"sandbox, {scheme}", "/s"].append(rate)
                samples[f"sandbox, {scheme}: the client's share of a core", "%"].append(share)
    for (name, unit), values in samples.items():
        yield Figure(section="callbacks", name=name, unit=unit, samples=tuple(values))


# Verifying


def _parse(signer: Signer, *, seconds: float) -> float:
    """Return how many callbacks are read in a second."""
    now = time.time()
    endpoint = Notifications(_verifier(signer), app_key=_APP_KEY, clock=lambda: now)
    body = _callback(signer, now)
    began, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        for _ in range(_BATCH):  # reading the clock costs little, but not nothing
            endpoint.parse(_FORM, body)
        done += _BATCH
    return done / passed


def _verifier(signer: Signer) -> Verifier:
    if isinstance(signer, RsaSigner):
        return RsaVerifier(merchant_key().public_key(), backend=signer.backend)
    return Md5Verifier(_SECRET)


def _callback(signer: Signer, now: float) -> bytes:
    fields = {
        **_TRADE,
        "appKey": _APP_KEY,
        "nonce": uuid.uuid4().hex,
        "timestamp": str(round(now * 1000)),
        **({"signType": signer.sign_type} if signer.sign_type else {}),
    }
    return urlencode({**fields, "sign": _sign(signer, canonical_string(fields).encode())}).encode()


def _sign(signer: Signer, message: bytes) -> str:
    signature = signer.sign(message)
    assert isinstance(signature, str), "the signers of the benchmarks are no coroutines"
    return signature


# The sandbox


@contextlib.contextmanager
def _sandbox(key: bytes) -> Generator[Settings]:
    """Start one in a process of its own and tell where it is."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs, key), daemon=True)
    child.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        child.join()


def _serve(pipe: Connection, key: bytes) -> None:
    asyncio.run(_serving(pipe, key))


async def _serving(pipe: Connection, key: bytes) -> None:
    pay_key = RSA.import_key(key)  # serves both sides, since making another takes up to seconds
    sandbox = Sandbox(
        app_key=_APP_KEY,
        app_secret=_SECRET,
        merchant_public_key=pay_key.public_key().export_key(),
        pay_key=pay_key,
        quota=None,
    )
    async with sandbox:
        pipe.send(sandbox.settings())
        with contextlib.suppress(EOFError):  # the other side hangs up when it has measured
            await asyncio.to_thread(pipe.recv)


async def _pay_token(settings: Settings) -> str:
    """Order something."""
    price = Decimal("33.69")
    method = PayMethod(pay_product_code="67", amount=price, app_id="wx1", open_id="o1")
    item = TradeItem(
        out_trade_no="201910170001",
        subject="wxpay-async benchmarks",
        price=price,
        quantity=1,
        total_amount=price,
        payee_identity="1000",
    )
    async with PayGateway.from_env(settings) as gateway:
        created = await gateway.trade(
            InstantTrade(
                request_id=uuid.uuid4().hex,
                trade_info=[item],
                payer_ip="127.0.0.1",
                pay_method=method,
            )
        )
    assert created.pay_token is not None, "the sandbox gives every order a payToken"
    return created.pay_token


def _post(settings: Settings, signer: Signer, token: str) -> bytes:
    """Return one payment as it stands on the wire."""
    url = settings["WXPAY_BASE_URL"]
    draft = RequestBuilder(_APP_KEY, signer.sign_type, url).draft(
        PAY,
        parameters(attrs.evolve(request(), pay_token=token)),
        now_ms=time.time_ns() // 1_000_000,
        nonce=uuid.uuid4().hex,
    )
    body = draft.signed(_sign(signer, draft.message)).body
    lines = [
        f"POST {PAY.path} HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        f"Content-Type: {_FORM['Content-Type']}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _send(settings: Settings, posts: Sequence[bytes]) -> tuple[float, float]:
    """Return payments per second, and the percentage of a core that sending them took."""
    address = urlsplit(settings["WXPAY_BASE_URL"])
    waiting = iter(posts)
    began, busy = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(_CONNECTIONS):
            group.create_task(_send_over_one(address.hostname, address.port, waiting))
    passed = time.perf_counter() - began
    return len(posts) / passed, (time.process_time() - busy) / passed * 100


async def _send_over_one(host: str | None, port: int | None, posts: Iterator[bytes]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    with contextlib.closing(writer):
        for post in posts:
            writer.write(post)
            length = _LENGTH.search(await reader.readuntil(b"\r\n\r\n"))
            assert length, "the sandbox tells how long its answers are"
            answer = await reader.readexactly(int(length[1]))
            assert answer.startswith(b'{"success":true'), answer
    await writer.wait_closed()
