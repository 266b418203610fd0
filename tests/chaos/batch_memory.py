# ruff: noqa: T201 - a script that prints its figures
"""A file of very many lines: what its check and its run take of memory, and how long it is checked.

The platform is a function of this process, so that what is measured is the batch: the memory is
this process's, and so is the time.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from tests.chaos.batch_stage import open_store, write_file
from tests.support import replies
from wxpay_async import HttpRequest, Md5Signer, PayGateway, Unlimited
from wxpay_async.adapters.stores.from_url import store_from_url
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.batch import Batch, read_lines
from wxpay_async.batch.lines import Lines

MOST_OF_CHECK: Final = 15.0
MOST_OF_RUN: Final = 40.0
"""Megabytes that come on top of what the process had before."""

CHECKED_WITHIN: Final = 60.0
"""Seconds for a million lines."""

_APP_KEY: Final = "memory"
_LOOK_EVERY: Final = 1_000
_MEGABYTE: Final = 1 << 20


async def run_memory(options: argparse.Namespace) -> bool:
    """Check the file, then run it."""
    with tempfile.TemporaryDirectory() as folder, open_store(options.store, folder) as url:
        path = Path(folder) / "refunds.jsonl"
        write_file(path, options.lines)
        lines = read_lines(path, "refund")
        checked, seconds = _check(lines)
        ran, count, took = await _run(lines, url)
    print(
        f"lines {options.lines}  ok {count}  check {seconds:.1f} s, +{checked:.1f} MB (at most "
        f"{MOST_OF_CHECK:.0f})  run {took:.0f} s, +{ran:.1f} MB (at most {MOST_OF_RUN:.0f})"
    )
    in_time = seconds <= CHECKED_WITHIN * options.lines / 1_000_000 or not options.timed
    well = count == options.lines and checked <= MOST_OF_CHECK and ran <= MOST_OF_RUN and in_time
    print(f"verdict: {'ok' if well else 'RED'}")
    return well


def _check(lines: Lines) -> tuple[float, float]:
    """Return the megabytes and the seconds that the check takes."""
    before, began = _resident(), time.monotonic()
    checked = lines.check(_APP_KEY)
    took = time.monotonic() - began
    assert not checked.faults
    return max(0.0, _peak() - before), took


async def _run(lines: Lines, url: str) -> tuple[float, int, float]:
    """Return the megabytes that the run takes, how many lines ended well, and the seconds."""
    gateway = PayGateway(
        _APP_KEY,
        Md5Signer("secret"),
        store=store_from_url(url),
        transport=MemoryTransport(_refund),
        limiter=Unlimited(),
    )
    async with gateway:
        await gateway.store.open()
        before, most, count, began = _resident(), 0.0, 0, time.monotonic()
        async for outcome in Batch(gateway).run(lines):
            count += outcome.kind == "ok"
            if count % _LOOK_EVERY == 0:
                most = max(most, _resident())
    return most - before, count, time.monotonic() - began


def _refund(request: HttpRequest) -> dict[str, Any]:
    content = json.loads(parse_qs(request.body.decode())["bizContent"][0])
    return replies.refunded(requestId=content["requestId"], outTradeNo=content["outTradeNo"])


def _resident() -> float:
    """Return the megabytes that the process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MEGABYTE


def _peak() -> float:
    """Return the most megabytes that the process ever had."""
    # `ru_maxrss` would count those of the process that has started this one.
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kilobytes) / 1024
