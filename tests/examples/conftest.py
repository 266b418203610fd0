"""Run shops as processes of their own, a sandbox beside them, and customers who buy."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from attrs import define, field
from Crypto.PublicKey import RSA

from tests.support.pages import README, find_files
from tests.support.platform import encode_callback, sign_callback
from tests.support.vectors import PRIVATE_KEY, ROOT
from wxpay_async import Md5Signer, RsaSigner
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.auth import Scheme

PATIENCE: Final = 150.0  # seconds until a stuck test fails; nothing ever asserts on it
SCHEDULE: Final = (0.0, 0.05, 0.1, 0.2, 0.5, *[1.0] * 60)

Command = Callable[[int], list[str]]


def make_uvicorn_command(module: str, folder: Path, *more: str) -> Command:
    """Return the command that serves an app by uvicorn on a port."""
    return lambda port: [
        *(sys.executable, "-m", "uvicorn", "--app-dir", str(folder), f"{module}:app"),
        *("--port", str(port), "--log-level", "warning", *more),
    ]


def make_script_command(name: str) -> Command:
    """Return the command of an example that serves itself."""
    return lambda _: [sys.executable, str(ROOT / "examples" / f"{name}.py")]


@define(eq=False)
class Server:
    """The process of a shop, which can be ended and started again on the same port."""

    command: Command
    environment: Mapping[str, str]
    port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """The address of the shop."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start the process, and wait until it answers."""
        environment = {**os.environ, **self.environment, "PORT": str(self.port)}
        self.process = await asyncio.create_subprocess_exec(
            *self.command(self.port), env=environment, cwd=self.environment["SHOP_FOLDER"]
        )
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            while not await self._is_up(session):
                assert self.process.returncode is None, "the shop ended at once"
                await asyncio.sleep(0.05)

    async def _is_up(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.url}/orders/none"):
                return True
        except aiohttp.ClientError:
            return False

    async def stop(self) -> None:
        """End the process as a supervisor does."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(self.process.wait(), PATIENCE)

    async def replace_worker(self) -> None:
        """End one worker of uvicorn, and wait until another one has replaced it."""
        before = self.find_workers()
        os.kill(before[0], signal.SIGTERM)
        while True:
            if before[0] not in (now := self.find_workers()) and len(now) == len(before):
                return
            await asyncio.sleep(0.05)

    def find_workers(self) -> list[int]:
        """Return the process ids of the workers of uvicorn."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [
            int(pid)
            for pid in children.read_text().split()
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


