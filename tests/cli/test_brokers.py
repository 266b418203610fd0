"""A batch whose calls are made by workers: RabbitMQ between them, store and quota shared."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.batches import (
    OUTCOMES,
    REFUNDS,
    list_refunds,
    pay_order,
    read_events,
    read_rows,
    write_refunds,
)
from tests.cli.harness import PROGRAM, SECRET, Run
from tests.support.services import POSTGRES, RABBITMQ, REDIS, require
from wxpay_async.sandbox import Sandbox

psycopg = pytest.importorskip("psycopg")
pytest.importorskip("redis")
taskiq = pytest.importorskip("wxpay_async.integrations.taskiq")

SHOP = """
import os
from wxpay_async.integrations.taskiq import rabbitmq
broker = rabbitmq(os.environ["SHOP_BROKER"], queue=os.environ["SHOP_QUEUE"])
"""


@pytest.fixture
def app_key(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have an appKey of the test's own, and so a quota and a queue."""
    name = f"shop-{uuid.uuid4().hex[:12]}"
    sandbox.add_app(name, app_secret=SECRET)
    monkeypatch.setenv("WXPAY_APP_KEY", name)
    monkeypatch.setenv("WXPAY_APP_SECRET", SECRET)
    return name


@pytest.fixture
def database() -> Iterator[str]:
    """Create a database for this test, and drop it afterwards."""
    server, name = require(POSTGRES), f"wxpay_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["address", "module"])
def broker(
    app_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """Name the broker, and take its queue away afterwards."""
    url, queue = require(RABBITMQ), f"wxpay-batch-{app_key}"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.setenv("SHOP_BROKER", url)
    monkeypatch.setenv("SHOP_QUEUE", queue)
    yield url if request.param == "address" else "shop:broker"

    async def delete_queue() -> None:
        own = taskiq.rabbitmq(url, queue=queue)
        await own.startup()
        for name in (queue, f"{queue}.expired"):
            await own.write_channel.queue_delete(name)
        await own.write_channel.exchange_delete(queue)
        await own.shutdown()

    asyncio.run(delete_queue())


Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def launch(sandbox: Sandbox) -> Iterator[Launch]:
    """Start commands in groups of processes of their own, which end with the test."""
    del sandbox  # the environment points at it
    started: list[subprocess.Popen[str]] = []

    def launch_command(*arguments: str) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        if arguments[0] == "worker":  # nobody reads its log, which would fill a pipe
            pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [*PROGRAM, *arguments]
        started.append(subprocess.Popen(command, text=True, start_new_session=True, **pipes))
        return started[-1]

    yield launch_command
    for each in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(each.pid, signal.SIGKILL)
        each.communicate()


@pytest.mark.slow
def test_workers_make_the_calls_of_a_batch(
    run: Run, sandbox: Sandbox, launch: Launch, database: str, broker: str, tmp_path: Path
) -> None:
    """Each refund is made once, by them; a stopped worker ends, and the report is complete."""
    pay_order(run, sandbox)
    write_refunds(tmp_path / REFUNDS, 60)
    shared = ("--broker", broker, "--store", database, "--quota", require(REDIS))
    worker = launch("worker", *shared, "--processes", "1")
    batch = launch("batch", REFUNDS, *shared, "--json")
    out, err = batch.communicate(timeout=280)
    assert 0 == batch.returncode, err
    assert sorted(f"R{n}" for n in range(60)) == sorted(list_refunds(sandbox))
    assert ["begun", "ended"] == [event for event in ("begun", "ended") if read_events(out, event)]
    _, *rows = read_rows(tmp_path / OUTCOMES)
    assert [(n + 1, "ok") for n in range(60)] == [(row["line"], row["outcome"]) for row in rows]
    worker.send_signal(signal.SIGTERM)
    assert 0 == worker.wait(timeout=280)


@pytest.mark.usefixtures("app_key")
def test_broker_that_is_away_is_told(
    run: Run, sandbox: Sandbox, database: str, tmp_path: Path
) -> None:
    """Nothing was sent, and the address, which may hold a password, is not repeated."""
    path = write_refunds(tmp_path / REFUNDS, 3)
    shared = ("--store", database, "--quota", require(REDIS))
    found = run("batch", str(path), *shared, "--broker", "amqp://me:canary@127.0.0.1:9/")
    assert (3, 0) == (found.code, sandbox.platform.calls.total())
    assert "error: not sent: the broker cannot be reached" in found.err
    assert "canary" not in found.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("", "--broker, WXPAY_BROKER_URL: not set"),
        ("--broker amqp://127.0.0.1", "workers cannot share this store"),
        ("--broker amqp://127.0.0.1 --store postgresql://h/d", "--quota, WXPAY_QUOTA_URL: not set"),
        ("--broker http://h --store postgresql://h/d --quota redis://h", "no address of RabbitMQ"),
        ("--broker nowhere:x --store postgresql://h/d --quota redis://h", "cannot be imported"),
        ("--broker json:loads --store postgresql://h/d --quota redis://h", "cannot be imported"),
        ("--broker json:JSONDecoder --store postgresql://h/d --quota redis://h", "no broker of"),
        ("--broker amqp://h --store postgresql://h/d --quota zzz", "WXPAY_QUOTA_URL: "),
    ],
)
@pytest.mark.usefixtures("sandbox")
def test_bad_options_start_no_worker(run: Run, arguments: str, named: str) -> None:
    """Exit code 2 and one line."""
    pytest.importorskip("taskiq_aio_pika")
    found = run("worker", *arguments.split())
    assert (2, True) == (found.code, named in found.error())
