"""Check and redact the address of a Redis, for the store and for the quota; needs no redis-py."""

from __future__ import annotations

# redis-py reads an address with `urllib.parse`, so the check does, too. yarl reads some addresses
# differently: it takes the port `6_3` for 63, and raises an IndexError for `redis://[]@`.
from urllib.parse import urlsplit

from wxpay_async.errors import InvalidRequestError


def check_redis_url(url: str) -> str:
    """Return the address of a Redis unchanged.

    Raises:
        InvalidRequestError: it is none. It is not repeated, since it may hold a password.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise InvalidRequestError(
            "no address of a Redis", field="url", allowed="redis://host:port/0 or rediss://..."
        )
    return url


def redact_redis_url(url: str) -> str:
    """Return a checked address without user, password and parameters."""
    parts = urlsplit(url)
    return repr(f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}")
