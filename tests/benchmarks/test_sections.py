"""Sections 4 to 6 of the benchmarks in their short form: every figure is there, none is judged."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import shutil
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmarks import (
    callbacks,
    collector,
    doubts,
    full_tables,
    growth,
    instructions,
    latency,
    payments,
    start,
)
from benchmarks.figures import SHORT, Figure, Size
from benchmarks.payments import APP_KEY
from wxpay_async.adapters.stores.from_url import store_from_url
from wxpay_async.policy.states import State


def complete(figures: Iterable[Figure], section: str, *, samples: int = 1) -> dict[str, str]:
    """Return the unit of each figure by name; all must have their section and their samples."""
    units: dict[str, str] = {}
    for figure in figures:
        assert section == figure.section
        assert samples == len(figure.samples), figure.name
        # An import is a difference of two times, which a busy machine can turn round.
        differs = figure.name.startswith("import ")
        assert differs or all(sample > 0 for sample in figure.samples), figure
        assert figure.name not in units
        units[figure.name] = figure.unit
    return units


def schemes() -> list[str]:
    """Return the schemes that can be measured here."""
    openssl = ["RSA by OpenSSL"] if importlib.util.find_spec("cryptography") else []
    return ["MD5", "RSA by pycryptodome", *openssl]


@pytest.mark.slow
def test_growth_tells_time_and_memory_of_many_requests_and_app_keys() -> None:
    """It tells time and memory of many requests, and rate and memory of many appKeys."""
    expected = {
        "1,000 requests: time": "s",
        "1,000 requests: each of the first tenth": "µs",
        "1,000 requests: each of the last tenth": "µs",
        "1,000 requests: added": "MB",
        "1,000 requests: peak": "MB",
    }
    for count in (1, 10, 50, 200):
        expected[f"{count} appKeys: rate"] = "/s"
        expected[f"{count} appKeys: resident"] = "MB"

    assert expected == complete(growth.run(SHORT), "growth")


@pytest.mark.slow
def test_full_tables_tell_rates_due_and_payments_while_rows_are_forgotten() -> None:
    """It tells both rates, `due`, and payments without and with forgetting; SQLite is there."""
    paced = itertools.product(("alone", "while rows are forgotten"), ("p50", "p99", "longest"))
    expected = {f"SQLite: pay, {when}: {what}": "ms" for when, what in paced}
    expected |= {f"SQLite: {what}": "/s" for what in ("rate when empty", "rate", "rows forgotten")}
    expected["SQLite: due"] = "ms"

    taken = list(full_tables.run(SHORT))  # to its end, which drops the databases

    figures = complete(taken, "full_tables")

    assert expected == {name: unit for name, unit in figures.items() if name.startswith("SQLite")}


@pytest.mark.slow
def test_doubts_tell_the_first_operation_and_the_first_line() -> None:
    """Of the work alone and of the whole command, which lists what is open and no more."""
    figures = complete(list(doubts.run(SHORT)), "doubts")

    expected = {"SQLite: first operation": "ms", "SQLite: first line": "ms"}
    assert expected == {name: unit for name, unit in figures.items() if name.startswith("SQLite")}


async def test_full_table_has_rows_that_a_gateway_could_have_left(tmp_path: Path) -> None:
    """Every row can be read, is of the last 25 days, and is forgotten 30 days after its time."""
    url = f"sqlite:///{tmp_path}/store.db"

    await full_tables.fill(url, 100)

    now, store = time.time(), store_from_url(url)
    with sqlite3.connect(tmp_path / "store.db") as connection:
        found = connection.execute("SELECT app_key, request_id FROM wxpay_operations").fetchall()
    connection.close()
    records = await store.load_many(found)
    assert 100 == len(records)
    assert {State.SUCCEEDED} == {record.state for record in records.values()}
    assert 0 == await store.forget(APP_KEY, now)
    assert 20 == await store.forget(APP_KEY, now + full_tables._LATER)
    await store.aclose()


def test_growth_counts_in_powers_of_ten() -> None:
    """The largest is the largest that is allowed."""
    assert [1_000, 10_000, 100_000] == [*growth._counts(999_999)]
    assert [1_000, 10_000, 100_000, 1_000_000] == [*growth._counts(1_000_000)]


@pytest.mark.slow
def test_latency_tells_three_percentiles_by_scheme_and_loop() -> None:
    """It tells three percentiles of the calls and of the lag, by scheme and event loop."""
    loops = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]
    expected = {
        f"{scheme}, {loop}: {what} {percentile}": "ms"
        for scheme in payments.schemes()
        for loop in loops
        for what in ("pay", "lag")
        for percentile in ("p50", "p99", "p99.9")
    }

    assert expected == complete(latency.run(SHORT), "latency")


def test_percentiles_are_milliseconds() -> None:
    """Half, a hundredth and a thousandth of the calls take longer."""
    seconds = [number / 1000 for number in range(1001)]

    assert {"p50": 500, "p99": 990, "p99.9": 999} == pytest.approx(latency._percentiles(seconds))


async def test_64_calls_are_kept_in_flight() -> None:
    """Never more; as soon as one ends the next begins; and it ends when enough were made."""
    flying: list[int] = []
    flights = 0

    async def pay() -> None:
        nonlocal flights
        flights += 1
        flying.append(flights)
        await asyncio.sleep(0)
        flights -= 1

    taken = await latency.drive(pay, calls=640, seconds=0)

    assert 64 == max(flying)
    assert {64} == {*flying[64:640]}
    assert 640 <= len(taken) < 640 + 64


@pytest.mark.slow
def test_start_tells_each_import_and_the_first_payment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It tells each import that is installed, and the first payment."""
    monkeypatch.setattr(start, "_PACKAGES", ("wxpay_async", "no_such_package"))

    figures = complete(start.run(SHORT), "start")

    expected = ("an empty interpreter", "import wxpay_async", "the first payment")
    assert dict.fromkeys(expected, "ms") == figures
    assert "left out: no_such_package (not installed)\n" == capsys.readouterr().err


