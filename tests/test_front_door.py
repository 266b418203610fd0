"""`import wxpay_async`: what it offers, and what it leaves for later."""

from __future__ import annotations

import pytest

import wxpay_async
from tests.support.processes import run_python


@pytest.mark.parametrize("name", wxpay_async.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Whether it was imported at once or is imported now; and `dir` shows it."""
    assert getattr(wxpay_async, name) is getattr(wxpay_async, name)
    assert name in dir(wxpay_async)


def test_another_name_is_none() -> None:
    """A typing mistake is told as Python tells it."""
    name = "PayGatway"
    with pytest.raises(AttributeError, match=r"module 'wxpay_async' has no attribute 'PayGatway'"):
        getattr(wxpay_async, name)


def test_importing_it_imports_no_event_loop() -> None:
    """A program that only signs or verifies loads no asyncio, cattrs or parts of pycryptodome."""
    code = """
import sys, wxpay_async
heavy = {"asyncio", "aiohttp", "cattrs", "cryptography", "Crypto.PublicKey", "Crypto.Cipher"}
print(sorted(heavy & set(sys.modules)))
from wxpay_async import *
print("asyncio" in sys.modules, PayGateway.__module__)
"""
    assert "[]\nTrue wxpay_async.engine.gateway\n" == run_python(code).stdout
