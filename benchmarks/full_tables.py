# ruff: noqa: S608 - statements are made of this module's own texts
"""Measure what payments cost when the table of a durable store is full.

SQLite, PostgreSQL and MariaDB have two tables each: an empty one, and one with `size.rows` finished
payments of the last 25 days, as a gateway leaves them. To fill one takes a minute per 600,000 rows,
and 2 GB of disk per million. Each round takes, over aiohttp on asyncio, by MD5:

- the payments a second with 64 in flight, with the empty table and with the full one in turn;
- how long `due` takes with the full one;
- how long a payment takes when one begins every 20 ms, whether or not those before it have ended:
  the median, the 99th percentile and the longest, at first alone, and then while old rows are
  forgotten in the way of a gateway that tends its store. Beside them, how many rows a second go.

The oldest fifth of the rows is old enough to be forgotten. Where that is gone before the last round
ends, as it is soon with PostgreSQL, the rest of the payments goes on alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Iterator
from functools import partial
from typing import Final

from attrs import frozen

from benchmarks.figures import Figure, Size
from benchmarks.payments import APP_KEY, gateway, paying, signers, transports
from benchmarks.rates import Call, concurrent
from benchmarks.server import canned_server
from benchmarks.stores import durable_places, execute
from wxpay_async import Store
from wxpay_async.adapters.stores.from_url import store_from_url

SECTION: Final = "full_tables"

_DAY: Final = 86_400.0
_DAYS: Final = 25
_IN_FLIGHT: Final = 64
_ASKED: Final = 20
_EVERY: Final = 0.02
_PACED: Final = 20
"""How many times as long as a rate the paced payments take."""

_LATER: Final = 10 * _DAY
"""A store remembers rows for 30 days; so much later, those of the first 5 days are too old."""

_PORTION: Final = 1000
_PAUSE: Final = 0.05
"""Rows, and seconds between them, as a gateway's recovery has it."""

_CHUNK: Final = 1_000_000
"""Rows in one statement."""

_COLUMNS: Final = (
    "app_key, request_id, operation, digest, fields, state, epoch, attempts, in_doubt, signed_at,"
    " lease_until, status, reply, checks, created_at, updated_at, tend_at"
)
_FIELDS: Final = (
    '"payToken": "4ca65c7dffac4d4a", "terminalPayerId": "350136f4c7dd23e4",'
    ' "targetOrganization": "05a66f9571179105", "appId": "3cecd321b2c03948",'
    ' "outTradeNo": "74234e98afe7498f", "requestId": "0123456789abcdef"'
)


@frozen(kw_only=True)
class _Dialect:
    """What a database has for values of the row `i`, and for the rows `first` to `last`."""

    request_id: str
    digest: str
    reply: str
    rows: str


_DIALECTS: Final = {
    "sqlite": _Dialect(
        request_id="lower(hex(randomblob(16)))",
        digest="lower(hex(randomblob(32)))",
        reply="randomblob(800)",
        rows="(WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n"
        " WHERE i < {last}) SELECT i FROM n) AS n",
    ),
    "postgresql": _Dialect(
        request_id="md5(i::text)",
        digest="md5(i::text) || md5((-i)::text)",
        reply="decode(repeat(md5(i::text), 50), 'hex')",
        rows="generate_series({first}, {last}) AS i",
    ),
    # In the order of the keys, since MariaDB keeps rows in it: else a table takes an hour.
    "mysql": _Dialect(
        request_id="md5(i)",
        digest="concat(md5(i), md5(-i))",
        reply="repeat(md5(i), 25)",
        rows="(SELECT seq AS i FROM seq_{first}_to_{last}) AS n ORDER BY md5(i)",
    ),
}


def run(size: Size) -> Iterator[Figure]:
    """Measure every database that answers."""
    with contextlib.ExitStack() as stack:
        empty = dict(durable_places(stack))
        full = dict(durable_places(stack))
        server = stack.enter_context(canned_server())
        for name, url in full.items():
            if not url.startswith("redis"):
                print(f"{SECTION}: {size.rows:,} rows in {name}", file=sys.stderr)
                asyncio.run(fill(url, size.rows))
                yield from measure(name, empty[name], url, server.url, size)


