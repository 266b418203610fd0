"""Measure how soon `wxpay-async doubts list` shows what is open beside all that has ended.

Each durable store gets a tenth of `size.rows` ended payments, 100,000 at full size, and among them
50 in doubt. Each sample takes, one after the other:

- `first operation`: from before a gateway is made until it has the first open operation, in this
  process: connection, the first read of the store, all that the command does but its imports;
- `first line`: the wall time of a fresh process of the command until its first byte is there, most
  of which Python and the store's driver take for their imports.

The first sample of each store is not counted: it writes the compiled modules.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Final

from benchmarks.figures import Figure, Size
from benchmarks.payments import APP_KEY
from benchmarks.stores import durable_places
from wxpay_async import PayGateway
from wxpay_async.adapters.stores.from_url import store_from_url
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.idempotency_key import Fingerprint

SECTION: Final = "doubts"
OPEN: Final = 50

_FIGURES: Final = ("first operation", "first line")
_ROOT: Final = Path(__file__).parents[1]
_COMMAND: Final = (sys.executable, "-m", "wxpay_async", "doubts", "list", "--json")
_SHARE: Final = 10
"""Which part of `size.rows` a store gets: they are written one by one, not by SQL."""

_WRITERS: Final = 256
_PRIME: Final = 7919
_DAY: Final = 86_400.0
_MARK: Final = Fingerprint("0" * 64, {"requestId": "0" * 16})


def run(size: Size) -> Iterator[Figure]:
    """Measure each store that answers."""
    with contextlib.ExitStack() as stack:
        for name, url in durable_places(stack):
            print(f"{SECTION}: {size.rows // _SHARE:,} rows in {name}", file=sys.stderr)
            asyncio.run(fill(url, size.rows // _SHARE))
            turns = [(_find_first(url), _list(url)) for _ in range(size.rounds + 1)][1:]
            for what, taken in zip(_FIGURES, zip(*turns, strict=True), strict=True):
                samples = tuple(1000 * seconds for seconds in taken)
                yield Figure(section=SECTION, name=f"{name}: {what}", unit="ms", samples=samples)


async def fill(url: str, rows: int) -> None:
    """Write ended payments, and payments in doubt among them, in no order of their requestIds."""
    store = store_from_url(url)
    await store.open()
    now = time.time()
    ended = (_make_record(n * _PRIME % rows, State.SUCCEEDED, now - n) for n in range(rows))
    records = [*ended, *(_make_record(n, State.UNKNOWN, now - n) for n in range(OPEN))]
    waiting = iter(records)

    async def write() -> None:
        for record in waiting:
            await store.reserve(record)

    await asyncio.gather(*(write() for _ in range(_WRITERS)))
    await store.aclose()


def _make_record(number: int, state: State, at: float) -> IdempotencyRecord:
    is_open = state is State.UNKNOWN
    return IdempotencyRecord(
        app_key=APP_KEY,
        request_id=f"{number:07}-{state.value}",
        operation="pay",
        fingerprint=_MARK,
        state=state,
        in_doubt=is_open,
        attempts=1,
        content=bytes(300),
        status=None if is_open else 200,
        reply=None if is_open else bytes(800),
        doubt_since=at if is_open else None,
        next_check_at=at + _DAY if is_open else None,
        created_at=at,
        updated_at=at,
    )


def _settings(url: str) -> dict[str, str]:
    return {"WXPAY_APP_KEY": APP_KEY, "WXPAY_APP_SECRET": "secret", "WXPAY_STORE_URL": url}


def _find_first(url: str) -> float:
    """Return the seconds until the first open operation is there."""
    return asyncio.run(_find(url))


async def _find(url: str) -> float:
    began = perf_counter()
    gateway = PayGateway.from_env(_settings(url))
    found = gateway.open_operations()
    await anext(found)
    taken = perf_counter() - began
    count = 1 + len([one async for one in found])
    await gateway.aclose()
    _check(count)
    return taken


def _list(url: str) -> float:
    """Return the seconds until a process of the command has printed its first byte."""
    # As in `start`: the modules are compiled once, as those of an installed package are.
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    began = perf_counter()
    with subprocess.Popen(  # noqa: S603 - this interpreter
        _COMMAND, cwd=_ROOT, env=environ | _settings(url), stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        first = child.stdout.read(1)
        taken = perf_counter() - began
        lines = (first + child.stdout.read()).splitlines()
    _check(len(lines))
    return taken


def _check(count: int) -> None:
    if count != OPEN:
        raise RuntimeError(f"{count} operations in place of {OPEN} are listed")
