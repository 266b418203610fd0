# ruff: noqa: S608 - statements are made of this module's own texts
"""Measure what a durable store costs when its table is full.

With an empty table and with `size.requests` finished operations of one appKey in it: how many
operations a second go through (reserve and record, 64 in flight, without a gateway), how long `due`
takes, and, while everything older is forgotten without a pause, how many rows a second go and how
long the longest operation of eight in flight takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Iterator
from typing import Final

import attrs

from benchmarks.figures import Figure, Size
from benchmarks.stores import durable_places, execute
from wxpay_async import Store
from wxpay_async.adapters.stores.from_url import store_from_url
from wxpay_async.policy.record import LEASE, IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.idempotency_key import Fingerprint

_APP_KEY: Final = "full"
_IN_FLIGHT: Final = 64
_FEW: Final = 8
_ASKED: Final = 20
_AGE: Final = 40 * 86_400.0
"""Seconds since the rows were finished; a store remembers them for 30 days."""

_COLUMNS: Final = (
    "app_key, request_id, operation, digest, fields, state, epoch, attempts, in_doubt, signed_at,"
    " lease_until, status, reply, checks, created_at, updated_at, tend_at"
)
_DIALECTS: Final = {
    "sqlite": (
        "lower(hex(randomblob(16)))",
        "zeroblob(300)",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})",
        "n",
        "0",
    ),
    "postgresql": (
        "md5(i::text)",
        "decode(repeat('ab', 300), 'hex')",
        "",
        "generate_series(1, {rows}) AS i",
        "false",
    ),
    "mysql": ("md5(i)", "repeat('x', 300)", "", "(SELECT seq AS i FROM seq_1_to_{rows}) AS n", "0"),
}
"""What each has for an identifier, bytes, numbers (two parts) and false."""


def measure_full_tables(size: Size) -> Iterator[Figure]:
    """Measure every database that answers, once each: to fill one takes long."""
    with contextlib.ExitStack() as stack:
        for name, url in durable_places(stack):
            if url.startswith("redis"):
                continue
            print(f"growth: {size.requests:,} rows in {name}", file=sys.stderr)
            found = asyncio.run(_measure(url, size.requests, size.seconds))
            for what, (unit, value) in found.items():
                yield Figure(
                    section="growth",
                    name=f"{name}, {size.requests:,} rows: {what}",
                    unit=unit,
                    samples=(value,),
                )


async def _measure(url: str, rows: int, seconds: float) -> dict[str, tuple[str, float]]:
    store = store_from_url(url)
    await _rate(store, _IN_FLIGHT, seconds / 2)  # connects, and makes the tables
    empty, _ = await _rate(store, _IN_FLIGHT, seconds)
    await _fill(url, rows)
    await _rate(store, _IN_FLIGHT, seconds / 2)
    full, _ = await _rate(store, _IN_FLIGHT, seconds)
    asked = [await _time(store.due(_APP_KEY, time.time())) for _ in range(_ASKED)]
    forgotten, longest = await _forget(store, seconds)
    await store.aclose()
    return {
        "rate when empty": ("/s", empty),
        "rate": ("/s", full),
        "due": ("ms", statistics.median(asked) * 1e3),
        "forgotten": ("/s", forgotten),
        "longest meanwhile": ("ms", longest * 1e3),
    }


async def _rate(store: Store, in_flight: int, seconds: float) -> tuple[float, float]:
    """Return how many operations a second go through, and how long the longest takes."""
    taken: list[float] = []
    began = time.perf_counter()

    async def work() -> None:
        while not taken or time.perf_counter() < began + seconds:
            taken.append(await _time(_finish_new(store)))

    async with asyncio.TaskGroup() as workers:
        for _ in range(in_flight):
            workers.create_task(work())
    return len(taken) / (time.perf_counter() - began), max(taken)


async def _time(call: Awaitable[object]) -> float:
    began = time.perf_counter()
    await call
    return time.perf_counter() - began


async def _finish_new(store: Store) -> None:
    now = time.time()
    sending = IdempotencyRecord(
        app_key=_APP_KEY,
        request_id=uuid.uuid4().hex,
        operation="pay",
        fingerprint=Fingerprint("0" * 64, {"requestId": "0" * 16}),
        state=State.SENDING,
        epoch=1,
        attempts=1,
        lease_until=now + LEASE,
        claim_token=uuid.uuid4().hex,
        content=bytes(300),
        created_at=now,
        updated_at=now,
    )
    await store.reserve(sending)
    await store.record(
        attrs.evolve(sending, state=State.SUCCEEDED, content=None, reply=bytes(300), status=200)
    )


async def _forget(store: Store, seconds: float) -> tuple[float, float]:
    forgotten, began = 0, time.perf_counter()

    async def forget() -> None:
        nonlocal forgotten
        while time.perf_counter() < began + seconds:
            forgotten += await store.forget(_APP_KEY, time.time())

    (_, longest), _ = await asyncio.gather(_rate(store, _FEW, seconds), forget())
    return forgotten / seconds, longest


async def _fill(url: str, rows: int) -> None:
    name, content, numbers, source, no = _DIALECTS[url.partition(":")[0]]
    at = f"{time.time() - _AGE} - i"
    values = (
        f"'{_APP_KEY}', {name}, 'pay', {name}, '{{{{}}}}', 'succeeded', 1, 1, {no}, 1700000000000,"
        f" 0, 200, {content}, 0, {at}, {at}, {at}"
    )
    statement = f"INSERT INTO wxpay_operations ({_COLUMNS}) {numbers} SELECT {values} FROM {source}"
    await execute(url, statement.format(rows=rows))
