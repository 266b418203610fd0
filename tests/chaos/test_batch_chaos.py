"""The short forms of the batch checks, and what a queue, the outcomes and a report tell nobody."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, get_args

import aio_pika
import attrs
import pytest
from attrs import define
from Crypto.PublicKey import RSA

from tests.support import asking
from tests.support.batches import make_refunds
from tests.support.canaries import (
    OPENID,
    PLANTED_TOKEN,
    SECRET,
    Canaries,
    find_leaks,
    read_store,
    render_records,
)
from tests.support.services import POSTGRES, RABBITMQ, REDIS, require
from tests.support.vectors import PRIVATE_KEY, ROOT
from wxpay_async import Md5Signer, PayGateway, Unlimited
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.batch import Batch
from wxpay_async.batch.coordinating import Send
from wxpay_async.batch.line import Line
from wxpay_async.batch.outcome_file import Stamp, write_outcomes
from wxpay_async.batch.report import render_report
from wxpay_async.batch.report_texts import Language
from wxpay_async.batch.tally import Tally
from wxpay_async.integrations.taskiq import batch_task, rabbitmq
from wxpay_async.protocol.requests import InstantTrade
from wxpay_async.sandbox import Sandbox

_TIMEOUT: Final = 280
"""Seconds until a run that hangs is ended; nothing else depends on it."""


def play(check: str, *arguments: str) -> None:
    """Run a check, and see that it is green."""
    command = [sys.executable, "-m", "tests.chaos.batch", check, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict: ok" in done.stdout


@pytest.mark.slow
def test_run_that_is_killed_executes_every_line_once() -> None:
    """Killed three times, while replies get lost."""
    play("kills", "--lines", "600", "--kills", "3", "--seed", "1", "--untimed")


@pytest.mark.slow
def test_two_runs_of_one_file_execute_every_line_once() -> None:
    """Both know the outcome of each."""
    play("two", "--lines", "300")


@pytest.mark.slow
def test_two_runs_over_a_server_execute_every_line_once() -> None:
    """The same with a database that is no file."""
    play("two", "--lines", "300", "--store", _name_database(require(POSTGRES)))


@pytest.mark.slow
def test_file_that_has_ended_costs_no_call_and_no_message() -> None:
    """How fast it is read is looked at in the full size only."""
    play("again", "--lines", "2000", "--least", "0")


@pytest.mark.slow
def test_file_of_many_lines_takes_no_more_memory_than_a_short_one() -> None:
    """How long its check takes is looked at in the full size only."""
    play("memory", "--lines", "20000", "--untimed")


@pytest.mark.slow
def test_workers_that_are_struck_lose_no_line() -> None:
    """One is killed and one is stopped; how soon their lines end is looked at in the full size."""
    require(RABBITMQ)
    require(REDIS)
    play("machines", "--lines", "1200", "--free", "--untimed")


def _name_database(address: str) -> str:
    return address.rpartition("/")[0] + "/test"


@define(eq=False)
class _Queue:
    """A queue of RabbitMQ that nobody takes from but the test."""

    name: str

    async def read(self) -> list[bytes]:
        """Return everything that is in it: properties and bodies."""
        found: list[bytes] = []
        async with await aio_pika.connect(RABBITMQ.url) as connection:
            queue = await (await connection.channel()).get_queue(self.name)
            while message := await queue.get(no_ack=True, fail=False):
                found += [message.body, repr(message.info()).encode()]
        return found


@contextlib.asynccontextmanager
async def _open_queue() -> AsyncIterator[tuple[_Queue, Send]]:
    """Yield a queue of the test's own, and what sends a chunk there."""
    queue = _Queue(f"wxpay-canary-{uuid.uuid4().hex}")
    broker = rabbitmq(RABBITMQ.url, queue=queue.name)
    send = batch_task(broker, PayGateway.from_env)
    await broker.startup()
    try:
        yield queue, send
    finally:
        assert broker.write_conn is not None
        channel = await broker.write_conn.channel()
        await channel.queue_delete(queue.name)
        await channel.queue_delete(f"{queue.name}.expired")
        await channel.exchange_delete(queue.name)
        await broker.shutdown()


