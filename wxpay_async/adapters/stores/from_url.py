"""Make the store that an address names."""

from __future__ import annotations

from wxpay_async.adapters.redis_url import REDIS_SCHEMES
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.store import Store
from wxpay_async.errors import InvalidRequestError

_SQL = ("sqlite", "postgresql", "postgres", "mysql", "mariadb")


def store_from_url(url: str) -> Store:
    """Make the store that the address names. No I/O: it opens with its first call.

    Args:
        url: `memory://`, `sqlite:///file.db`, `postgresql://...`, `mysql://...`, `mariadb://...`,
            `redis://...`, or another way to a Redis (`REDIS_SCHEMES`); a driver may be named, as
            in `postgresql+psycopg://`.

    Raises:
        InvalidRequestError: the address is none of these. It is not repeated in the text, since
            it may hold a password.
        ImportError: a library is missing; it names the extra.
    """
    # Only the scheme: each library has rules of its own for what a password may contain.
    scheme = url.partition(":")[0].lower()
    if scheme == "memory":
        return MemoryStore()
    if scheme in REDIS_SCHEMES:
        from wxpay_async.adapters.stores.redis import RedisStore  # noqa: PLC0415 - an extra

        return RedisStore(url)
    if scheme.partition("+")[0] in _SQL:
        from wxpay_async.adapters.stores.sql import SqlStore  # noqa: PLC0415 - an extra

        return SqlStore(url)
    schemes = ", ".join(f"{name}://" for name in ("memory", *_SQL, *REDIS_SCHEMES))
    raise InvalidRequestError("no address of a store", field="url", allowed=schemes)
