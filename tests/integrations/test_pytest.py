"""The pytest plugin, in projects of its own: no conftest, and whatever runs asynchronous tests."""

from __future__ import annotations

import shutil
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from tests.support.processes import run_python
from tests.support.vectors import PRIVATE_KEY

ROOT = Path(__file__).parents[2]
PLUGIN = "wxpay_async.integrations.pytest"

pytest_plugins = ["pytester"]

SHOP = """
import asyncio
import socket

import pytest
import wxpay_async as wx

OPENID = "oPayer-0123456789"
URLS = []


def make_trade(number="O-1"):
    item = wx.TradeItem(
        out_trade_no=number, subject="tea", price="1.00", quantity=1, total_amount="1.00",
        payee_identity="1000",
    )
    method = wx.PayMethod(pay_product_code="67", amount="1.00", app_id="wx1", open_id=OPENID)
    return wx.InstantTrade(
        request_id=f"trade-{number}", trade_info=[item], payer_ip="127.0.0.1", pay_method=method,
        timeout_express="30m",
    )


async def buy(gateway, sandbox):
    prepay = await gateway.checkout(make_trade(), openid=OPENID, app_id="wx1")
    prepay.verify_pay_sign(sandbox.pay_public_key)
    sandbox.confirm("O-1")
    return (await gateway.query(out_trade_no="O-1")).state
"""

SYNCHRONOUS = f"""{SHOP}
@pytest.mark.parametrize("again", [1, 2])
def test_each_test_has_its_own_platform(wxpay_gateway, wxpay_sandbox, again):
    assert asyncio.run(buy(wxpay_gateway, wxpay_sandbox)) == "paid"
    assert len(wxpay_sandbox.platform.trades) == 1
    assert wxpay_sandbox.platform.apps[wxpay_gateway.app_key].quota is None
    URLS.append(wxpay_sandbox.url)


def test_platform_of_the_last_test_is_gone():
    port = int(URLS[-1].rpartition(":")[2])
    with socket.socket() as line, pytest.raises(ConnectionRefusedError):
        line.connect(("127.0.0.1", port))


def test_clock_moves_both(wxpay_gateway, wxpay_sandbox, wxpay_clock):
    asyncio.run(wxpay_gateway.checkout(make_trade(), openid=OPENID, app_id="wx1"))
    wxpay_clock.move(1800)
    assert asyncio.run(wxpay_gateway.query(out_trade_no="O-1")).state == "closed"


def test_gateway_sleeps_by_the_clock(wxpay_gateway, wxpay_sandbox, wxpay_clock):
    async def wait():
        await wxpay_gateway.checkout(make_trade(), openid=OPENID, app_id="wx1")
        waiting = asyncio.create_task(wxpay_gateway.wait_paid(out_trade_no="O-1", timeout=3600))
        while wxpay_sandbox.platform.calls["/api/instant/query"] < 1:
            await asyncio.sleep(0.01)
        wxpay_sandbox.confirm("O-1")
        while not waiting.done():
            wxpay_clock.move(1)
            await asyncio.sleep(0.01)
        return (await waiting).state

    assert asyncio.run(wait()) == "paid"


def test_callbacks_need_no_server(wxpay_callbacks):
    genuine = wxpay_callbacks.payment("O-1")
    forged = wxpay_callbacks.payment("O-1", forgery="signature")
    notifications = wxpay_callbacks.notifications
    assert notifications.parse(genuine.headers, genuine.body).authentic
    with pytest.raises(wx.NotificationError):
        notifications.parse(forged.headers, forged.body)


def test_sandbox_has_a_public_key(wxpay_sandbox, wxpay_callbacks):
    verifier = wx.RsaVerifier.from_pem(wxpay_sandbox.callback_public_key)
    genuine = wxpay_callbacks.payment("O-1")
    read = wx.Notifications(verifier, app_key=wxpay_sandbox.app_key)
    assert read.parse(genuine.headers, genuine.body).authentic
"""

ASYNCHRONOUS = """
{shop}
MARK = pytest.mark.{runner}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@MARK
@pytest.mark.parametrize("again", [1, 2])
async def test_payment(wxpay_gateway, wxpay_sandbox, again):
    assert await buy(wxpay_gateway, wxpay_sandbox) == "paid"


@MARK
async def test_open_gateway(wxpay_gateway, wxpay_sandbox):
    async with wxpay_gateway:
        assert await buy(wxpay_gateway, wxpay_sandbox) == "paid"


@MARK
async def test_recovery_sleeps_by_the_clock(wxpay_gateway, wxpay_clock):
    async with wxpay_gateway:
        wxpay_clock.move(3600)
        await asyncio.sleep(0.05)


def test_synchronous_test_beside_it(wxpay_gateway, wxpay_sandbox):
    assert asyncio.run(buy(wxpay_gateway, wxpay_sandbox)) == "paid"
"""


