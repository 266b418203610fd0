# ruff: noqa: T201 - a script that prints its figures
"""A shop that is killed while people pay: every order ends paid once, or closed.

    python -m tests.chaos.shop --orders 200 --kills 20

The shop is `examples/fastapi_shop.py` under uvicorn, with SQLite files for its orders and for its
gateway. Between it and a sandbox is the network of `proxy.py`. People order and tap "pay" until
they can pay, some twice at once, some again when their credential is old, and some never pay. At
random moments of that the shop gets `kill -9` and is started again.

Exit status 1 means that one of these is not true:

- an order of the shop is charged once if its payer confirmed, and else not at all;
- of the orders of one purchase at the platform, one was closed before the next was made;
- of one purchase nobody was ever given a credential while another one was alive;
- the shop says of each order what the platform says, and has lost none;
- whoever was told by `Retry-After` when to come back could pay then, and everybody came to an end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import socket
import sqlite3
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from email.utils import parsedate_to_datetime
from itertools import pairwise
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from attrs import define, field
from Crypto.PublicKey import RSA

from tests.chaos.proxy import Proxy, Weather
from tests.chaos.shop_process import BREAKS
from tests.chaos.timepiece import Timepiece
from tests.support.vectors import PRIVATE_KEY, ROOT
from wxpay_async.adapters.stores.sql_schema import make_tables
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.state import Purchase, Status, Trade

_WEATHER: Final = Weather(
    before=0.05, after=0.15, twice=0.02, late=0.01, refuse=0.01, decline=0, timeout=0.02, page=0.02
)
_STEP: Final = 21 * 60.0  # seconds: a credential is dead after it, and an order after two
_ROUNDS: Final = 24  # steps until somebody who still cannot pay counts as stuck
_PATIENCE: Final = 90.0  # seconds of real time in one round; a lease of a dead process lasts 45
_NOBODY: Final = 5.0  # seconds without a request, after which a kill hits nobody
_AMID: Final = 0.9  # of the kills; between two taps everybody may be at rest for seconds
_SCHEDULE: Final = (0.0, 0.1, 0.3, *[1.0] * 120)  # of callbacks
_SHOPS_WORD: Final = {Status.PAID: "paid", Status.CLOSED: "closed", Status.FAILED: "failed"}
_AGAIN: Final = frozenset({"in_progress", "in_doubt", "unavailable", "refused", "expired"})
"""Words after which people just tap again; `expired` means that the query got no answer."""
_IN_VAIN: Final = 25  # times that a person is told to come at a time that is over; queries get lost


@define(eq=False)
class Books:
    """What people were given and told.

    Attributes:
        problems: what must not be, as it was seen.
        figures: how often something happened.
        given: the credentials of each order of the shop.
    """

    problems: list[str] = field(factory=list)
    figures: Counter[str] = field(factory=Counter)
    given: defaultdict[str, dict[str, None]] = field(factory=lambda: defaultdict(dict))


@define(eq=False)
class Shop:
    """The process, which can be killed and started again on its port."""

    environment: dict[str, str]
    port: int
    log: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it listens; people who tap before that tap again."""
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "examples")]
        more = ["--port", str(self.port), "--log-level", "warning"]
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(*command, "tests.chaos.shop_process:app", *more),
                env={**os.environ, **self.environment},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(_PATIENCE):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)

    def count_sending(self) -> int:
        """Return how many operations a process has claimed and not written an answer of."""
        count = "SELECT count(*) FROM {} WHERE state = 'sending'"
        with contextlib.closing(sqlite3.connect(self.log.with_name("wxpay.db"))) as store:
            return store.execute(count.format(make_tables().operations.name)).fetchone()[0]

    async def kill(self) -> bool:
        """End it by SIGKILL; False if it had ended by itself."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        return await self.process.wait() < 0


@define(eq=False, kw_only=True)
class Street:
    """The platform, the shop, and what lies between them and the people.

    Attributes:
        in_flight: requests to the shop that are not answered.
        begun: requests to the shop.
    """

    sandbox: Sandbox
    proxy: Proxy
    shop: Shop
    timepiece: Timepiece
    session: aiohttp.ClientSession
    books: Books = field(factory=Books)
    in_flight: int = 0
    begun: int = 0
    _beginning: asyncio.Event = field(factory=asyncio.Event, init=False)

    async def next_request(self) -> None:
        """Wait until the shop is called."""
        self._beginning.clear()
        await self._beginning.wait()

    async def call(self, path: str, **content: str) -> tuple[int, dict[str, str], str | None]:
        """Call the shop; return status, content and `Retry-After`. 0 is no answer."""
        url = f"http://127.0.0.1:{self.shop.port}{path}"
        self.begun += 1
        self.in_flight += 1
        self._beginning.set()
        try:
            async with self.session.post(url, json=content or None) as reply:
                told = reply.content_type in {"application/json", "application/problem+json"}
                answer = await reply.json(content_type=None) if told else {}
                return reply.status, answer, reply.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError):
            return 0, {}, None
        finally:
            self.in_flight -= 1

    def find_trade(self, prepay_id: str) -> Trade | None:
        """Return the order that a credential is for."""
        prepay = self.sandbox.platform.prepays.get(prepay_id)
        orders = self.sandbox.platform.iter_orders()
        return next((trade for trade in orders if prepay in trade.purchase.prepays), None)

    def is_alive(self, prepay_id: str) -> bool:
        """Tell whether somebody could pay with it now."""
        trade, prepay = self.find_trade(prepay_id), self.sandbox.platform.prepays.get(prepay_id)
        in_time = prepay is not None and self.timepiece.time() < prepay.expires_at
        return in_time and trade is not None and trade.status is Status.AWAITING

    def note_credential(self, number: str, package: str) -> str:
        """Write down that a person was given it, and look at those that were given before."""
        given, prepay_id = self.books.given[number], package.removeprefix("prepay_id=")
        others = [each for each in given if each != prepay_id and self.is_alive(each)]
        if others and self.is_alive(prepay_id):
            self.books.problems.append(f"two alive: order {number} has {1 + len(others)}")
        given[prepay_id] = None
        return prepay_id

    def make_trades(self) -> dict[str, list[tuple[float, Trade]]]:
        """Return the platform's orders of each order of the shop, and when they were made."""
        trades = defaultdict(list)
        for entry in self.sandbox.platform.ledger:
            if entry.kind == "trade":
                (number,) = entry.out_trade_nos
                made = (entry.at, self.sandbox.platform.trades[number])
                trades[number.partition("-")[0]].append(made)
        return trades


