"""The rates of the benchmarks in a form shorter than the short one: all there, none judged."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import socket
from collections.abc import AsyncGenerator, Iterable, Iterator
from pathlib import Path

import attrs
import pytest

from benchmarks import pay, payments, peers, stores, targets
from benchmarks.figures import SHORT, Figure, Size
from benchmarks.rates import SERVER_ALONE, SERVER_LOAD, Call, Subject, concurrent, interleaved
from benchmarks.server import PAY_PATH, PAY_REPLY, CannedServer, Reply, canned_server
from tests.benchmarks.figures import is_installed, make_figure

# stripe hands its form to httpx in a way that httpx deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

SHORTER = attrs.evolve(SHORT, seconds=0.01)
NEEDED = {
    "OpenSSL": ("cryptography",),
    "raw httpx": ("httpx",),
    "reqwest": ("pyreqwest",),
    "stripe with aiohttp": ("stripe",),
    "stripe with httpx": ("stripe", "httpx"),
    "uvloop": ("uvloop",),
    "wechatpayv3": ("wechatpayv3", "httpx", "aiofiles"),
}
"""The packages without which something is left out."""
OURS = f"{SHORTER.in_flight} in flight"


@pytest.fixture(scope="module")
def server() -> Iterator[CannedServer]:
    """Run one canned server for all tests that ask it directly."""
    with canned_server({"/else": Reply(body=b"{}", headers={"X-Else": "yes"})}) as running:
        yield running


@attrs.frozen
class Measured:
    """What the three sections came to.

    Attributes:
        figures: by section.
        told: on standard error.
    """

    figures: dict[str, list[Figure]]
    told: str


@pytest.fixture(scope="module")
def measured() -> Measured:
    """Run each section once."""
    sections = {"pay": pay, "stores": stores, "peers": peers}
    with contextlib.redirect_stderr(io.StringIO()) as told:
        figures = {name: [*section.run(SHORTER)] for name, section in sections.items()}
    return Measured(figures, told.getvalue())


def complete(figures: Iterable[Figure], section: str) -> set[str]:
    """Return the names of rates; each must have its section, its unit and one sample."""
    names: list[str] = []
    for figure in figures:
        assert section == figure.section
        assert ("%" if figure.name.startswith(SERVER_LOAD) else "/s") == figure.unit
        assert len(figure.samples) == 1
        assert figure.low > 0, figure
        names.append(figure.name)
    assert len(set(names)) == len(names)
    loads = {name for name in names if name.startswith(SERVER_LOAD)}
    assert len(loads) == 1
    return {*names} - loads


@pytest.mark.slow
def test_pay_has_a_rate_for_each_scheme_transport_and_loop(measured: Measured) -> None:
    """Every scheme, transport and loop has its rate, beside the transport, the floor and its parts.

    aiohttp on asyncio, which is always installed, is taken at all levels.
    """
    schemes, ways = (
        [*payments.signers()],
        [*itertools.product(payments.transports(), payments.loops())],
    )
    expected = {SERVER_ALONE, *(f"signature alone, {scheme}" for scheme in schemes)}
    for transport, loop in ways:
        compared = f"{transport}, {loop}, {OURS}"
        expected.add(f"transport alone, {compared}")
        kinds = ("the least", "floor", "floor by arithmetic")
        for kind, scheme in itertools.product(kinds, schemes):
            expected.add(f"{kind}, {scheme}, {compared}")
        expected |= {f"pay, {scheme}, {compared}" for scheme in payments.schemes()}
        if (transport, loop) in {("aiohttp", "asyncio"), ("reqwest", "uvloop")}:
            for level in (1, 32):
                way = f"{transport}, {loop}, {level} in flight"
                expected |= {
                    f"transport alone, {way}",
                    *(f"pay, {s}, {way}" for s in payments.schemes()),
                }

    assert ("aiohttp", "asyncio") in ways
    assert {"MD5", "RSA by pycryptodome"} <= {*schemes}
    assert expected == complete(measured.figures["pay"], "pay")


def test_floor_by_arithmetic_adds_the_times_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing 100 and sending 300 a second, one after the other, makes 75 a second."""
    monkeypatch.setattr(payments, "transports", lambda: {"aiohttp": lambda _: None})
    monkeypatch.setattr(payments, "loops", lambda: {"asyncio": asyncio.new_event_loop})
    [way] = payments.ways([("aiohttp", "asyncio", 64), ("httpx", "asyncio", 64)])
    figures = {
        "signature alone, MD5": make_figure("", 100.0, 10.0),
        "transport alone, aiohttp, asyncio, 64 in flight": make_figure("", 300.0, 10.0),
    }

    floor = pay._arithmetic(figures, "MD5", way)

    assert "floor by arithmetic, MD5, aiohttp, asyncio, 64 in flight" == floor.name
    assert (75.0, 5.0) == pytest.approx(floor.samples)


