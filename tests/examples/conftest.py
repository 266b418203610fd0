"""Shops as processes of their own, a sandbox beside them, and the people who buy."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import aiohttp
import pytest
from attrs import define, field
from Crypto.PublicKey import RSA

from wxpay_async import Md5Signer, RsaSigner, RsaVerifier
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.auth import Scheme

ROOT: Final = Path(__file__).parents[2]
KEYS: Final = ROOT / "tests" / "vectors" / "keys"
MERCHANT_KEY: Final = KEYS / "pkcs8.pem"
PATIENCE: Final = 150.0  # seconds until a stuck test fails; nothing ever asserts on it
SCHEDULE: Final = (0.0, 0.05, 0.1, 0.2, 0.5, *[1.0] * 60)

Command = Callable[[int], list[str]]


def uvicorn(module: str, folder: Path, *more: str) -> Command:
    """Return how to serve an app by uvicorn."""
    return lambda port: [
        *(sys.executable, "-m", "uvicorn", "--app-dir", str(folder), f"{module}:app"),
        *("--port", str(port), "--log-level", "warning", *more),
    ]


def script(name: str) -> Command:
    """Return how to run an example that serves itself."""
    return lambda _: [sys.executable, str(ROOT / "examples" / f"{name}.py")]


@define(eq=False)
class Server:
    """A shop's process, which can be ended and started again on the same port."""

    command: Command
    environment: Mapping[str, str]
    port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        environment = {**os.environ, **self.environment, "PORT": str(self.port)}
        self.process = await asyncio.create_subprocess_exec(
            *self.command(self.port), env=environment, cwd=self.environment["SHOP_FOLDER"]
        )
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            while not await self._answers(session):
                assert self.process.returncode is None, "the shop ended at once"
                await asyncio.sleep(0.05)

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.url}/orders/none"):
                return True
        except aiohttp.ClientError:
            return False

    async def stop(self) -> None:
        """End it as a supervisor does."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(self.process.wait(), PATIENCE)

    async def replace_a_worker(self) -> None:
        """End one of uvicorn's workers, and wait until another one is in its place."""
        before = self.workers()
        os.kill(before[0], signal.SIGTERM)
        while True:
            if before[0] not in (now := self.workers()) and len(now) == len(before):
                return
            await asyncio.sleep(0.05)

    def workers(self) -> list[int]:
        """Return the process ids of uvicorn's workers."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [
            int(pid)
            for pid in children.read_text().split()
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


@define(eq=False)
class Town:
    """A sandbox, a shop that is registered with it, and the people.

    Attributes:
        sandbox: the platform.
        server: the shop.
        folder: where the shop keeps its orders.
        session: the phones.
        scheme: in which callbacks are signed.
    """

    sandbox: Sandbox
    server: Server
    folder: Path
    session: aiohttp.ClientSession
    scheme: Scheme
    callback_key: RSA.RsaKey
    numbers: list[str] = field(factory=list)

    async def tap(self, method: str, path: str, **content: str) -> dict[str, str]:
        """Call the shop, and again while it is being restarted."""
        while True:
            try:
                async with self.session.request(
                    method, self.server.url + path, json=content or None
                ) as reply:
                    if reply.status == 200:
                        answer: dict[str, str] = await reply.json()
                        return answer
                    assert reply.status in {409, 502, 503, 504}, await reply.text()
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)

    async def order(self, openid: str) -> str:
        """Create an order and its prepay; return the order's number."""
        created = await self.tap("POST", "/orders", item="tea", openid=openid)
        number = created["number"]
        prepay = await self.tap("POST", f"/orders/{number}/pay")
        assert prepay["package"].startswith("prepay_id=")
        self.numbers.append(number)
        return number

    async def becomes(self, number: str, status: str) -> None:
        """Wait until the shop knows."""
        while True:
            if (await self.tap("GET", f"/orders/{number}"))["status"] == status:
                return
            await asyncio.sleep(0.2)

    async def buy(self, openid: str) -> str:
        """Be a person: order, pay, confirm on the phone, look at the order."""
        number = await self.order(openid)
        self.sandbox.confirm(number)
        await self.becomes(number, "paid")
        return number

    def body(self, number: str, status: str, *, age: float = 0) -> bytes:
        """Sign a callback about an order as the platform does, true or not."""
        trade = self.sandbox.platform.trades[number]
        fields = {
            "out_trade_no": number,
            "inner_trade_no": trade.trade_no,
            "trade_status": status,
            "trade_amount": str(trade.amount),
        }
        return self.sign(fields, age=age)

    def sign(self, fields: dict[str, str], *, age: float = 0) -> bytes:
        """Sign whatever is said."""
        rsa = self.scheme == "rsa"
        full = {
            **fields,
            "appKey": self.sandbox.app_key,
            "nonce": os.urandom(8).hex(),
            "timestamp": str(round((self.sandbox.platform.clock() - age) * 1000)),
            **({"signType": "RSA"} if rsa else {}),
        }
        signer = RsaSigner(self.callback_key) if rsa else Md5Signer(self.sandbox.app_secret)
        message = "&".join(f"{name}={full[name]}" for name in sorted(full))
        return urlencode({**full, "sign": signer.sign(message.encode())}).encode()

    async def notify(self, body: bytes) -> bytes:
        """Deliver a callback once, over a connection of its own, so that any worker may get it."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Connection": "close"}
        url = f"{self.server.url}/notify"
        async with self.session.post(url, data=body, headers=headers) as reply:
            return await reply.read()

    async def insist(self, body: bytes) -> None:
        """Deliver a callback until it is acknowledged, as the platform does."""
        while True:
            try:
                if await self.notify(body) == b'{"status": 1}':
                    return
            except aiohttp.ClientError:
                pass  # the shop is being restarted
            await asyncio.sleep(0.1)

    def histories(self) -> dict[str, str]:
        """Return the statuses that each order went through, by the shop's own books."""
        with sqlite3.connect(self.folder / "shop.db") as db:
            rows = dict(db.execute("SELECT number, history FROM orders"))
        db.close()
        return {number: rows[number].strip() for number in self.numbers}

    def charges(self) -> list[str]:
        """Return the orders that were charged, by the platform's books."""
        ledger = self.sandbox.platform.ledger
        return [n for entry in ledger if entry.kind == "charge" for n in entry.out_trade_nos]

    async def charged(self, count: int) -> None:
        """Wait until so many orders are charged."""
        while True:
            if len(self.charges()) >= count:
                return
            await asyncio.sleep(0.05)


