"""What the README says is true of the code."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import httpx
import pytest

import wxpay_async
from tests.support import asking
from tests.support.error_table import (
    Row,
    make_chinese_table,
    make_codes_table,
    make_rows,
    make_table,
)
from wxpay_async import InstantTrade, Md5Signer, PayGateway
from wxpay_async.sandbox import Sandbox

README = Path(__file__).parents[1] / "README.md"
CHINESE = README.with_name("README.zh-CN.md")
EXAMPLES = sorted((README.parent / "examples").glob("*.py"))
COMMANDS = [
    'python3 -m venv .venv && .venv/bin/pip install ".[cli]" && .venv/bin/wxpay-async demo',
    'python3 -m venv .venv && .venv/bin/pip install -e ".[dev]" && .venv/bin/pytest',
]
PUBLIC_MODULES = {
    *("integrations.fastapi", "integrations.aiohttp", "integrations.taskiq"),
    *("batch", "sandbox"),
}
both_languages = pytest.mark.parametrize("file", [README, CHINESE], ids=["English", "Chinese"])
ERRORS = README.parent / "docs" / "errors.md"


@pytest.mark.parametrize(
    ("file", "table"),
    [
        (ERRORS, make_table()),
        (ERRORS, make_codes_table()),
        (ERRORS.with_name("errors.zh.md"), make_chinese_table()),
    ],
    ids=["docs/errors.md", "errorCodes", "docs/errors.zh.md"],
)
def test_table_of_errors_is_the_one_that_the_code_makes(file: Path, table: str) -> None:
    """Every class, its fate, its parents, whether it is tried again, and what a merchant does.

    `python -m tests.support.error_table` prints it, with `--codes` that of the errorCodes,
    with `--zh` the Chinese one.
    """
    assert table in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("row", make_rows(), ids=lambda row: row.name)
def test_class_of_an_error_says_what_to_do(row: Row) -> None:
    """In its docstring; and it is exported."""
    assert row.advice
    assert row.name in wxpay_async.__all__


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
    (example,) = find_blocks(file, "transport=")
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


def make_order(**fields: Any) -> InstantTrade:  # noqa: ANN401 - the order's
    """Return an order."""
    given = {"trade_info": [asking.item("order-1", "0.10")], "pay_method": asking.method("0.10")}
    return asking.trade(**given | fields)


def find_blocks(file: Path, text: str) -> list[str]:
    """Return the blocks of Python in which the text stands."""
    blocks = re.findall(r"```python\n(.*?)```", file.read_text("utf-8"), re.DOTALL)
    return [block for block in blocks if text in block]


JSAPI = {"timeStamp", "nonceStr", "package", "signType", "paySign"}


@both_languages
async def test_fastapi_example_pays(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ten lines, as printed, turn a payToken into what wx.requestPayment takes.

    They do not take it from the address, which servers write into their access logs.
    """
    (example,) = find_blocks(file, "from fastapi")
    async with Sandbox() as sandbox:
        for name, value in sandbox.settings().items():
            monkeypatch.setenv(name, value)
        async with PayGateway.from_env() as shop:
            token = (await shop.trade(make_order())).pay_token
        names: dict[str, Any] = {}
        exec(compile(example, file.name, "exec"), names)  # the reader's own code
        transport = httpx.ASGITransport(names["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as payer:
            values = {"pay_token": token, "openid": "openid-0123456789"}
            refused = await payer.post("/orders/order-1/pay", params=values)
            answer = await payer.post("/orders/order-1/pay", json=values)
        await names["gateway"].aclose()

    assert (422, 200) == (refused.status_code, answer.status_code)
    assert JSAPI == set(answer.json())


@both_languages
async def test_checkout_example_pays(file: Path) -> None:
    """Its three lines, as printed, return what wx.requestPayment takes."""
    (example,) = find_blocks(file, "checkout(")
    assert 3 == len(example.splitlines())
    body = textwrap.indent(example.replace("InstantTrade(...,", "make_order("), "    ")
    async with (
        Sandbox() as sandbox,
        PayGateway(sandbox.app_key, Md5Signer(sandbox.app_secret), base_url=sandbox.url) as gateway,
    ):
        names: dict[str, Any] = {"gateway": gateway, "make_order": make_order}
        names |= {"openid": "openid-0123456789", "app_id": "wx9236b1e84ffbf10a"}
        names |= {"next_number": "{}-2".format}
        exec(compile(f"async def tap():\n{body}", file.name, "exec"), names)
        answer = await names["tap"]()

    assert JSAPI == set(answer)