@pytest.mark.slow
def test_store_that_answers_has_a_rate_and_others_are_left_out(measured: Measured) -> None:
    """Every store has its rate or is left out by name; memory and SQLite are always there."""
    names = complete(measured.figures["stores"], "stores")

    servers = ("PostgreSQL", "MariaDB", "Redis")
    for store in ("no store", "memory", "memory, quota on", "SQLite", *servers):
        for level in (OURS, "1 in flight"):
            found = f"pay, {store}, aiohttp, asyncio, {level}" in names
            assert found != (f"left out: {store} (" in measured.told), store
    assert "left out: SQLite" not in measured.told
    floors = {f"commits of one row, SQLite, {clients} clients" for clients in (1, 8, 64)}
    assert {*floors, "500 operations in one read, SQLite"} <= names
    assert {SERVER_ALONE, "a block of 4 KB with fsync"} <= names


def test_stores_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files are gone, and a server that does not answer is left out with its reason."""
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    monkeypatch.setenv(
        "WXPAY_TEST_POSTGRES_URL", f"postgresql://postgres@127.0.0.1:{port}/postgres"
    )
    monkeypatch.setenv("WXPAY_TEST_MYSQL_URL", f"mysql://root@127.0.0.1:{port}/test")
    monkeypatch.setenv("WXPAY_TEST_REDIS_URL", f"redis://127.0.0.1:{port}/0")

    with contextlib.ExitStack() as stack:
        parts = dict(stores._parts(stack))
        assert 1 == len([*tmp_path.iterdir()])

    assert {"no store", "memory", "memory, quota on", "SQLite"} == {*parts}
    assert [] == [*tmp_path.iterdir()]
    reasons = capsys.readouterr().err
    assert "left out: PostgreSQL ([Errno" in reasons
    assert "left out: MariaDB ([Errno" in reasons
    assert "left out: Redis ([Errno" in reasons


@pytest.mark.slow
def test_peer_that_is_installed_has_a_rate_on_every_loop(measured: Measured) -> None:
    """Every client that is installed has its rate on every loop, and so have we."""
    clients = ("wechatpayv3", "stripe with httpx", "stripe with aiohttp", "raw httpx")
    theirs = ["raw aiohttp", *(name for name in clients if is_installed(*NEEDED[name]))]
    carriers = {"aiohttp", "reqwest"} & {*payments.transports()}
    parts = [f"pay, {scheme}" for scheme in payments.schemes()]
    parts += [f"floor, {scheme}" for scheme in payments.signers()]
    ours = [f"{part}, {transport}" for part, transport in itertools.product(parts, carriers)]
    subjects = itertools.product([*ours, *theirs], payments.loops())
    expected = {SERVER_ALONE, *(f"{name}, {loop}, {OURS}" for name, loop in subjects)}

    assert expected == complete(measured.figures["peers"], "peers")


# How it is measured


async def test_server_answers_by_path(server: CannedServer) -> None:
    """Requests may come in one piece, or one in several; what is unknown is not found."""
    first = f"POST {PAY_PATH} HTTP/1.1\r\ncontent-length: 3\r\n\r\na b".encode()
    second = b"POST /else HTTP/1.1\r\nContent-Length: 2\r\n\r\nxy"
    before = server.counters()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

    writer.write(first + second + first[:20])
    answers = [await answer(reader), await answer(reader)]
    writer.write(first[20:-1])
    await writer.drain()
    writer.write(first[-1:] + b"GET /nothing HTTP/1.1\r\n\r\n")
    answers += [await answer(reader), await answer(reader)]
    writer.close()
    await writer.wait_closed()

    statuses, headers, bodies = zip(*answers, strict=True)
    assert ("200 OK", "200 OK", "200 OK", "404 Not Found") == statuses
    assert (PAY_REPLY, b"{}", PAY_REPLY, b"") == bodies
    assert "X-Else: yes" in headers[1]
    after = server.counters()
    assert 3 == after.requests - before.requests
    assert after.cpu > before.cpu


async def answer(reader: asyncio.StreamReader) -> tuple[str, list[str], bytes]:
    """Read one answer: status, headers, body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *headers = head.strip().split("\r\n")
    [length] = [line.split(": ")[1] for line in headers if line.startswith("Content-Length")]
    return status.partition(" ")[2], headers, await reader.readexactly(int(length))