def measure(name: str, empty: str, full: str, server: str, size: Size) -> Iterator[Figure]:
    """Measure one database.

    Args:
        name: of the database, for the figures.
        empty: where its empty table is.
        full: where its full one is.
        server: what payments ask.
        size: how many rounds, how long each.
    """
    samples: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for turn in range(size.rounds):
        print(f"{SECTION}: {name}, round {turn + 1} of {size.rounds}", file=sys.stderr)
        tables = [("rate when empty", empty), ("rate", full)]
        for what, url in tables[:: -1 if turn % 2 else 1]:
            samples[what, "/s"].append(_rate(server, url, size))
        for (what, unit), value in asyncio.run(_measure_store(server, full, size)).items():
            samples[what, unit].append(value)
    for (what, unit), values in samples.items():
        yield Figure(section=SECTION, name=f"{name}: {what}", unit=unit, samples=tuple(values))


def _rate(server: str, url: str, size: Size) -> float:
    opening = partial(_paying, server, store_from_url(url))
    measured = concurrent("", opening, in_flight=_IN_FLIGHT, make_loop=asyncio.new_event_loop)
    return measured.rate(size.seconds)


@contextlib.asynccontextmanager
async def _paying(server: str, store: Store) -> AsyncGenerator[Call]:
    transport = transports()["aiohttp"](_IN_FLIGHT)
    made = gateway(server, signers()["MD5"], transport=transport, in_flight=_IN_FLIGHT, store=store)
    async with paying(made) as pay:
        yield pay
    await transport.aclose()
    await store.aclose()


async def _measure_store(server: str, url: str, size: Size) -> dict[tuple[str, str], float]:
    store = store_from_url(url)
    async with _paying(server, store) as pay:
        asked = [await _time(store.due(APP_KEY, time.time())) for _ in range(_ASKED)]
        seconds = size.seconds * _PACED
        alone = await _pace(pay, seconds)
        forgetting = asyncio.create_task(_forget(store))
        meanwhile = await _pace(pay, seconds)
        forgetting.cancel()
        rows = await forgetting
    return {
        ("due", "ms"): statistics.median(asked) * 1e3,
        **_percentiles("alone", alone),
        **_percentiles("while rows are forgotten", meanwhile),
        ("rows forgotten", "/s"): rows,
    }


async def _pace(pay: Call, seconds: float) -> list[float]:
    """Begin a payment every 20 ms; return how long after its time each of them ended."""
    taken: list[float] = []

    async def pay_at(begin: float) -> None:
        await asyncio.sleep(begin - time.perf_counter())
        await pay()
        taken.append(time.perf_counter() - begin)

    now = time.perf_counter()
    await asyncio.gather(*(pay_at(now + n * _EVERY) for n in range(round(seconds / _EVERY))))
    return sorted(taken)


async def _forget(store: Store) -> float:
    """Forget what is old until cancelled; return how many rows a second went."""
    rows, began = 0, time.perf_counter()
    with contextlib.suppress(asyncio.CancelledError):
        while dropped := await store.forget(APP_KEY, time.time() + _LATER, limit=_PORTION):
            rows += dropped
            await asyncio.sleep(_PAUSE)
    return rows / (time.perf_counter() - began)


def _percentiles(when: str, taken: list[float]) -> dict[tuple[str, str], float]:
    found = {
        "p50": taken[len(taken) // 2],
        "p99": taken[len(taken) * 99 // 100],
        "longest": taken[-1],
    }
    return {(f"pay, {when}: {what}", "ms"): value * 1e3 for what, value in found.items()}


async def _time(call: Awaitable[object]) -> float:
    began = time.perf_counter()
    await call
    return time.perf_counter() - began


async def fill(url: str, rows: int) -> None:
    """Make the tables, and insert finished payments of the last 25 days, the oldest first."""
    store = store_from_url(url)
    await store.open()
    await store.aclose()
    dialect = _DIALECTS[url.partition(":")[0]]
    at = f"{time.time() - _DAYS * _DAY} + i * {_DAYS * _DAY / rows}"
    values = (
        f"'{APP_KEY}', {dialect.request_id}, 'pay', {dialect.digest}, '{{{_FIELDS}}}',"
        f" 'succeeded', 1, 1, false, 1700000000000, 0, 200, {dialect.reply}, 0, {at}, {at}, {at}"
    )
    for first in range(1, rows + 1, _CHUNK):
        numbers = dialect.rows.format(first=first, last=min(first + _CHUNK - 1, rows))
        await execute(
            url, f"INSERT INTO wxpay_operations ({_COLUMNS}) SELECT {values} FROM {numbers}"
        )
    if url.startswith("postgresql"):  # what a server does by itself, some minutes later
        await execute(url, "VACUUM ANALYZE wxpay_operations")