OpenTown = Callable[..., AbstractAsyncContextManager[Town]]


@asynccontextmanager
async def town(
    folder: Path, command: Command, *, scheme: Scheme, store: str = "", **environment: str
) -> AsyncIterator[Town]:
    """Start a sandbox and a shop that know of each other."""
    merchant, callback_key = RSA.import_key(MERCHANT_KEY.read_bytes()), RSA.generate(2048)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sandbox = Sandbox(
        merchant_public_key=merchant.public_key().export_key(),
        quota=None,
        notify_url=f"http://127.0.0.1:{port}/notify",
        callback_schedule=SCHEDULE,
        callback_scheme=scheme,
        callback_key=callback_key,
    )
    async with sandbox, aiohttp.ClientSession() as session:
        settings = {
            **sandbox.settings(),
            "WXPAY_STORE_URL": store or f"sqlite:///{folder / 'wxpay.db'}",
            "SHOP_DB": str(folder / "shop.db"),
            "SHOP_FOLDER": str(folder),
            **environment,
        }
        if scheme == "rsa":
            del settings["WXPAY_APP_SECRET"]
            settings["WXPAY_PRIVATE_KEY_FILE"] = _copy(MERCHANT_KEY, folder / "merchant.pem")
            settings["WXPAY_PLATFORM_KEY_FILE"] = str(folder / "platform.pem")
            (folder / "platform.pem").write_text(sandbox.callback_public_key)
            RsaVerifier.from_file(folder / "platform.pem")
        server = Server(command, settings, port)
        try:
            await server.start()
            yield Town(sandbox, server, folder, session, scheme, callback_key)
        finally:
            await server.stop()


def _copy(source: Path, target: Path) -> str:
    target.touch(0o600)
    target.write_bytes(source.read_bytes())
    return str(target)


@pytest.fixture
def fastapi_town(tmp_path: Path) -> OpenTown:
    """Open a town with the FastAPI shop; its callbacks are signed by RSA."""

    def opened(*more: str, **environment: str) -> AbstractAsyncContextManager[Town]:
        command = uvicorn("fastapi_shop", ROOT / "examples", *more)
        return town(tmp_path, command, scheme="rsa", **environment)

    return opened


@pytest.fixture
def aiohttp_town(tmp_path: Path) -> OpenTown:
    """Open a town with the aiohttp shop; its callbacks are signed by MD5."""
    return lambda **environment: town(tmp_path, script("aiohttp_shop"), scheme="md5", **environment)


@pytest.fixture
def open_town(tmp_path: Path) -> OpenTown:
    """Open a town with an app that the test wrote as `app.py` into its folder."""

    def opened(*more: str, **settings: str) -> AbstractAsyncContextManager[Town]:
        return town(tmp_path, uvicorn("app", tmp_path, *more), scheme="rsa", **settings)

    return opened
