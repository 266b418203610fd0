"""Callbacks in Django, served as people serve it: a genuine one counts once, a forged one never."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import pytest

pytest.importorskip("django")
pytest.importorskip("uvicorn")

PATIENCE: Final = 150.0  # seconds until a stuck test fails; nothing ever asserts on it
FIELDS: Final = {
    "out_trade_no": "O-1",
    "inner_trade_no": "T-1",
    "trade_status": "TRADE_SUCCESS",
    "trade_amount": "12.50",
}
Open = Callable[[], AbstractAsyncContextManager[Any]]


async def test_callback_counts_if_it_is_genuine(django_callback: Open) -> None:
    """And is acknowledged as often as it comes."""
    async with asyncio.timeout(PATIENCE), django_callback() as system:
        genuine = system.sign_callback(FIELDS)
        forged = genuine.replace(b"12.50", b"12.51")
        assert b'{"status": 0}' == await system.send_callback(forged)
        await system.wait_for_status("O-1", "pending")

        for _ in range(2):
            await system.send_until_acknowledged(genuine)
            await system.wait_for_status("O-1", "paid")


async def test_address_of_callbacks_is_for_posts_only(django_callback: Open) -> None:
    """Whoever looks at it in a browser sees nothing."""
    async with (
        asyncio.timeout(PATIENCE),
        django_callback() as system,
        system.session.get(f"{system.server.url}/notify") as reply,
    ):
        assert 405 == reply.status
