"""The address of a Redis, as the store and the quota take it; reading one needs no redis-py."""

from __future__ import annotations

from urllib.parse import urlsplit

from wxpay_async.errors import InvalidRequestError


def checked_redis_url(url: str) -> str:
    """Return the address of a Redis as it is.

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


def shown_redis_url(url: str) -> str:
    """Return what of a checked address may be shown: no user and no password."""
    parts = urlsplit(url)
    return repr(f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}")