@define(eq=False)
class System:
    """A sandbox, a shop that is registered with it, and the customers of the shop.

    Attributes:
        sandbox: the platform.
        server: the shop.
        folder: where the shop keeps its orders.
        session: the connections of the customers.
        scheme: how callbacks are signed.
        callback_key: signs them by RSA.
        numbers: the orders that were created.
    """

    sandbox: Sandbox
    server: Server
    folder: Path
    session: aiohttp.ClientSession
    scheme: Scheme
    callback_key: RSA.RsaKey
    numbers: list[str] = field(factory=list)

    async def call_shop(self, method: str, path: str, **content: str) -> dict[str, str]:
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

    async def create_order(self, openid: str) -> str:
        """Create an order and its prepay; return the order's number."""
        created = await self.call_shop("POST", "/orders", item="tea", openid=openid)
        number = created["number"]
        prepay = await self.call_shop("POST", f"/orders/{number}/pay")
        assert prepay["package"].startswith("prepay_id=")
        self.numbers.append(number)
        return number

    async def wait_for_status(self, number: str, status: str) -> None:
        """Wait until the shop reports that status."""
        while True:
            if (await self.call_shop("GET", f"/orders/{number}"))["status"] == status:
                return
            await asyncio.sleep(0.2)

    async def buy(self, openid: str) -> str:
        """Do what a customer does: order, pay, confirm on the phone, wait for the shop."""
        number = await self.create_order(openid)
        self.sandbox.confirm(number)
        await self.wait_for_status(number, "paid")
        return number

    def make_callback(self, number: str, status: str, *, age: float = 0) -> bytes:
        """Sign a callback about an order as the platform does, true or not."""
        trade = self.sandbox.platform.trades[number]
        fields = {
            "out_trade_no": number,
            "inner_trade_no": trade.trade_no,
            "trade_status": status,
            "trade_amount": str(trade.amount),
        }
        return self.sign_callback(fields, age=age)

    def sign_callback(self, fields: dict[str, str], *, age: float = 0) -> bytes:
        """Sign the fields of a callback, whatever they say."""
        rsa = self.scheme == "rsa"
        signed = sign_callback(
            fields,
            signer=RsaSigner(self.callback_key) if rsa else Md5Signer(self.sandbox.app_secret),
            at=self.sandbox.platform.clock() - age,
            app_key=self.sandbox.app_key,
            nonce=os.urandom(8).hex(),
        )
        return encode_callback(signed)

    async def send_callback(self, body: bytes) -> bytes:
        """Deliver a callback once, over a connection of its own, so that any worker may get it."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Connection": "close"}
        url = f"{self.server.url}/notify"
        async with self.session.post(url, data=body, headers=headers) as reply:
            return await reply.read()

    async def send_until_acknowledged(self, body: bytes) -> None:
        """Deliver a callback until it is acknowledged, as the platform does."""
        while True:
            try:
                if await self.send_callback(body) == b'{"status": 1}':
                    return
            except aiohttp.ClientError:
                pass  # the shop is being restarted
            await asyncio.sleep(0.1)

    def read_histories(self) -> dict[str, str]:
        """Return the statuses that each order had, as the shop wrote them down."""
        with sqlite3.connect(self.folder / "shop.db") as db:
            rows = dict(db.execute("SELECT number, history FROM orders"))
        db.close()
        return {number: rows[number].strip() for number in self.numbers}

    def read_charges(self) -> list[str]:
        """Return the orders that were charged, from the ledger of the platform."""
        ledger = self.sandbox.platform.ledger
        return [n for entry in ledger if entry.kind == "charge" for n in entry.out_trade_nos]

    async def wait_for_charges(self, count: int) -> None:
        """Wait until so many orders are charged."""
        while True:
            if len(self.read_charges()) >= count:
                return
            await asyncio.sleep(0.05)


OpenSystem = Callable[..., AbstractAsyncContextManager[System]]


@asynccontextmanager
async def open_system(
    folder: Path, command: Command, *, scheme: Scheme, store: str = "", **environment: str
) -> AsyncIterator[System]:
    """Start a sandbox, and a shop that is registered with it."""
    merchant, callback_key = RSA.import_key(PRIVATE_KEY.read_bytes()), RSA.generate(2048)
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
            settings["WXPAY_PRIVATE_KEY_FILE"] = _copy_private(PRIVATE_KEY, folder / "merchant.pem")
            settings["WXPAY_PLATFORM_KEY_FILE"] = str(folder / "platform.pem")
            (folder / "platform.pem").write_text(sandbox.callback_public_key)
        server = Server(command, settings, port)
        try:
            await server.start()
            yield System(sandbox, server, folder, session, scheme, callback_key)
        finally:
            await server.stop()


def _copy_private(source: Path, target: Path) -> str:
    target.touch(0o600)
    target.write_bytes(source.read_bytes())
    return str(target)


@pytest.fixture
def fastapi_shop(tmp_path: Path) -> OpenSystem:
    """Return a function that opens the FastAPI shop; its callbacks are signed by RSA."""

    def open_with(*more: str, **environment: str) -> AbstractAsyncContextManager[System]:
        command = make_uvicorn_command("fastapi_shop", ROOT / "examples", *more)
        return open_system(tmp_path, command, scheme="rsa", **environment)

    return open_with


@pytest.fixture
def aiohttp_shop(tmp_path: Path) -> OpenSystem:
    """Return a function that opens the aiohttp shop; its callbacks are signed by MD5."""
    command = make_script_command("aiohttp_shop")
    return functools.partial(open_system, tmp_path, command, scheme="md5")


@pytest.fixture
def readme_shop(tmp_path: Path) -> OpenSystem:
    """Return a function that opens the README's shop; the folder has all files of the README."""
    for name, text in find_files(README).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = make_uvicorn_command("callback", tmp_path)
    return functools.partial(open_system, tmp_path, command, scheme="md5")


@pytest.fixture
def open_app(tmp_path: Path) -> OpenSystem:
    """Return a function that opens an app, which the test wrote as `app.py` into its folder."""

    def open_with(*more: str, **settings: str) -> AbstractAsyncContextManager[System]:
        command = make_uvicorn_command("app", tmp_path, *more)
        return open_system(tmp_path, command, scheme="rsa", **settings)

    return open_with


@pytest.fixture
def django_callback(tmp_path: Path) -> OpenSystem:
    """Return a function that opens the Django example; its callbacks are signed by RSA."""
    command = make_uvicorn_command("django_callback", ROOT / "examples", "--lifespan", "on")
    return functools.partial(open_system, tmp_path, command, scheme="rsa")
