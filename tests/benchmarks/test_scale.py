"""The section `scale` in its short form: every figure is there, none is judged."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time

import pytest

from benchmarks import places, scale, usage
from benchmarks.figures import SHORT
from benchmarks.scale_process import Crew, pay, worker
from benchmarks.server import canned_server
from tests.support.services import POSTGRES, REDIS, require

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is used is read from /proc")

BUSY = {"processes", "canned server"}


@pytest.mark.slow
def test_scale_tells_rates_and_what_everything_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every crew has its rate and what its servers used; gateways that rest have their memory."""
    monkeypatch.setattr(scale, "APP_KEYS", 4)
    monkeypatch.setattr(scale, "GATEWAYS", 6)
    monkeypatch.setenv(POSTGRES.variable, require(POSTGRES))
    monkeypatch.setenv(REDIS.variable, require(REDIS))

    figures = {figure.name: figure for figure in scale.run(SHORT)}

    for crew, servers in {
        "memory, quota in process, 1 process": set[str](),
        "memory, quota in Redis, 1 process": {"Redis"},
        "PostgreSQL, quota in process, 1 process": {"PostgreSQL"},
        "PostgreSQL, quota in Redis, 1 process": {"PostgreSQL", "Redis"},
        "PostgreSQL, quota in Redis, 2 processes": {"PostgreSQL", "Redis"},
        "Redis, quota in Redis, 1 process": {"Redis"},
    }.items():
        units = {
            name.removeprefix(f"{crew}: "): figure.unit
            for name, figure in figures.items()
            if name.startswith(f"{crew}: ")
        }
        expected = {"rate": "/s", "p99": "ms"}
        expected |= {f"busy, {name}": "%" for name in servers | BUSY}
        expected |= {f"a payment, {name}": "µs" for name in servers | BUSY}
        work = {"PostgreSQL": "transactions that wrote", "Redis": "scripts"}
        expected |= {f"{work[name]}, {name}": "/s" for name in servers}
        keeper = crew.partition(",")[0]
        expected |= {f"kept for a payment, {keeper}": "bytes"} if keeper in servers else {}
        assert expected == units, crew
        assert figures[f"{crew}: rate"].median > 0
        assert figures[f"{crew}: a payment, processes"].median > 0
    for name, least in {
        "memory of each": 0.0,
        "until each has paid once": 0.0,
        "connections to canned server": 1.0,
        "connections to PostgreSQL": 1.0,
        "connections to Redis": 1.0,
    }.items():
        assert figures[f"6 gateways: {name}"].median >= least, name


def test_scale_is_left_out_where_a_server_is_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is measured, and a line says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv(POSTGRES.variable, f"postgresql://nobody@127.0.0.1:{port}/none")

    assert [] == list(scale.run(SHORT))
    assert "left out: scale (" in capsys.readouterr().err


@pytest.mark.slow
def test_worker_that_fails_is_no_figure() -> None:
    """The process that measures does not wait for one that has ended."""
    with canned_server() as server:
        crew = Crew(platform=server.url, store="no address", quota="", prefix="a", app_keys=1)
        with pytest.raises(EOFError), worker(pay, crew, 0.01) as ending:
            ending.meet()


@pytest.mark.slow
def test_servers_tell_what_they_have_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that writes and a script that runs are counted, and the time grows."""
    monkeypatch.setenv(POSTGRES.variable, require(POSTGRES))
    monkeypatch.setenv(REDIS.variable, require(REDIS))
    with places.postgres() as postgres:
        before = postgres.use()
        asyncio.run(
            places.ask(postgres.url, "CREATE TABLE written AS SELECT generate_series(1, 10000)")
        )
        spent = postgres.use() - before
        assert spent.work >= 1
        assert spent.size > 0
        assert before.cpu > 0
    with places.redis("nobody") as redis:
        first = redis.use()
        redis.client().eval("return 1", 0)
        assert (redis.use() - first).work >= 1
        assert first.cpu > 0
        assert first.size > 0


def test_time_of_a_process_is_that_of_its_children_too() -> None:
    """It grows with what this process does, whose parent is known."""
    before, until = usage.cpu_of_family(os.getpid()), time.process_time() + 0.05
    while time.process_time() < until:
        pass

    assert usage.cpu_of_family(os.getpid()) - before >= 0.02
    assert os.getppid() == usage.parent_of(os.getpid())


def test_process_that_is_not_there_has_no_parent() -> None:
    """A server on another machine has no entry in /proc."""
    with pytest.raises(OSError, match="No such file"):
        usage.parent_of(2**30)


def test_connections_are_counted_by_their_port() -> None:
    """Those that this process opened, and no others."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert {"there": 1, "none": 0} == usage.connections({"there": port, "none": 0})
        assert {"there": 0} == usage.connections({"there": port})
    assert usage.resident() > 1