@define(eq=False, kw_only=True)
class Person:
    """Somebody who buys one thing.

    Attributes:
        at_once: how many taps there are at a time.
        again: whether there is another tap once there is a credential.
        waits: whether the first credential is left to grow old.
        leaves: whether nobody ever pays.
        number: the shop's number of the order.
        confirmed: whether it was paid.
        done: whether nothing more will be done.
        in_vain: how often in a row it was told to come at a time that is over.
    """

    street: Street
    dice: random.Random
    index: int
    at_once: int
    again: bool
    waits: bool
    leaves: bool
    number: str = ""
    confirmed: bool = False
    done: bool = False
    in_vain: int = 0

    async def act(self) -> None:
        """Do what can be done at this time."""
        await asyncio.sleep(self.dice.uniform(0, 0.3))
        while not self.number:
            _, answer, _ = await self.street.call("/orders", item="tea", openid=f"o{self.index}")
            self.number = answer.get("number") or await self._pause()
        prepay_id = await self._tap_until_known()
        if prepay_id is not None and self.again:
            prepay_id = await self._tap_until_known()
        if prepay_id is None:
            return
        if self.waits:
            self.waits = False  # next time the credential is old
        elif self.leaves:
            self.done = True
        else:
            self._confirm(prepay_id)

    async def _pause(self) -> str:
        await asyncio.sleep(self.dice.uniform(0.02, 0.3))
        return ""

    async def _tap_until_known(self) -> str | None:
        """Tap until there is a credential; None if the order cannot be paid now, or is paid."""
        while True:
            taps = [self._tap() for _ in range(self.at_once)]
            for prepay_id in await asyncio.gather(*taps):
                if prepay_id != "":
                    return prepay_id
            await self._pause()

    async def _tap(self) -> str | None:
        """Tap once; "" means that one must tap again."""
        status, answer, retry_at = await self.street.call(f"/orders/{self.number}/pay")
        books, word = self.street.books, answer.get("error", "")
        books.figures[f"{status} {word}".strip()] += 1
        if status != 0 and word != "unusable":
            self.in_vain = 0
        if status == 200:
            return self.street.note_credential(self.number, answer["package"])
        if status == 0 or word in _AGAIN:
            return ""
        if word == "unusable" and retry_at is not None:
            return self._come_back(parsedate_to_datetime(retry_at).timestamp())
        if word == "already_paid" and self.confirmed:
            self.done = True
        else:
            books.problems.append(f"strange answer: {status} {answer} to order {self.number}")
        return None

    def _come_back(self, at: float) -> str | None:
        """Come back at a time, or tap again if it is over."""
        if self.street.timepiece.time() < at:
            self.in_vain = 0
            return None
        self.in_vain += 1
        if self.in_vain == _IN_VAIN:
            self.street.books.problems.append(f"told in vain when to come: order {self.number}")
        return "" if self.in_vain < _IN_VAIN else None

    def _confirm(self, prepay_id: str) -> None:
        trade = self.street.find_trade(prepay_id)
        if trade is None or not self.street.is_alive(prepay_id):
            self.street.books.figures["dead credentials"] += 1  # the person taps again
            return
        self.street.sandbox.confirm(trade.out_trade_no)
        self.confirmed = self.done = True