@pytest.mark.slow
async def test_queue_outcomes_and_report_hold_no_credential(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No payToken, openid or secret is in any byte, whatever was asked for and however it ended."""
    require(RABBITMQ)
    caplog.set_level(logging.DEBUG)
    places: dict[str, str | bytes] = {}
    key = RSA.import_key(PRIVATE_KEY.read_bytes())
    async with (
        Sandbox(quota=None, app_secret=SECRET, pay_key=key) as sandbox,
        _open_gateway(sandbox, tmp_path) as gateway,
        _open_queue() as (queue, send),
    ):
        trades = [_make_trade(number) for number in range(1, 4)]
        tokens = [(await gateway.trade(trade)).pay_token for trade in trades[:2]]
        pays = [_make_pay(number, token) for number, token in enumerate([*tokens, PLANTED_TOKEN])]
        canaries: Canaries = {"the secret": SECRET, "the openid": OPENID, "a token": PLANTED_TOKEN}
        canaries |= {f"payToken {n}": str(token) for n, token in enumerate(tokens)}
        batches = {
            "trade": [Line(number=n, request=trade) for n, trade in enumerate(trades, start=1)],
            "pay": pays,
            "refund": make_refunds(3),
        }
        for name, lines in batches.items():
            for message in await _read_queue(gateway, lines, queue, send):
                places[f"the queue, {name}, {len(places)}"] = message
            results = [outcome async for outcome in Batch(gateway).run(lines)]
            ended = [o.result for o in results if o.result is not None]
            canaries |= {f"paySign {n}": r.pay_sign for n, r in enumerate(ended) if name == "pay"}
            places |= await _write_everything(gateway, lines, tmp_path, name)
        assert "the openid" in {what for _, what in find_leaks(_show(pays), canaries)}
    places |= {"the logs": render_records(caplog.records)}
    places |= read_store(tmp_path)

    assert len(places) > 12
    assert [] == find_leaks(places, canaries)


def _open_gateway(sandbox: Sandbox, folder: Path) -> PayGateway:
    return PayGateway(
        sandbox.app_key,
        Md5Signer(SECRET),
        base_url=sandbox.url,
        store=SealedStore(SqlStore(f"sqlite:///{folder}/store.db"), [b"s" * 32]),
        limiter=Unlimited(),
    )


async def _read_queue(
    gateway: PayGateway,
    lines: Sequence[Line],
    queue: _Queue,
    send: Send,
) -> list[bytes]:
    """Have a coordinator send lines that no worker takes; return all bytes of the queue."""
    sent = asyncio.Event()

    async def send_and_tell(message: str) -> None:
        await send(message)
        sent.set()

    async def coordinate() -> None:
        async for _ in Batch(gateway).run(lines, send=send_and_tell):
            pass

    task = asyncio.create_task(coordinate())
    await sent.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    found = await queue.read()
    assert found
    texts = [json.loads(body).get("args", [""])[0] for body in found[::2]]
    return [*found, *(base64.b64decode(text) for text in texts)]


async def _write_everything(
    gateway: PayGateway, lines: Sequence[Line], folder: Path, name: str
) -> dict[str, bytes | str]:
    """Write the outcomes in both forms and the report in both languages; return their bytes."""
    path, table = folder / f"{name}.jsonl", folder / f"{name}.csv"
    stamp = Stamp(
        store="sqlite",
        app_key=gateway.app_key,
        operation=lines[0].operation,
        input=name,
        begun_at=datetime.now(UTC),
    )
    recalled = Batch(gateway).recall(lines)
    tally = await write_outcomes(path, recalled, stamp=stamp, csv_path=table)
    assert tally.total == len(lines)
    pages = _render(tally, stamp)
    return {str(each): each.read_bytes() for each in (path, table)} | pages


def _render(tally: Tally, stamp: Stamp) -> dict[str, bytes | str]:
    return {
        f"the report, {stamp.operation}, {language}": render_report(
            tally, stamp=stamp, at=datetime.now(UTC), language=language
        )
        for language in get_args(Language)
    }


def _show(lines: Iterable[Line]) -> dict[str, str | bytes]:
    return {"lines": str([attrs.asdict(line) for line in lines])}


def _make_trade(number: int) -> InstantTrade:
    return asking.trade(
        f"trade-{number}",
        trade_info=[asking.item(f"O-{number}")],
        pay_method=asking.method(open_id=OPENID),
    )


def _make_pay(number: int, token: str | None) -> Line:
    request = asking.pay(
        f"pay-{number}",
        pay_token=token,
        terminal_payer_id=OPENID,
        out_trade_no=f"O-{number + 1}",
    )
    return Line(number=number + 1, request=request)
