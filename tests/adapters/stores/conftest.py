"""Open a fresh SQLite file, as a place for stores and past them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from tests.contract.stores import Place, open_place


@pytest.fixture
async def place(tmp_path: Path) -> AsyncGenerator[Place]:
    """Open a fresh SQLite file."""
    async with open_place("sqlite", tmp_path) as opened:
        yield opened


@pytest.fixture
def raw(place: Place) -> Generator[sqlite3.Connection]:
    """Connect to the place's file past the store; each statement is a transaction."""
    connection = sqlite3.connect(place.url.removeprefix("sqlite:///"), isolation_level=None)
    yield connection
    connection.close()


@pytest.fixture(params=("sqlite", "postgres", "mariadb"))
async def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Place]:
    """Open an empty database of each kind."""
    async with open_place(request.param, tmp_path) as place:
        yield place


@pytest.fixture(params=("postgres", "mariadb"))
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Place]:
    """Open an empty database on each server."""
    async with open_place(request.param, tmp_path) as place:
        yield place
