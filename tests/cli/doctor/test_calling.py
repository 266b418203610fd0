"""The signed call, what its answer means, and the platform's clock."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from Crypto.PublicKey import RSA

from tests.support.server import Listen, Peer, Seen, hang
from tests.support.servers import find_free_port
from tests.support.vectors import PRIVATE_KEY
from wxpay_async import Lane, LocalLimiter, Quota, Unlimited
from wxpay_async.cli.doctor import calling
from wxpay_async.cli.doctor.calling import check_call
from wxpay_async.cli.doctor.findings import CONFIGURATION, REFUSED, UNREACHABLE, Finding, Status
from wxpay_async.cli.doctor.settings import read_setup
from wxpay_async.hints import CODES as CODES_OF_HINTS
from wxpay_async.protocol.error_codes import CODES
from wxpay_async.sandbox import Sandbox

KEY = RSA.import_key(PRIVATE_KEY.read_bytes())
SECRET = "canary-secret-0123456789"
NO_MERCHANTS = b'{"success":true,"data":{"merchants":[]}}'
ABOUT_A_REQUEST_ID = {code for code in CODES if code.startswith("GM_")}
"""They answer what carries a requestId."""


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Run a platform."""
    async with Sandbox(pay_key=KEY, app_secret=SECRET) as running:
        yield running


async def call(base_url: str, **variables: str) -> dict[str, Finding]:
    """Return the lines by their names; they show no secret."""
    environ = {
        "WXPAY_APP_KEY": "sandbox-app-key",
        "WXPAY_APP_SECRET": SECRET,
        "WXPAY_BASE_URL": base_url,
        **variables,
    }
    setup = read_setup(environ, environ)
    assert setup.parts is not None
    lines = await check_call(setup, setup.parts, Unlimited())
    assert SECRET not in str([line.to_json() for line in lines])
    return {line.name: line for line in lines}


async def test_call_of_a_sandbox_is_ok_and_moves_no_money(sandbox: Sandbox) -> None:
    """It is told that a sandbox answers; one call is made, and nothing is executed."""
    lines = await call(sandbox.url)
    assert (Status.OK, Status.OK) == (lines["merchants"].status, lines["clock"].status)
    assert "answered by a sandbox, so no money moves" in lines["merchants"].text
    assert {"/api/company/merchants": 1} == dict(sandbox.platform.calls)
    assert [] == list(sandbox.platform.ledger)


