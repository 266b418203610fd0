"""What the README says is true of the code."""

from __future__ import annotations

import re
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
    RetryPolicy,
    TradeItem,
    WxPayError,
)
from wxpay_async.engine.replay import error_without_reply
from wxpay_async.policy.states import State
from wxpay_async.sandbox import Sandbox

README = Path(__file__).parents[1] / "README.md"
CHINESE = README.with_name("README.zh-CN.md")
EXAMPLES = sorted((README.parent / "examples").glob("*.py"))
COMMANDS = [
    'python3 -m venv .venv && .venv/bin/pip install ".[cli]" && .venv/bin/wxpay-async demo',
    'python3 -m venv .venv && .venv/bin/pip install -e ".[dev]" && .venv/bin/pytest',
]
PUBLIC_MODULES = {"integrations.fastapi", "integrations.aiohttp", "sandbox"}
both_languages = pytest.mark.parametrize("file", [README, CHINESE], ids=["English", "Chinese"])
ROW = re.compile(r"^\| `(\w+)`(?: \(([^)]*)\))? \| (\w+) \| (\w+) \|", re.MULTILINE)
ROWS = ROW.findall(README.read_text(encoding="utf-8"))


def make_error(name: str, variant: str) -> WxPayError:
    """Make the error of a row of the table."""
    kind = getattr(wxpay_async, name)
    if kind is IdempotencyConflictError and variant:
        return error_without_reply(cast("Any", SimpleNamespace(state=State.CONFLICT)))
    if kind is NotSentError:
        return NotSentError("", retryable=variant == "network")
    if kind in {InDoubtError, MalformedResponseError}:
        return kind("", retryable=not variant)
    error = kind("")
    if isinstance(error, ClockSkewError):
        error.server_time = datetime.now(UTC)
    return error


def count_retries(error: WxPayError) -> str:
    """Ask the policy how often it tries again after this error, once and twice."""
    policy = RetryPolicy(attempts=10)
    pauses = [policy.pause([error] * n, left=1e6, random=0.5) for n in (1, 2)]
    return {0: "no", 1: "once", 2: "yes"}[sum(pause is not None for pause in pauses)]


@pytest.mark.parametrize(("name", "variant", "fate", "retried"), ROWS)
def test_row_of_an_error_has_its_fate_and_retrying(
    name: str, variant: str, fate: str, retried: str
) -> None:
    """They are those of the class and of the policy."""
    error = make_error(name, variant)

    assert (fate, retried) == (str(error.fate), count_retries(error))


def test_table_of_errors_is_complete() -> None:
    """No error is missing from the table."""
    exported = {
        name
        for name in wxpay_async.__all__
        if isinstance(getattr(wxpay_async, name), type)
        and issubclass(getattr(wxpay_async, name), WxPayError)
    }

    assert exported - {"WxPayError", "NotificationError"} == {name for name, *_ in ROWS}


def test_chinese_table_of_errors_is_the_same() -> None:
    """Row for row the same errors with the same fate, tried again alike."""
    words = {"否": "no", "一次": "once", "是": "yes"}
    chinese = ROW.findall(CHINESE.read_text(encoding="utf-8"))

    assert [(name, bool(variant), *rest) for name, variant, *rest in ROWS] == [
        (name, bool(variant), fate, words[retried]) for name, variant, fate, retried in chinese
    ]


def test_chinese_readme_names_what_the_english_one_names() -> None:
    """Every setting, option, extra, address and part."""
    named = set(re.findall(r"`([^`\n]+)`", README.read_text("utf-8")))
    chinese = CHINESE.read_text(encoding="utf-8")

    assert {"WXPAY_PROXY", "otel", "/sandbox", "Unlimited()"} <= named
    named.discard(CHINESE.name)
    assert [] == sorted(name for name in named if name not in chinese)


@both_languages
def test_transport_example_sets_the_transport(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines, as printed, make a gateway over that transport."""
    blocks = re.findall(r"```python\n(.*?)```", file.read_text("utf-8"), re.DOTALL)
    (example,) = [block for block in blocks if "transport=" in block]
    monkeypatch.setenv("WXPAY_APP_KEY", "k")
    monkeypatch.setenv("WXPAY_APP_SECRET", "s")
    names: dict[str, Any] = {}
    exec(compile(example, file.name, "exec"), names)  # the reader's own code

    made = names["gateway"]._dispatcher.make_transport()
    assert isinstance(made, names["ReqwestTransport"])


@both_languages
def test_commands_of_the_first_section_make_their_own_environment(file: Path) -> None:
    """Each is one line, which the checks of every change run as it is."""
    blocks = re.findall(r"```console\n(.*?)\n```", file.read_text(encoding="utf-8"), re.DOTALL)

    assert COMMANDS == blocks[:2]


@pytest.mark.parametrize("file", [README, CHINESE, *EXAMPLES], ids=lambda file: file.name)
def test_text_for_readers_names_public_modules_only(file: Path) -> None:
    """Everything else is imported from the package itself."""
    named = re.findall(r"\bwxpay_async\.([a-z_]+(?:\.[a-z_]+)*)", file.read_text(encoding="utf-8"))

    assert set(named) <= PUBLIC_MODULES


@both_languages
def test_links_lead_to_no_file_beside_the_readme(file: Path) -> None:
    """On the page of a package index there is nothing beside it."""
    links = re.findall(r"\]\(([^)]+)\)", file.read_text(encoding="utf-8"))

    assert [] == [link for link in links if not link.startswith("https://")]


def test_changelog_begins_with_the_version_of_the_package() -> None:
    """Its newest dated section has that version."""
    changelog = README.with_name("CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\](?: - \d{4}-\d{2}-\d{2})?$", changelog, re.MULTILINE)

    assert ["Unreleased", wxpay_async.__version__] == headings[:2]


@both_languages
def test_shops_listen_where_callbacks_are_sent(file: Path) -> None:
    """Not on the sandbox's own port."""
    shop = (README.parent / "examples" / "aiohttp_shop.py").read_text(encoding="utf-8")
    [port] = re.findall(r'"PORT", "(\d+)"', shop)
    sent = re.findall(r"--notify-url\s+http://127\.0\.0\.1:(\d+)", file.read_text("utf-8"))

    assert (True, {"8000"}) == (bool(sent), {port, *sent})


async def test_fastapi_example_pays(monkeypatch: pytest.MonkeyPatch) -> None:
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
