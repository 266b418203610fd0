"""Check which store an address names."""

from __future__ import annotations

import pytest

from tests.support.processes import run_python
from wxpay_async.adapters.stores.from_url import store_from_url
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.redis import RedisStore
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("memory://", MemoryStore),
        ("sqlite:///store.db", SqlStore),
        ("sqlite+aiosqlite:///store.db", SqlStore),
        ("postgresql://host/shop", SqlStore),
        ("postgresql+asyncpg://host/shop", SqlStore),
        ("mysql://host/shop", SqlStore),
        ("mysql+asyncmy://host/shop", SqlStore),
        ("mariadb+asyncmy://host/shop", SqlStore),
        ("postgresql+psycopg://host/shop", SqlStore),
        ("redis://host", RedisStore),
        ("unix:///run/redis.sock", RedisStore),
        ("redis+sentinel://host/shop", RedisStore),
        ("rediss+cluster://host", RedisStore),
        ("REDISS://host/1", RedisStore),
    ],
)
def test_scheme_picks_the_store(address: str, kind: type) -> None:
    """Every documented scheme leads to its store."""
    assert kind is type(store_from_url(address))


@pytest.mark.parametrize("address", ["", "s3cr3t", "mongodb://u:s3cr3t@host", "sqlitex:///s3cr3t"])
def test_unknown_scheme_is_refused(address: str) -> None:
    """The error lists the schemes and does not repeat what may be a password."""
    with pytest.raises(InvalidRequestError, match="memory://, sqlite://") as raised:
        store_from_url(address)

    assert "s3cr3t" not in str(raised.value)


def test_store_imports_only_its_own_library() -> None:
    """Memory needs neither SQLAlchemy nor redis-py, and SQLite needs no driver."""
    code = """
import sys
sys.modules.update({"redis": None, "aiosqlite": None, "asyncpg": None, "asyncmy": None,
                    "psycopg": None})
from wxpay_async.adapters.stores.from_url import store_from_url
store_from_url("memory://")
assert "sqlalchemy" not in sys.modules
store_from_url("sqlite:///store.db")
"""
    process = run_python(code)

    assert (0, "") == (process.returncode, process.stderr)