@pytest.mark.parametrize("program", ["import no_such_package", "raise SystemExit(3)"])
def test_start_that_fails_is_no_figure(program: str) -> None:
    """An import that ends early would be the fastest of all."""
    with pytest.raises(RuntimeError, match="ended with"):
        start._start(program, "")


@pytest.mark.slow
def test_callbacks_tell_what_each_scheme_verifies() -> None:
    """It tells what is verified by each scheme, and what the sandbox takes; each round adds."""
    expected = {f"parse, {scheme}": "/s" for scheme in schemes()}
    for scheme in ("MD5", "RSA"):
        expected[f"sandbox, {scheme}"] = "/s"
        expected[f"sandbox, {scheme}: the client's share of a core"] = "%"

    twice = Size(rounds=2, seconds=SHORT.seconds / 2, requests=SHORT.requests)
    assert expected == complete(callbacks.run(twice), "callbacks", samples=2)


@pytest.mark.slow
def test_collector_tells_what_it_watches_and_how_long_that_takes() -> None:
    """It counts what the garbage collector watches, and how long that takes."""
    expected = {
        "objects for each payment in flight": "objects",
        "objects for each finished payment": "objects",
        "a full collection, empty store": "ms",
        "a full collection, full store": "ms",
    }
    figures = {figure.name: figure for figure in collector.run(SHORT)}

    assert expected == {name: figure.unit for name, figure in figures.items()}
    assert 20 < figures["objects for each payment in flight"].median < 60
    assert figures["objects for each finished payment"].median < 0.1


def test_instructions_are_the_difference_of_two_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the start of the process takes is no part of a payment."""
    monkeypatch.setattr(instructions.shutil, "which", lambda _: "valgrind")
    monkeypatch.setattr(instructions, "_count", lambda payments: 7_000_000 + 450 * payments)

    [figure] = instructions.run(SHORT)

    assert ("instructions", 450.0) == (figure.unit, figure.median)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_instructions_of_a_process_that_pays_are_counted() -> None:
    """By valgrind, from its start to its end."""
    assert 10_000_000 < instructions._count(2)
