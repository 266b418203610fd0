"""Two uvicorn workers on one PostgreSQL store: one callback, one effect."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.services import POSTGRES, require

PATIENCE = 150.0  # seconds until a stuck test fails; nothing ever asserts on it
COPIES = 25
APP = """
import asyncio, os
from fastapi import FastAPI
from wxpay_async import Notifications, PayGateway, RsaVerifier
from wxpay_async.integrations.fastapi import gateway_lifespan, notification_router

effects = os.open("effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

async def record(notification):
    await asyncio.sleep(0.05)
    first = notification.out_trade_no == "O-1" and not os.path.exists("failed-once")
    os.write(effects, f"{os.getpid()} {notification.out_trade_no}\\n".encode())
    if first:
        os.close(os.open("failed-once", os.O_CREAT))
        raise LookupError("not yet")

platform = RsaVerifier.from_file(os.environ["WXPAY_PLATFORM_KEY_FILE"])
notifications = Notifications(platform, app_key=os.environ["WXPAY_APP_KEY"])
app = FastAPI(lifespan=gateway_lifespan(PayGateway.from_env))
app.include_router(notification_router("/notify", notifications, on_trade=record))

@app.get("/worker")
async def worker():
    return os.getpid()
"""


@pytest.fixture
async def database() -> AsyncIterator[str]:
    """Create a database for this test, and drop it afterwards."""
    server, name = require(POSTGRES), f"wxpay_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
    finally:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.close()


@pytest.mark.slow
async def test_copies_of_a_callback_at_two_workers_have_one_effect(
    open_app: Any,  # noqa: ANN401 - the conftest's OpenSystem
    tmp_path: Path,
    database: str,
) -> None:
    """Many copies of each of forty callbacks at once, and a handler that fails once."""
    (tmp_path / "app.py").write_text(APP)
    answers, lines, numbers = set[bytes](), list[list[str]](), list[str]()
    async with asyncio.timeout(PATIENCE), open_app("--workers", "2", store=database) as system:
        await wait_for_both_workers(system)
        while len({worker for worker, _ in lines}) < 2:  # the kernel may give one of them all
            numbers += (burst := [f"O-{len(numbers) + index}" for index in range(40)])
            bodies = {number: system.sign_callback(make_fields(number)) for number in burst}
            answers |= set(
                await asyncio.gather(
                    *(system.send_callback(bodies[number]) for number in burst * COPIES)
                )
            )
            for number in burst:
                await system.send_until_acknowledged(bodies[number])
            lines = [line.split() for line in (tmp_path / "effects").read_text().splitlines()]

    assert {b'{"status": 1}', b'{"status": 0}'} >= answers
    assert dict.fromkeys(numbers, 1) | {"O-1": 2} == Counter(number for _, number in lines)


async def wait_for_both_workers(system: Any) -> None:  # noqa: ANN401 - as above
    """Wait until each worker has answered: one of them may start much later than the other."""
    seen = set[bytes]()
    while len(seen) < 2:
        url, alone = f"{system.server.url}/worker", {"Connection": "close"}
        async with system.session.get(url, headers=alone) as reply:
            seen.add(await reply.read())


def make_fields(number: str) -> dict[str, str]:
    """Make the fields of a callback."""
    return {
        "out_trade_no": number,
        "inner_trade_no": f"T-{number}",
        "trade_status": "TRADE_SUCCESS",
        "trade_amount": "1.00",
    }
