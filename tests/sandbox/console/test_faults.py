"""The page of faults: what is ordered, what can be ordered, and the magic values."""

import re
from typing import Final

import pytest

from tests.sandbox.console.conftest import Act, Fetch
from tests.sandbox.raw_merchant import Merchant
from wxpay_async.sandbox import Fault, FaultKind, Sandbox
from wxpay_async.sandbox.console.faults import build_faults
from wxpay_async.sandbox.console.texts import TEXTS
from wxpay_async.sandbox.fault_input import read_fault_form
from wxpay_async.sandbox.fault_queue import Faults
from wxpay_async.sandbox.magic import MAGIC_VALUES

PAGE: Final = "/console/faults?lang=en"


async def test_fault_is_ordered_and_taken_back_by_buttons(
    fetch: Fetch, act: Act, merchant: Merchant, sandbox: Sandbox
) -> None:
    """The page shows it, and what it met; every page counts it."""
    fields = {"kind": "error", "code": "CO_MSG_000003", "operation": "trade", "every": "2"}
    done = await act(act="order_fault", times="", chance="1.0", **fields)
    codes = [(await merchant.trade(number))["errorCode"] for number in ("A1", "A2")]
    html = await fetch(PAGE)
    (ordered,) = sandbox.faults.list_ordered()
    assert done == (200, {"ok": True, "state": "", "text": ""})
    assert codes == ["", "CO_MSG_000003"]
    assert ordered.fault == read_fault_form({**fields, "chance": "1.0"})
    assert "code=CO_MSG_000003, executed=False, operation=trade, every=2" in html
    assert "seen 2×, happened 1×" in html
    assert 'Faults <span class="count">1</span>' in await fetch("/?lang=en")

    assert (await act(act="clear_faults", number="1"))[0] == 200
    assert "None: nothing goes wrong on purpose." in await fetch(PAGE)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"act": "order_fault", "kind": "explode"}, "kind: 'explode'; allowed: delay"),
        ({"act": "order_fault", "kind": "reset", "every": "x"}, "every: 'x'; allowed: a whole"),
        ({"act": "clear_faults", "number": "7"}, "number: 7; allowed: none"),
    ],
)
async def test_fault_that_is_wrong_is_refused_in_words(
    act: Act, sandbox: Sandbox, params: dict[str, str], words: str
) -> None:
    """With the field and what it may hold."""
    status, result = await act(**params)
    assert (status, result["ok"]) == (400, False)
    assert words in str(result["text"])
    assert sandbox.faults.list_ordered() == []


async def test_fault_without_the_pages_token_is_refused(act: Act, sandbox: Sandbox) -> None:
    """As every act."""
    status, _ = await act(act="order_fault", kind="reset", token="0" * 32)
    assert status == 403
    assert sandbox.faults.list_ordered() == []


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_page_has_each_kind_and_each_magic_value(fetch: Fetch, language: str) -> None:
    """In the reader's language."""
    html = await fetch(f"/console/faults?lang={language}")
    assert re.findall(r'name="kind" value="(\w+)"', html) == list(FaultKind)
    for value in MAGIC_VALUES:
        assert f"<code>{value.openid}</code>" in html
        assert f"¥{value.amount}" in html
        assert value.text[["en", "zh"].index(language)] in html


@pytest.mark.parametrize("kind", list(FaultKind))
def test_form_of_a_kind_orders_what_its_method_makes(kind: FaultKind) -> None:
    """Where nothing is changed."""
    view = build_faults(Faults(), "en", magic=True)
    (found,) = (each for each in view.kinds if each.kind == kind)
    form = {field.name: field.value for field in found.fields}
    assert read_fault_form({"kind": kind, **form}) == getattr(Fault, kind)()


def test_magic_values_that_are_switched_off_are_not_listed() -> None:
    """They do nothing then."""
    assert build_faults(Faults(), "en", magic=False).magic == []
    assert "--no-magic" in TEXTS["en"]["magic_off"]
