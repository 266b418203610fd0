# ruff: noqa: T201 - a script that prints its figures
"""A file whose every line has ended, run once more: no call, no message, and how fast it is read.

The store is written by rows, as the package lays them out: to settle a million lines one by one
takes longer than what is looked at here.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

import attrs
from redis.asyncio import Redis
from sqlalchemy import Connection, insert

from tests.chaos.batch_stage import erase, name_driver, open_store, write_file
from tests.support import replies
from tests.support.sql_databases import use_connection
from wxpay_async import HttpRequest, Md5Signer, PayGateway, Refund, Unlimited
from wxpay_async.adapters.stores.from_url import store_from_url
from wxpay_async.adapters.stores.redis_layout import choose_set, make_keys, to_hash
from wxpay_async.adapters.stores.rows import find_tend_time, to_row
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.adapters.stores.sql_schema import make_tables
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.batch import Batch, read_lines
from wxpay_async.batch.batch import AnyLines
from wxpay_async.batch.coordinating import Send
from wxpay_async.batch.line import Line
from wxpay_async.batch.lines import Lines
from wxpay_async.engine.recall import READ_AT_ONCE
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.protocol.codec import serialize
from wxpay_async.protocol.idempotency_key import fingerprint

LEAST: Final = {"sqlite": 20_000, "postgresql": 8_000, "redis": 5_000}
"""Requests that `gateway.recall` must read in a second."""

_WRITTEN_AT_ONCE: Final = 5_000


async def run_again(options: argparse.Namespace) -> bool:
    """Write a store in which every line has ended, and run the file."""
    app_key = f"chaos-{uuid.uuid4().hex[:12]}"
    gc.freeze()  # as the command does
    with tempfile.TemporaryDirectory() as folder, open_store(options.store, folder) as url:
        write_file(Path(folder) / "refunds.jsonl", options.lines)
        lines = read_lines(Path(folder) / "refunds.jsonl", "refund")
        calls: list[HttpRequest] = []
        gateway = _make_gateway(app_key, url, calls)
        try:
            async with gateway:
                await gateway.store.open()
                began = time.monotonic()
                await _write_store(gateway, url, lines)
                print(f"written in {time.monotonic() - began:.0f} s", flush=True)
                return await _run(gateway, lines, calls, options)
        finally:
            await erase(url, app_key)


def _make_gateway(app_key: str, url: str, calls: list[HttpRequest]) -> PayGateway:
    def refuse(request: HttpRequest) -> NoReturn:
        calls.append(request)
        raise AssertionError("a line that has ended was called again")

    return PayGateway(
        app_key,
        Md5Signer("secret"),
        store=store_from_url(url),
        transport=MemoryTransport(refuse),
        limiter=Unlimited(),
    )


async def _run(
    gateway: PayGateway, lines: Lines, calls: list[HttpRequest], options: argparse.Namespace
) -> bool:
    messages: list[str] = []

    async def send(message: str) -> None:
        messages.append(message)

    here, seconds = await _count_ok(gateway, lines, None)
    sent, seconds_of_sender = await _count_ok(gateway, lines, send)
    rate, of_cpu = await _measure_recall(gateway, lines)
    kind = (options.store or "sqlite").partition(":")[0].partition("+")[0]
    least = LEAST.get(kind, 0) if options.least is None else options.least
    print(
        f"lines {options.lines}  ok {here} and {sent}  calls {len(calls)}  "
        f"messages {len(messages)}  run {seconds:.1f} s  coordinated {seconds_of_sender:.1f} s  "
        f"recall {rate:.0f}/s (least {least:.0f}; {of_cpu:.0f} in a second of CPU)"
    )
    well = here == sent == options.lines and not calls and not messages and rate >= least
    print(f"verdict: {'ok' if well else 'RED'}")
    return well


async def _count_ok(gateway: PayGateway, lines: AnyLines, send: Send | None) -> tuple[int, float]:
    count, began = 0, time.monotonic()
    async for outcome in Batch(gateway).run(lines, send=send):
        count += outcome.kind == "ok"
    return count, time.monotonic() - began


async def _measure_recall(gateway: PayGateway, lines: Lines) -> tuple[float, float]:
    """Return how many requests the gateway recalls in a second, and in a second of its CPU.

    The reading of the file is not counted. On a busy machine the second figure tells more.
    """
    spent, computed, count = 0.0, 0.0, 0
    for window in split(lines.read(gateway.app_key), READ_AT_ONCE):
        requests = [line.request for line in window if isinstance(line.request, Refund)]
        began, busy = time.monotonic(), time.process_time()
        found = await gateway.recall(requests)
        spent += time.monotonic() - began
        computed += time.process_time() - busy
        count += sum(outcome is not None for outcome in found)
    return count / spent, count / computed


def split(lines: Iterator[Line], size: int) -> Iterator[list[Line]]:
    """Yield lines by so many."""
    part: list[Line] = []
    for line in lines:
        part.append(line)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


async def _read_model(app_key: str) -> IdempotencyRecord:
    """Return the record of a refund that ended well."""
    request = Refund(
        request_id="model", out_trade_no="R-0", orig_out_trade_no="O-1", refund_amount="0.01"
    )
    answer = replies.refunded(requestId="model", outTradeNo="R-0")
    gateway = PayGateway(app_key, Md5Signer("secret"), transport=MemoryTransport(lambda _: answer))
    async with gateway:
        await gateway.refund(request)
        record = await gateway.store.load((app_key, "model"))
    assert record is not None
    return record


async def _write_store(gateway: PayGateway, url: str, lines: Lines) -> None:
    """Write the rows of all lines, sealed as the package seals them."""
    store = gateway.store
    assert isinstance(store, SealedStore)
    model = await _read_model(gateway.app_key)
    for part in split(lines.read(gateway.app_key), _WRITTEN_AT_ONCE):
        records = [store._seal_record(_make_record(model, line.request)) for line in part]
        if url.startswith("redis"):
            await _write_redis(url, records)
        else:
            await _write_sql(url, records)


def _make_record(model: IdempotencyRecord, request: object) -> IdempotencyRecord:
    assert isinstance(request, Refund)
    reply = model.reply or b""
    for name, value in (("model", request.request_id), ("R-0", request.out_trade_no)):
        reply = reply.replace(f'"{name}"'.encode(), f'"{value}"'.encode())
    return attrs.evolve(
        model,
        request_id=request.request_id,
        out_trade_no=request.out_trade_no,
        fingerprint=fingerprint("refund", serialize(request), request.out_trade_no),
        reply=reply,
    )


async def _write_sql(url: str, records: Sequence[IdempotencyRecord]) -> None:
    table = make_tables().operations
    rows = [to_row(record) | {"tend_at": find_tend_time(record)} for record in records]

    def work(connection: Connection) -> None:
        connection.execute(insert(table), rows)
        connection.commit()

    await use_connection(name_driver(url), work)


async def _write_redis(url: str, records: Sequence[IdempotencyRecord]) -> None:
    async with Redis.from_url(url) as client, client.pipeline(transaction=False) as pipeline:
        for record in records:
            *sets, key = make_keys(record.key)
            words = to_hash(record)
            pipeline.hset(key, mapping=dict(zip(words[::2], words[1::2], strict=True)))
            place, score = choose_set(record)
            if place:
                pipeline.zadd(sets[place - 1], {record.request_id: float(score)})
        await pipeline.execute()