def _make_people(street: Street, count: int, seed: int) -> list[Person]:
    people = []
    for index in range(count):
        dice = random.Random(f"person {seed} {index}")
        people.append(
            Person(
                street=street,
                dice=dice,
                index=index,
                at_once=1 + (dice.random() < 0.3),
                again=dice.random() < 0.3,
                waits=dice.random() < 0.2,
                leaves=dice.random() < 0.1,
            )
        )
    return people


async def _kill(street: Street, dice: random.Random, after: int) -> None:
    """Kill the shop in the middle of one of the next requests, and start it again."""
    moment = street.begun + dice.randint(1, after)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            while street.begun < moment:
                await street.next_request()
        await asyncio.sleep(dice.uniform(0, 0.5))
        async with asyncio.timeout(_NOBODY):
            while not street.in_flight:
                await street.next_request()
    street.books.figures["kills amid"] += street.in_flight > 0
    street.books.figures["requests killed"] += street.in_flight
    if not await street.shop.kill():
        street.books.problems.append("the shop ended by itself")
    street.books.figures["operations killed"] += street.shop.count_sending()
    street.books.figures["kills"] += 1
    await street.shop.start()


async def _let_act(
    street: Street, people: Sequence[Person], kills: int, dice: random.Random
) -> None:
    """Let people come in groups, and kill the shop amid each of them."""
    calls = 1 if people and people[0].number else 2  # of each person at least; one is the order
    acting: list[asyncio.Task[None]] = []
    for group in range(max(kills, 1)):
        coming = people[group :: max(kills, 1)]
        acting += [asyncio.create_task(person.act()) for person in coming]
        if kills:
            await _kill(street, dice, max(calls * len(coming) - 3, 1))
    if acting:
        _, late = await asyncio.wait(acting, timeout=_PATIENCE)
        for task in late:
            task.cancel()
        for task in acting:
            if task not in late:
                task.result()
        if late:
            street.books.problems.append(f"stuck: {len(late)} people got no answer in time")


async def _live(street: Street, options: argparse.Namespace) -> list[Person]:
    """Let everybody act, and again as time passes, until nobody waits for anything."""
    dice = random.Random(f"script {options.seed}")
    people = _make_people(street, options.orders, options.seed)
    later = options.kills // 6
    await _let_act(street, people, options.kills - 2 * later, dice)
    for turn in range(_ROUNDS):
        waiting = [person for person in people if not person.done]
        if not waiting:
            break
        street.timepiece.advance(_STEP)
        await _let_act(street, waiting, min(later if turn < 2 else 0, len(waiting)), dice)
    street.books.figures["rounds"] = turn
    return people


async def _close(street: Street, people: Iterable[Person]) -> None:
    """Let all time run out; who has paid taps once more, and callbacks arrive."""
    street.timepiece.advance(2 * _STEP)
    paid = [person for person in people if person.confirmed]
    for person in paid[::5]:
        if await person._tap_until_known() is not None:
            street.books.problems.append(f"a credential for order {person.number}, which is paid")
    for trade in street.sandbox.platform.iter_orders():
        assert trade.status is not None  # reading it closes an order whose time is over
    async with asyncio.timeout(_PATIENCE):
        await street.sandbox.callbacks_idle()


def _compare(street: Street, people: Sequence[Person], rows: dict[str, str]) -> None:
    """Compare the shop's table and the platform's ledger with what people did."""
    problems, figures = street.books.problems, street.books.figures
    trades = street.make_trades()
    ledger = street.sandbox.platform.ledger
    charges = Counter(
        number.partition("-")[0]
        for entry in ledger
        if entry.kind == "charge"
        for number in entry.out_trade_nos
    )
    for person in people:
        number, times = person.number, charges[person.number]
        if times != person.confirmed:
            problems.append(f"charged {times} times: order {number}")
        if number not in rows:
            problems.append(f"lost: order {number} of the shop")
        if not person.done:
            problems.append(f"stuck: order {number} was neither paid nor given up")
    for number, status in rows.items():
        made = trades.pop(number, [])
        for (_, trade), (at, _) in pairwise(made):
            if not _ended_unpaid(trade.purchase, by=at):
                problems.append(f"two orders: {number} had another while it could be paid")
        said = _SHOPS_WORD.get(made[-1][1].status, "pending") if made else "pending"
        if said != status:
            problems.append(
                f"status: the shop says {status} of order {number}, the platform {said}"
            )
        figures[f"orders {said}"] += 1
        figures["next orders"] += max(0, len(made) - 1)
    problems += [f"unknown to the shop: order {number}" for number in trades]
    figures["credentials"] = sum(map(len, street.books.given.values()))
    figures["credentials after another"] = figures["credentials"] - len(street.books.given)
    figures["prepays"] = sum(entry.kind == "pay" for entry in ledger)
    figures["charges"] = charges.total()