def test_server_ends_with_its_block() -> None:
    """Nobody listens any more, even when the block fails."""
    with contextlib.suppress(ZeroDivisionError), canned_server() as server:
        assert 0 == server.counters().requests
        _ = 1 / 0

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port)).close()


def test_so_many_calls_are_in_flight() -> None:
    """From the first call to the last, three of them are open at once, in a loop of their own."""
    open_calls: list[int] = [0]
    most: set[int] = set()

    async def call() -> None:
        open_calls[0] += 1
        await asyncio.sleep(0.001)
        most.add(open_calls[0])
        open_calls[0] -= 1

    @contextlib.asynccontextmanager
    async def opening() -> AsyncGenerator[Call]:
        yield call

    subject = concurrent("three", opening, in_flight=3, make_loop=asyncio.new_event_loop)

    assert 0 < subject.rate(0.02) <= 3 / 0.001
    assert 3 == max(most)


def test_rounds_of_all_subjects_alternate(server: CannedServer) -> None:
    """Every round takes all subjects, every other one backwards; the samples stay in order."""
    taken: list[str] = []

    def rate(name: str, seconds: float, *, asks: bool) -> float:
        if asks:
            server.capacity(b"", seconds)
        taken.append(name)
        return len(taken)

    subjects = [
        Subject(name="a", rate=lambda seconds: rate("a", seconds, asks=False)),
        Subject(name="b", rate=lambda seconds: rate("b", seconds, asks=True)),
    ]
    size = Size(rounds=3, seconds=0.01, requests=1)

    measured = [*interleaved("any", subjects, size=size, server=server, body=b"")]

    assert ["a", "b", "b", "a", "a", "b"] == taken
    rates = {figure.name: figure.samples for figure in measured}
    assert (1.0, 4.0, 5.0) == rates["a"]
    assert (2.0, 3.0, 6.0) == rates["b"]
    assert 3 == len(rates[SERVER_ALONE])
    assert f"{SERVER_LOAD}b" == measured[-1].name  # a is faster, but asks nothing
    assert measured[-1].low > 0


def test_what_is_missing_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """It is told by name and reason, and the others stay."""

    def missing() -> int:
        raise ImportError("install it")

    assert {"one": 1} == payments.installed([("one", lambda: 1), ("two", missing)])
    assert "left out: two (install it)\n" == capsys.readouterr().err


# Targets


@pytest.mark.slow
def test_targets_find_their_figures(measured: Measured) -> None:
    """A target is left out only where something that it names is not installed or not measured."""
    others = {
        "lag of the event loop",
        "1,000,000 requests",
        "a full table",
        "what forgetting adds",
        "the first open operation",
        "import wxpay_async",
        "instructions of one pay",
        "that the collector watches",
        "a full collection",
    }
    absent = {name for name, packages in NEEDED.items() if not is_installed(*packages)} | others
    silent = [s for s in ("PostgreSQL", "MariaDB", "Redis") if f"left out: {s} (" in measured.told]
    absent |= {form.format(store) for store in silent for form in ("with {},", "({})")}
    at_full_size = [
        attrs.evolve(figure, name=figure.name.replace(OURS, "64 in flight"))
        for figures in measured.figures.values()
        for figure in figures
    ]

    results = list(targets.results(at_full_size))

    found = {result.target.name for result in results}
    names = {target.name for target in targets.TARGETS}
    assert {name for name in names if any(word in name for word in absent)} == names - found
    assert "pay by MD5, to its transport alone (aiohttp, asyncio)" in found
    compared = {result.target.name for result in results if result.less is not None}
    alone = ("to the least", "added", "process", "to the memory")  # nothing does less
    ours = {name for name in found if name.startswith("pay by")}
    assert compared == {n for n in ours if not any(word in n for word in alone)}
