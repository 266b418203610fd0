"""The fixtures that tests of several rooms share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.callbacks import Merchant, OpenMerchant
from tests.support.clock import MovedClock
from tests.support.examples import load_profile
from tests.support.merchant import OpenShop, Shop, make_shop
from tests.support.server import Listen, open_listeners
from tests.support.tasks import obey_environment
from tests.support.vectors import PRIVATE_KEY

load_profile()


def pytest_configure() -> None:
    """Make tasks begin as the environment asks."""
    obey_environment()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share the whole suite between processes; run what was picked in this one.

    There is one process more than there are CPUs, since many tests wait: two CPUs take 107 s with
    three processes, and more with two or four.
    """
    whole = set(config.args) <= {*config.getini("testpaths"), str(config.rootpath)}
    return min(8, os.cpu_count() or 1) + 1 if whole else 0


@pytest.fixture
def clock() -> MovedClock:
    """Return a clock that a test moves."""
    return MovedClock()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """Return a private key file that only its owner can read; git does not keep modes."""
    path = tmp_path / "merchant.pem"
    path.write_bytes(PRIVATE_KEY.read_bytes())
    path.chmod(0o600)
    return path


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Open servers, plain or with TLS, that treat each request as a test says."""
    async with open_listeners() as opened:
        yield opened


@pytest.fixture
async def open_shop(clock: MovedClock) -> AsyncIterator[OpenShop]:
    """Return a function that opens a gateway over the answers given; all are closed at the end."""
    shops: list[Shop] = []

    def open_(answers: Any = (), **settings: Any) -> Shop:  # noqa: ANN401 - MemoryTransport's
        shops.append(make_shop(answers, settings.pop("clock", clock), **settings))
        return shops[-1]

    yield open_
    for shop in shops:
        await shop.gateway.aclose()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert set() == left, "tasks outlive the gateways"


@pytest.fixture
def open_merchant(open_shop: OpenShop) -> OpenMerchant:
    """Return a function that makes a merchant over the answers of a platform."""

    def open_(answers: Any = (), scheme: str = "rsa", **settings: Any) -> Merchant:  # noqa: ANN401 - a shop's
        shop = open_shop(answers, **settings)
        return Merchant(shop.gateway, shop.clock, scheme)

    return open_
