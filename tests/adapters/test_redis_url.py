"""Check which addresses of a Redis are taken, and what is shown of them."""

from __future__ import annotations

import pytest

from wxpay_async.adapters.redis_url import check_redis_url, redact_redis_url
from wxpay_async.errors import InvalidRequestError


@pytest.mark.parametrize(
    "address", ["redis://h", "REDISS://h:6380/1", "redis://u:s3cr3t@my_host/0", "redis://[::1]:1"]
)
def test_address_of_redis_is_returned_unchanged(address: str) -> None:
    """The driver reads it as the user wrote it."""
    assert address == check_redis_url(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "redis://",
        "http://u:s3cr3t@h",
        "redis://u:s3cr3t@h:0",
        "redis://h:s3cr3t",
        "redis://h:6_3?s3cr3t",
        "redis://[]@?s3cr3t",
    ],
)
def test_other_address_is_refused(address: str) -> None:
    """The error says what is allowed and does not repeat what may be a password."""
    with pytest.raises(InvalidRequestError, match="allowed: redis://") as raised:
        check_redis_url(address)

    assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://h", "redis://h:6379"),
        ("rediss://me:s3cr3t@host/3?password=s3cr3t", "rediss://host:6379/3"),
        ("redis://:s3cr3t@h:1/0#s3cr3t", "redis://h:1/0"),
    ],
)
def test_shown_address_has_no_secret(address: str, shown: str) -> None:
    """Host, port and database; no user, password or parameter."""
    assert repr(shown) == redact_redis_url(address)
