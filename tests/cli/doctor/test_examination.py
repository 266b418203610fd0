"""The order of the checks, and what is not done where something failed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from Crypto.PublicKey import RSA

from tests.support.redis_places import private_redis
from tests.support.servers import find_free_port
from tests.support.vectors import PRIVATE_KEY
from wxpay_async.cli.doctor import examination
from wxpay_async.cli.doctor.examination import examine
from wxpay_async.cli.doctor.findings import Area, Finding, Status
from wxpay_async.sandbox import Sandbox

KEY = RSA.import_key(PRIVATE_KEY.read_bytes())


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Run a platform."""
    async with Sandbox(pay_key=KEY) as running:
        yield running


async def look(environ: dict[str, str]) -> list[Finding]:
    """Return all lines; those of an area come together."""
    areas = [lines async for lines in examine(environ, environ)]
    assert list(Area) == [lines[0].area for lines in areas]
    assert all(1 == len({line.area for line in lines}) for lines in areas)
    return [line for lines in areas for line in lines]


def find(lines: list[Finding], area: Area) -> Finding:
    """Return the first line of an area."""
    return next(line for line in lines if line.area is area)


async def test_everything_right_has_no_failure_and_one_call(sandbox: Sandbox) -> None:
    """The call goes out once, and is counted by the shared quota."""
    with private_redis() as url:
        lines = await look({**sandbox.settings(), "WXPAY_QUOTA_URL": url})
    assert Status.FAILED not in {line.status for line in lines}
    assert Status.OK is find(lines, Area.CALL).status
    assert 1 == sum(sandbox.platform.calls.values())


@pytest.mark.parametrize(
    "broken",
    [
        {"WXPAY_APP_KEY": ""},
        {"WXPAY_APP_SECRET": ""},
        {"WXPAY_SEAL_KEY": "x"},
        {"WXPAY_PROXY": "x"},
        {"WXPAY_PROXY": "http://127.0.0.1:{port}"},
        {"WXPAY_QUOTA_URL": "redis://127.0.0.1:{port}"},
        {"WXPAY_QUOTA_URL": "x"},
    ],
)
async def test_call_is_not_made_where_something_before_it_failed(
    sandbox: Sandbox, broken: dict[str, str]
) -> None:
    """Not without a slot of the quota, and not without all settings. It says so."""
    port = str(find_free_port())
    more = {name: value.replace("{port}", port) for name, value in broken.items()}
    lines = await look({**sandbox.settings(), **more})
    assert Status.FAILED in {line.status for line in lines}
    for area in (Area.CALL, Area.CLOCK):
        assert (Status.WARNING, "not checked") == (find(lines, area).status, find(lines, area).text)
    assert {} == dict(sandbox.platform.calls)


async def test_call_is_made_where_the_store_failed(sandbox: Sandbox) -> None:
    """It needs none, and shows whether the rest is right."""
    lines = await look({**sandbox.settings(), "WXPAY_STORE_URL": "x"})
    assert Status.FAILED is find(lines, Area.STORE).status
    assert Status.OK is find(lines, Area.CALL).status


async def test_sandbox_settings_never_meet_the_platform(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the network nor the call is tried."""

    def refuse(*_: object) -> None:
        raise AssertionError("it was tried")

    monkeypatch.setattr(examination, "check_network", refuse)
    monkeypatch.setattr(examination, "check_call", refuse)
    lines = await look({**sandbox.settings(), "WXPAY_BASE_URL": ""})
    assert "sandbox" in {line.name for line in lines if line.status is Status.FAILED}
    for area in (Area.NETWORK, Area.CALL, Area.CLOCK):
        assert "not checked" == find(lines, area).text
