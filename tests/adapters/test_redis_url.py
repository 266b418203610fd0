"""Check which addresses of a Redis are taken, and what is shown of them."""

from __future__ import annotations

import pytest

from wxpay_async.adapters.redis_url import check_redis_url, read_redis_url, redact_redis_url
from wxpay_async.errors import InvalidRequestError


@pytest.mark.parametrize(
    "address",
    [
        "redis://h",
        "REDISS://h:6380/1",
        "redis://u:s3cr3t@my_host/0",
        "redis://[::1]:1",
        "unix:///run/redis.sock?db=3",
        "redis+sentinel://h/mymaster",
        "rediss+sentinel://u:s3cr3t@a:1,[::1]:2,c/mymaster/3?ssl_ca_certs=ca.pem",
        "redis+cluster://a:1,b",
        "rediss+cluster://a/0",
    ],
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
        "redis://a:1,b:2/s3cr3t",
        "unix://",
        "unix://h/s3cr3t",
        "redis+sentinel://h:1",
        "redis+sentinel://h/mymaster/s3cr3t",
        "redis+sentinel://h/mymaster/0/s3cr3t",
        "redis+sentinel://h,/mymaster?s3cr3t",
        "redis+cluster://a/3?s3cr3t",
        "redis+other://a?s3cr3t",
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
        ("redis://:s3@cr3t@[::1]", "redis://[::1]:6379"),
        ("unix://s3cr3t@/run/redis.sock?password=s3cr3t", "unix:///run/redis.sock"),
        ("redis+sentinel://:s3cr3t@a,b:2/m/1", "redis+sentinel://a:26379,b:2/m/1"),
        ("rediss+cluster://:s3cr3t@a,b:2", "rediss+cluster://a:6379,b:2"),
    ],
)
def test_shown_address_has_no_secret(address: str, shown: str) -> None:
    """Host, port and database; no user, password or parameter."""
    assert shown == redact_redis_url(address)


def test_address_of_sentinels_names_what_they_know() -> None:
    """The hosts are the Sentinels'; login, database and options are the Redis's."""
    address = read_redis_url("rediss+sentinel://u:p%40@a,[::1]:2/my%20master/3?ssl_ca_certs=ca.pem")

    assert (("a", 26379), ("::1", 2)) == address.hosts
    assert "my master" == address.service
    assert "rediss://u:p%40@a:26379/3?ssl_ca_certs=ca.pem" == address.single
    assert address.by_sentinel
    assert "p%40" not in repr(address)


def test_address_of_a_cluster_names_some_nodes() -> None:
    """A cluster has one database."""
    address = read_redis_url("redis+cluster://:p@a:1,b/0?client_name=x")

    assert (("a", 1), ("b", 6379)) == address.hosts
    assert "redis://:p@a:1?client_name=x" == address.single
    assert address.clustered