@pytest.mark.parametrize("code", sorted(set(CODES) - ABOUT_A_REQUEST_ID))
async def test_every_code_is_explained_with_what_to_do(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """A refusal is one of the platform; what the platform failed at is to be tried again."""
    monkeypatch.setattr(calling, "_TIMEOUT", 3.2)  # no time for a second try
    for _ in range(5):
        sandbox.platform.fail_next(code)
    line = (await call(sandbox.url))["merchants"]
    is_failure = code in {"CO_MSG_000002", "CO_MSG_000003"}
    assert Status.FAILED is line.status
    assert (UNREACHABLE if is_failure else REFUSED) == line.exit_code
    assert line.text.startswith(f"{CODES[code][1]} [{code}")
    assert line.advice.startswith("call again") is is_failure
    assert line.advice.lower() == CODES_OF_HINTS[code][1].en.lower().removesuffix(".")
    assert code == line.facts["code"]


async def test_wrong_secret_is_explained(sandbox: Sandbox) -> None:
    """The first wall that everybody hits."""
    line = (await call(sandbox.url, WXPAY_APP_SECRET="another"))["merchants"]
    assert (Status.FAILED, REFUSED) == (line.status, line.exit_code)
    assert "the signature was refused [CO_MSG_000006" in line.text
    assert "compare the appSecret" in line.advice
    assert "another" not in str(line.to_json())


async def test_public_key_that_was_not_uploaded_is_explained(sandbox: Sandbox) -> None:
    """By RSA the advice is another one."""
    environ = {"WXPAY_APP_SECRET": "", "WXPAY_PRIVATE_KEY": PRIVATE_KEY.read_text()}
    line = (await call(sandbox.url, **environ))["merchants"]
    assert "the signature was refused [CO_MSG_000006" in line.text
    assert "public key to upload is printed below" in line.advice


async def test_advice_is_in_the_language_of_the_environment(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every error's hint is."""
    monkeypatch.setenv("WXPAY_LANG", "zh")
    environ = {"WXPAY_APP_SECRET": "", "WXPAY_PRIVATE_KEY": PRIVATE_KEY.read_text()}
    line = (await call(sandbox.url, **environ))["merchants"]
    assert line.advice.startswith("与平台后台核对 appSecret")
    assert line.advice.endswith("其指纹显示在上方")


async def test_code_that_is_not_documented_is_shown_as_it_is(sandbox: Sandbox) -> None:
    """Support knows it."""
    sandbox.platform.fail_next("CO_MSG_000099")
    line = (await call(sandbox.url))["merchants"]
    assert REFUSED == line.exit_code
    assert "CO_MSG_000099" in line.text
    assert "support" in line.advice


async def test_answer_of_something_else_is_a_failure(listen: Listen) -> None:
    """A page of a proxy or of a captive portal is no envelope; a refusal by HTTP is one."""

    async def show_page(peer: Peer, _: Seen) -> bool:
        return await peer.answer(b"<html>")

    async def forbid(peer: Peer, _: Seen) -> bool:
        return await peer.answer(b"<html>", status="403 Forbidden")

    for act, code in ((show_page, UNREACHABLE), (forbid, REFUSED)):
        line = (await call((await listen(act)).url))["merchants"]
        assert (Status.FAILED, code) == (line.status, line.exit_code)
        assert ("stands between" if act is show_page else "firewall answered") in line.advice


async def test_quota_that_is_used_up_is_a_failure(sandbox: Sandbox) -> None:
    """By other processes, between the check of the quota and the call."""
    environ = {**sandbox.settings(), "WXPAY_APP_SECRET": SECRET}
    setup = read_setup(environ, environ)
    assert setup.parts is not None
    limiter = LocalLimiter(Quota(limit=1), idle=True)
    await limiter.acquire(Lane.PEOPLE, timeout=1.0)
    [line] = await check_call(setup, setup.parts, limiter)
    await limiter.aclose()
    assert (Status.FAILED, UNREACHABLE) == (line.status, line.exit_code)
    assert "wait for a minute" in line.advice
    assert {} == dict(sandbox.platform.calls)


async def test_server_that_is_gone_is_a_failure_without_a_clock() -> None:
    """It went between the check of the network and the call."""
    lines = await call(f"http://127.0.0.1:{find_free_port()}")
    assert ["merchants"] == list(lines)
    assert UNREACHABLE == lines["merchants"].exit_code


async def test_server_that_says_nothing_is_a_failure(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with the time for the call."""
    monkeypatch.setattr(calling, "_TIMEOUT", 3.2)
    lines = await call((await listen(hang)).url)
    assert UNREACHABLE == lines["merchants"].exit_code


# The clock


@pytest.mark.parametrize(
    ("offset", "status", "words"),
    [
        (0, Status.OK, "within "),
        (10, Status.OK, "within "),
        (60, Status.WARNING, "behind the platform's"),
        (-60, Status.WARNING, "ahead of the platform's"),
        (600, Status.FAILED, "10 min 0 s behind the platform's"),
        (-600, Status.FAILED, "10 min 0 s ahead of the platform's"),
    ],
)
async def test_clock_is_compared_with_the_platform_s(
    sandbox: Sandbox, offset: int, status: Status, words: str
) -> None:
    """With 5 minutes a request expires; the SDK corrects it, and the next program may not."""
    now = 1_500_000_000.75 + offset
    sandbox.platform.clock = lambda: now
    lines = await call_at(1_500_000_000.75, sandbox.url)
    assert status is lines["clock"].status
    assert words in lines["clock"].text
    assert offset == pytest.approx(lines["clock"].facts["offset"], abs=0.6)
    assert (CONFIGURATION if status is Status.FAILED else 0) == lines["clock"].exit_code
    assert Status.OK is lines["merchants"].status


async def call_at(now: float, base_url: str) -> dict[str, Finding]:
    """Make the call at a moment of this machine's clock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now)
        return await call(base_url)


@pytest.mark.parametrize("date", ["", "yesterday"])
async def test_clock_without_a_date_is_a_warning(listen: Listen, date: str) -> None:
    """There is nothing to compare it with."""

    async def act(peer: Peer, _: Seen) -> bool:
        return await peer.answer(NO_MERCHANTS, headers=(f"Date: {date}",) if date else ())

    lines = await call((await listen(act)).url)
    assert Status.WARNING is lines["clock"].status
    assert "has no Date" in lines["clock"].text
    assert "it lists no sub-merchant" in lines["merchants"].text