class Run:
    """Runs pytest in a project that has nothing but the files that a test makes."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        self.kept = pytester.path / ".pytest_cache" / "d" / "wxpay" / "platform.pem"
        self.kept.parent.mkdir(parents=True)
        shutil.copy(PRIVATE_KEY, self.kept)  # making one takes seconds

    def __call__(self, *options: str) -> pytest.RunResult:
        """Run it with this plugin and the options given."""
        return self._pytester.runpytest_subprocess("-W", "error", "-p", PLUGIN, *options)


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs pytest with this plugin and those named, and no others."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return Run(pytester)


def test_fresh_project_needs_nothing_but_the_plugin(pytester: pytest.Pytester, run: Run) -> None:
    """It pays, queries, reads callbacks and moves the clock, without a conftest or a warning."""
    pytester.makepyfile(SYNCHRONOUS)

    run().assert_outcomes(passed=7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runner", "options"),
    [
        ("asyncio", ["-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=strict"]),
        ("asyncio", ["-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto"]),
        (
            "asyncio(loop_scope='module')",
            ["-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=strict"],
        ),
        ("anyio", ["-p", "anyio.pytest_plugin"]),
        ("anyio", ["-p", "anyio.pytest_plugin", "-p", "pytest_asyncio.plugin"]),
    ],
    ids=["pytest-asyncio, strict", "pytest-asyncio, auto", "one loop", "anyio", "both"],
)
def test_asynchronous_tests_run_under(
    runner: str, options: list[str], pytester: pytest.Pytester, run: Run
) -> None:
    """Any of them: the fixtures are no coroutines."""
    if "pytest_asyncio.plugin" in options:
        options = [*options, "-o", "asyncio_default_fixture_loop_scope=function"]
    pytester.makepyfile(ASYNCHRONOUS.format(shop=SHOP, runner=runner))

    run(*options).assert_outcomes(passed=5)


def test_project_that_does_not_use_it_is_left_alone(pytester: pytest.Pytester, run: Run) -> None:
    """Its own fixtures of other names, its own options; nothing of the SDK is imported."""
    pytester.makepyfile(
        """
        import sys, pytest

        @pytest.fixture
        def clock():
            return "mine"

        def test_nothing(clock):
            assert clock == "mine"
            heavy = {"aiohttp", "attrs", "cattrs", "Crypto", "wxpay_async.errors"}
            assert not heavy & set(sys.modules)
        """
    )

    run("--strict-markers", "--strict-config").assert_outcomes(passed=1)


def test_fixtures_are_listed_with_what_they_are(run: Run) -> None:
    """By `pytest --fixtures`."""
    listed = run("--fixtures").stdout.str()

    for name in ("sandbox", "gateway", "gateway_options", "callbacks", "clock"):
        assert f"\nwxpay_{name} -- " in listed
    assert "no docstring" not in listed.partition("\nwxpay_")[2].partition("----")[0]


def test_plugin_imports_next_to_nothing() -> None:
    """Pytest loads it at every start, of every project of the environment."""
    found = run_python(
        "import sys, pytest, asyncio; before = set(sys.modules)\n"
        f"import {PLUGIN}\n"
        "print(*sorted(set(sys.modules) - before))"
    )

    names = ("wxpay_async", "wxpay_async.integrations", PLUGIN, "wxpay_async.version")
    assert f"{' '.join(names)}\n" == found.stdout


def test_entry_point_is_declared() -> None:
    """Under the name that `-p no:wxpay` takes; and the extra brings pytest, and nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    module = project["entry-points"]["pytest11"]["wxpay"]
    assert (PLUGIN, True) == (module, hasattr(import_module(module), "wxpay_sandbox"))
    assert ["pytest>=8.4"] == project["optional-dependencies"]["testing"]


def test_key_is_kept_between_runs(pytester: pytest.Pytester, run: Run) -> None:
    """In pytest's own cache."""
    run.kept.unlink()
    pytester.makepyfile(
        """
        from pathlib import Path

        def test_key(wxpay_sandbox):
            before = Path("key")
            assert not before.exists() or before.read_text() == wxpay_sandbox.pay_public_key
            before.write_text(wxpay_sandbox.pay_public_key)
        """
    )

    for _ in range(2):
        run().assert_outcomes(passed=1)
    assert run.kept.read_bytes() != PRIVATE_KEY.read_bytes()


def test_run_without_a_cache_makes_a_key(pytester: pytest.Pytester, run: Run) -> None:
    """`-p no:cacheprovider` is used where nothing may be written."""
    pytester.makepyfile(
        """
        import pytest
        from wxpay_async.integrations import testing
        from tests.support.purchases import KEY

        @pytest.fixture(autouse=True, scope="session")
        def quick():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(testing, "make_key", lambda: KEY)
                yield

        def test_key(wxpay_sandbox):
            assert wxpay_sandbox.pay_public_key.encode() == KEY.public_key().export_key()
        """
    )

    run("-p", "no:cacheprovider").assert_outcomes(passed=1)
