"""The examples of `docs/testing.md` run as they are printed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.support import asking
from tests.support.pages import find_files
from tests.support.vectors import PRIVATE_KEY
from wxpay_async.integrations.testing import make_gateway
from wxpay_async.sandbox import Sandbox

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "testing.md"

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Make a project of the examples, without a conftest, with the plugin and no other."""
    for name, text in find_files(PAGE).items():
        (pytester.path / name).write_text(text, encoding="utf-8")
    key = pytester.path / ".pytest_cache" / "d" / "wxpay" / "platform.pem"
    key.parent.mkdir(parents=True)
    key.write_bytes(PRIVATE_KEY.read_bytes())  # making one takes seconds
    (pytester.path / "tests").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return pytester


def test_page_has_a_name_for_each_block() -> None:
    """So that none is left out below."""
    blocks = PAGE.read_text(encoding="utf-8").count("```python\n")

    assert blocks == len(find_files(PAGE))
    assert {"shop.py", "record.py", "test_replay.py"} < find_files(PAGE).keys()


@pytest.mark.parametrize(
    ("file", "passed"), [("test_shop.py", 12), ("test_plainly.py", 1), ("test_settings.py", 2)]
)
def test_suite_of_the_page_passes(file: str, passed: int, project: pytest.Pytester) -> None:
    """With nothing but the plugin."""
    result = project.runpytest_subprocess("-p", "wxpay_async.integrations.pytest", file)

    result.assert_outcomes(passed=passed)


async def test_recording_of_the_page_is_replayed(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the one script writes, the other one reads; in between the platform is gone."""
    async with Sandbox(quota=None) as sandbox:
        await create_order(sandbox)
        for name, value in sandbox.settings().items():
            monkeypatch.setenv(name, value)
        recorded = await asyncio.to_thread(project.run, sys.executable, "record.py")
    assert 0 == recorded.ret, recorded.stderr.str()

    project.runpytest_subprocess("test_replay.py").assert_outcomes(passed=1)


async def create_order(sandbox: Sandbox) -> None:
    """Create the order that the script asks for."""
    async with make_gateway(sandbox) as gateway:
        await gateway.trade(asking.trade(trade_info=[asking.item("order-1")]))
