"""What the tests of the console share."""

import re
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from wxpay_async.sandbox import Sandbox

Fetch = Callable[..., Awaitable[str]]
Act = Callable[..., Awaitable[tuple[int, dict[str, object]]]]


@pytest.fixture
def fetch(session: aiohttp.ClientSession, sandbox: Sandbox) -> Fetch:
    """Fetch a page as text."""

    async def get(path: str, *, status: int = 200, **headers: str) -> str:
        async with session.get(sandbox.url + path, headers=headers) as answer:
            assert status == answer.status
            return await answer.text()

    return get


@pytest.fixture
def act(session: aiohttp.ClientSession, sandbox: Sandbox, fetch: Fetch) -> Act:
    """Do what a button does; returns status and JSON."""

    async def post(**params: str) -> tuple[int, dict[str, object]]:
        if "token" not in params:
            params["token"] = find_token(await fetch("/"))
        headers = {"Accept": "application/json"}
        data = {"app": sandbox.app_key, **params}
        async with session.post(sandbox.url + "/console/act", data=data, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    return post


def find_token(html: str) -> str:
    """Return the token of the forms of a page."""
    found = re.search(r'name="token" value="([0-9a-f]{32})"', html)
    assert found
    return found[1]