def _ended_unpaid(purchase: Purchase, *, by: float) -> bool:
    ended_at = purchase.ended_at
    return purchase.status is not Status.PAID and ended_at is not None and ended_at <= by


def _missing(street: Street, options: argparse.Namespace) -> list[str]:
    """Return what never happened, though the run is there to survive it."""
    figures = street.books.figures
    missing = []
    if figures["kills amid"] < _AMID * options.kills:
        missing.append(f"a kill amid requests: {figures['kills amid']} of {options.kills}")
    if options.short:
        return missing
    wanted = ("next orders", "credentials after another", "409 unusable", "operations killed")
    missing += [name for name in wanted if not figures[name]]
    return missing + sorted(n for n in street.proxy.weather.expected if not street.proxy.seen[n])


def _read_rows(folder: Path) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(folder / "shop.db")) as db:
        return dict(db.execute("SELECT number, status FROM orders"))


async def run(options: argparse.Namespace) -> bool:
    """Let people buy, kill the shop, and compare; tell whether all is well."""
    began = time.monotonic()
    async with _opened(options) as (street, folder):
        people = await _live(street, options)
        await _close(street, people)
        await street.shop.kill()
        _compare(street, people, _read_rows(folder))
        log = street.shop.log.read_text()
    if "Traceback" in log:
        street.books.problems.append(f"the shop's log: {log[-3000:]}")
    print(f"{time.monotonic() - began:.1f} s  kills {street.books.figures.pop('kills', 0)}")
    for name, count in sorted(street.books.figures.items()):
        print(f"{name}: {count}")
    print(f"network: { {str(k): n for k, n in sorted(street.proxy.seen.items())} }")
    for problem in street.books.problems[:20]:
        print(f"RED {problem}")
    missing = _missing(street, options)
    for name in missing:
        print(f"NEVER HAPPENED {name}")
    well = not street.books.problems and not missing
    print("verdict: ok" if well else "verdict: RED")
    return well


@contextlib.asynccontextmanager
async def _opened(options: argparse.Namespace) -> AsyncIterator[tuple[Street, Path]]:
    """Set the street up, and take it down afterwards."""
    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port, folder = free.getsockname()[1], Path(name)
        free.close()
        timepiece = Timepiece(folder / "time")
        sandbox = Sandbox(
            quota=None,
            pay_key=RSA.import_key(PRIVATE_KEY.read_bytes()),
            clock=timepiece.time,
            notify_url=f"http://127.0.0.1:{port}/notify",
            callback_schedule=_SCHEDULE,
            callback_scheme="rsa",
        )
        async with sandbox, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session:
            proxy = Proxy(
                port=urlsplit(sandbox.url).port or 0,
                weather=_WEATHER,
                dice=random.Random(f"network {options.seed}"),
                seed=options.seed,
                latency=0.05,
            )
            await proxy.start()
            (folder / "platform.pem").write_text(sandbox.callback_public_key)
            (folder / "platform.pem").chmod(0o600)
            settings = {
                **sandbox.settings(),
                "WXPAY_BASE_URL": proxy.url,
                "WXPAY_STORE_URL": f"sqlite:///{folder / 'wxpay.db'}",
                "WXPAY_PLATFORM_KEY_FILE": str(folder / "platform.pem"),
                "SHOP_DB": str(folder / "shop.db"),
                "SHOP_QUOTA": "off",
                "SHOP_TIME": str(folder / "time"),
                "SHOP_BREAK": options.broken or "",
            }
            shop = Shop(settings, port, folder / "log")
            await shop.start()
            try:
                yield (
                    Street(
                        sandbox=sandbox,
                        proxy=proxy,
                        shop=shop,
                        timepiece=timepiece,
                        session=session,
                    ),
                    folder,
                )
            finally:
                await shop.kill()
                await proxy.aclose()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; the status is the verdict."""
    made = argparse.ArgumentParser(description="Kill a shop while people pay.")
    made.add_argument("--orders", type=int, default=200)
    made.add_argument("--kills", type=int, default=20)
    made.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    made.add_argument(
        "--short", action="store_true", help="too short for every fault to happen: let it pass"
    )
    made.add_argument("--break", dest="broken", choices=BREAKS, help="a mistake to make")
    options = made.parse_args(arguments)
    print(f"seed {options.seed}  broken {options.broken or 'nothing'}", flush=True)
    return int(not asyncio.run(run(options)))


if __name__ == "__main__":
    sys.exit(main())
