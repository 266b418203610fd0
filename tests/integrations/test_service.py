"""The state of a web app's run, without a framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.contract.web_apps import Shop
from tests.support.platform import FORM
from wxpay_async import PayGateway
from wxpay_async.engine.callbacks import CallbackReceiver
from wxpay_async.integrations import service

PATIENCE = 20.0  # seconds until a stuck test fails; nothing ever asserts on it


async def test_slow_body_is_answered_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading counts towards the seconds that the platform waits."""
    monkeypatch.setattr(service, "ANSWER_WITHIN", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(PATIENCE)

    run = service.Service(Shop().gateway)
    async with asyncio.timeout(PATIENCE / 2):
        answer = await run.answer(_fail_to_make, FORM, slow(), broken=())

    assert b'{"status": 0}' == answer


def _fail_to_make(gateway: PayGateway) -> CallbackReceiver:
    raise AssertionError(gateway)
