"""Check what the address of a Redis, or a client that is handed in, may say."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from tests.support.redis_places import open_echo
from tests.support.services import REDIS, require
from wxpay_async.adapters.redis_clients import (
    check_options,
)
from wxpay_async.errors import InvalidRequestError


@pytest.mark.parametrize("protocol", [2, 3])
async def test_settings_are_texts_in_every_version_of_the_protocol(protocol: int) -> None:
    """Some give bytes."""
    async with Redis.from_url(require(REDIS), protocol=protocol) as client:
        [settings] = await open_echo(client).read_settings("maxmemory", "maxmemory-policy")

    assert {"maxmemory", "maxmemory-policy"} == set(settings)
    assert all(isinstance(value, str) for value in settings.values())


@pytest.mark.parametrize(
    "url",
    [
        "redis://h?s3cr3t=1",
        "redis://h?socket_timeout=s3cr3t",
        "rediss://h?ssl_cert_reqs=s3cr3t",
        "redis+cluster://h?s3cr3t=1",
        "redis+sentinel://h/m?s3cr3t=1",
    ],
)
def test_option_that_redis_py_does_not_know_is_refused(url: str) -> None:
    """When the store is made, and not with the first payment; it is not repeated."""
    with pytest.raises(InvalidRequestError, match="option") as raised:
        check_options(url)

    assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h/1?socket_timeout=3&client_name=x&max_connections=5&timeout=3",
        "rediss://h?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none",
        "unix:///s?db=3",
        "redis+cluster://a,b?client_name=x",
        "rediss+sentinel://a/m/1?sentinel_username=u&sentinel_password=p&ssl_ca_certs=/ca.pem",
    ],
)
async def test_options_that_redis_py_knows_are_taken(url: str) -> None:
    """A link is made with them, which does no I/O."""
    check_options(url)
    await open_echo(url).aclose()


async def test_nobody_decodes_what_is_read() -> None:
    """Not even if the address asks for it."""
    link = open_echo(f"{require(REDIS)}?decode_responses=True")

    assert b"x" == await link.call(("ECHO", "x"))
    await link.aclose()
