"""What the README says is what the code does."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

import wxpay_async
from wxpay_async import (
    ClockSkewError,
    IdempotencyConflictError,
    InDoubtError,
    InstantTrade,
    MalformedResponseError,
    NotSentError,
    PayGateway,
    PayMethod,
    TradeItem,
    WxPayError,
)
from wxpay_async.engine.call import _without_reply
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State
from wxpay_async.sandbox import Sandbox

README = Path(__file__).parents[1] / "README.md"
CHINESE = README.with_name("README.zh-CN.md")
ROW = re.compile(r"^\| `(\w+)`(?: \(([^)]*)\))? \| (\w+) \| (\w+) \|", re.MULTILINE)
ROWS = ROW.findall(README.read_text(encoding="utf-8"))


def example(name: str, variant: str) -> WxPayError:
    """Make the error of a row."""
    kind = getattr(wxpay_async, name)
    if kind is IdempotencyConflictError and variant:
        return _without_reply(cast("Any", SimpleNamespace(state=State.CONFLICT)))
    if kind is NotSentError:
        return NotSentError("", retryable=variant == "network")
    if kind in {InDoubtError, MalformedResponseError}:
        return kind("", retryable=not variant)
    error = kind("")
    if isinstance(error, ClockSkewError):
        error.server_time = datetime.now(UTC)
    return error


def tries(error: WxPayError) -> str:
    """Ask the policy how often it tries again after this error, and this error once more."""
    policy = RetryPolicy(attempts=10)
    pauses = [policy.pause([error] * n, left=1e6, roll=0.5) for n in (1, 2)]
    return {0: "no", 1: "once", 2: "yes"}[sum(pause is not None for pause in pauses)]


@pytest.mark.parametrize(("name", "variant", "fate", "retried"), ROWS)
def test_the_table_of_errors_is_true(name: str, variant: str, fate: str, retried: str) -> None:
    """Each row's fate and retrying are those of the class and of the policy."""
    error = example(name, variant)

    assert (fate, retried) == (str(error.fate), tries(error))


def test_the_table_names_every_error_that_a_call_can_raise() -> None:
    """No error is missing from the table."""
    exported = {
        name
        for name in wxpay_async.__all__
        if isinstance(getattr(wxpay_async, name), type)
        and issubclass(getattr(wxpay_async, name), WxPayError)
    }

    assert exported - {"WxPayError", "NotificationError"} == {name for name, *_ in ROWS}


def test_the_chinese_table_of_errors_is_the_same() -> None:
    """Row for row the same errors with the same fate, tried again alike."""
    words = {"否": "no", "一次": "once", "是": "yes"}
    chinese = ROW.findall(CHINESE.read_text(encoding="utf-8"))

    assert [(name, bool(variant), *rest) for name, variant, *rest in ROWS] == [
        (name, bool(variant), fate, words[retried]) for name, variant, fate, retried in chinese
    ]


def test_the_chinese_readme_names_what_the_english_one_names() -> None:
    """Every setting, option, extra, address and part."""
    named = set(re.findall(r"`([^`\n]+)`", README.read_text("utf-8")))
    chinese = CHINESE.read_text(encoding="utf-8")

    assert {"WXPAY_PROXY", "otel", "/sandbox", "Unlimited()"} <= named
    named.discard(CHINESE.name)
    assert [] == sorted(name for name in named if name not in chinese)


@pytest.mark.parametrize("file", [README, CHINESE], ids=["English", "Chinese"])
def test_the_transport_example_sets_the_transport(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines, as printed, make a gateway over that transport."""
    blocks = re.findall(r"```python\n(.*?)```", file.read_text("utf-8"), re.DOTALL)
    (example,) = [block for block in blocks if "transport=" in block]
    monkeypatch.setenv("WXPAY_APP_KEY", "k")
    monkeypatch.setenv("WXPAY_APP_SECRET", "s")
    names: dict[str, Any] = {}
    exec(compile(example, file.name, "exec"), names)  # the reader's own code

    made = names["gateway"]._dispatcher.make_transport()
    assert isinstance(made, names["ReqwestTransport"])


@pytest.mark.parametrize("file", [README, CHINESE], ids=["English", "Chinese"])
def test_no_link_leads_to_a_file_beside_the_readme(file: Path) -> None:
    """On the page of a package index there is nothing beside it."""
    links = re.findall(r"\]\(([^)]+)\)", file.read_text(encoding="utf-8"))

    assert [] == [link for link in links if not link.startswith("https://")]


def test_the_changelog_tells_of_this_version() -> None:
    """Its newest dated section is the version that the package has."""
    project = tomllib.loads(README.with_name("pyproject.toml").read_text(encoding="utf-8"))
    changelog = README.with_name("CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\](?: - \d{4}-\d{2}-\d{2})?$", changelog, re.MULTILINE)

    assert ["Unreleased", project["project"]["version"]] == headings[:2]


@pytest.mark.parametrize("file", [README, CHINESE], ids=["English", "Chinese"])
def test_the_shops_listen_where_callbacks_are_sent(file: Path) -> None:
    """Not on the sandbox's own port."""
    shop = (README.parent / "examples" / "aiohttp_shop.py").read_text(encoding="utf-8")
    [port] = re.findall(r'"PORT", "(\d+)"', shop)
    sent = re.findall(r"--notify-url\s+http://127\.0\.0\.1:(\d+)", file.read_text("utf-8"))

    assert (True, {"8000"}) == (bool(sent), {port, *sent})


async def test_the_fastapi_example_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ten lines, as printed, turn a payToken into what wx.requestPayment takes."""
    example = re.search(r"```python\n(from fastapi.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert example is not None
    order = InstantTrade(
        request_id="trade-1",
        trade_info=[
            TradeItem(
                out_trade_no="order-1",
                subject="商品",
                price="0.10",
                quantity=1,
                total_amount="0.10",
                payee_identity="100",
            )
        ],
        payer_ip="127.0.0.1",
        pay_method=PayMethod(pay_product_code="65", amount="0.10"),
    )
    async with Sandbox() as sandbox:
        for name, value in sandbox.settings().items():
            monkeypatch.setenv(name, value)
        async with PayGateway.from_env() as shop:
            token = (await shop.trade(order)).pay_token
        names: dict[str, Any] = {}
        exec(compile(example[1], "README.md", "exec"), names)  # the reader's own code
        transport = httpx.ASGITransport(names["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as payer:
            answer = await payer.post(
                "/orders/order-1/pay", params={"pay_token": token, "openid": "openid-0123456789"}
            )
        await names["gateway"].aclose()

    assert 200 == answer.status_code
    assert {"timeStamp", "nonceStr", "package", "signType", "paySign"} == set(answer.json())
