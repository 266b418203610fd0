"""Faults over HTTP: ordered, listed, taken back, refused."""

from typing import Any

import aiohttp
import pytest

from tests.sandbox.raw_merchant import Merchant
from wxpay_async.sandbox import FaultKind, Sandbox
from wxpay_async.sandbox.answers import Answers
from wxpay_async.sandbox.auth import IncomingRequest
from wxpay_async.sandbox.fault_pages import FaultPages

FAULTS, CLEAR = "/sandbox/faults", "/sandbox/faults/clear"


async def post(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str] | None = None, **form: str
) -> tuple[int, dict[str, Any]]:
    """Post a form; return status and JSON."""
    async with session.post(url, data=form, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_fault_that_is_ordered_happens(
    session: aiohttp.ClientSession, sandbox: Sandbox, merchant: Merchant
) -> None:
    """A form orders it, the next calls meet it, and the list counts them."""
    url = sandbox.url + FAULTS
    status, listed = await post(
        session, url, kind="error", code="CO_MSG_000003", operation="trade", every="2"
    )
    codes = [(await merchant.trade(number))["errorCode"] for number in ("A1", "A2", "A3", "A4")]
    async with session.get(url) as answer:
        after = await answer.json(content_type=None)

    assert status == 200
    assert listed["faults"][0]["number"] == 1
    assert codes == ["", "CO_MSG_000003", "", "CO_MSG_000003"]
    assert (after["faults"][0]["seen"], after["faults"][0]["happened"]) == (4, 2)
    assert after["happened"] == {"error": 2}
    assert list(after["kinds"]) == list(FaultKind)


async def test_fault_is_taken_back_by_its_number_or_with_all(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """What is not there is refused."""
    url = sandbox.url
    for _ in range(3):
        await post(session, url + FAULTS, kind="reset")
    status, listed = await post(session, url + CLEAR, number="2")
    assert (status, [each["number"] for each in listed["faults"]]) == (200, [1, 3])
    status, refused = await post(session, url + CLEAR, number="2")
    assert (status, refused["field"], refused["allowed"]) == (400, "number", "1, 3")
    status, refused = await post(session, url + CLEAR, number="two")
    assert (status, refused["field"]) == (400, "number")
    status, listed = await post(session, url + CLEAR)
    assert (status, listed["faults"]) == (200, [])


@pytest.mark.parametrize(
    ("form", "field", "allowed"),
    [
        ({"kind": "explode"}, "kind", "drop_after_commit"),
        ({"kind": "drip", "copies": "2"}, "copies", "seconds, operation"),
        ({"kind": "delay", "seconds": "-1"}, "seconds", "0 or more"),
    ],
)
async def test_fault_that_is_wrong_is_refused_with_field_and_allowed_values(
    session: aiohttp.ClientSession,
    sandbox: Sandbox,
    form: dict[str, str],
    field: str,
    allowed: str,
) -> None:
    """As in code and in a file."""
    status, refused = await post(session, sandbox.url + FAULTS, **form)
    assert (status, refused["field"]) == (400, field)
    assert allowed in refused["allowed"]
    assert sandbox.faults.list_ordered() == []


async def test_fault_of_a_foreign_page_is_refused(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """A page of the internet cannot make a browser order one."""
    headers = {"Origin": "https://evil.example"}
    status, _ = await post(session, sandbox.url + FAULTS, headers, kind="reset")
    async with session.get(sandbox.url + FAULTS, headers={"Host": "evil.example"}) as answer:
        read = answer.status
    assert (status, read) == (403, 403)
    assert sandbox.faults.list_ordered() == []


@pytest.mark.parametrize(
    ("address", "status"),
    [("127.0.0.1", 200), ("::1", 200), ("192.168.1.5", 403), ("fe80::1", 403), ("", 403)],
)
def test_fault_is_ordered_on_this_machine_only(sandbox: Sandbox, address: str, status: int) -> None:
    """Also where others may pay."""
    pages = FaultPages(sandbox.faults, Answers(sandbox.platform))
    incoming = IncomingRequest(path=FAULTS, body=b"kind=reset", address=address)
    answer = pages.serve(incoming)
    assert answer is not None
    assert answer.status == status
    assert len(sandbox.faults.list_ordered()) == (status == 200)


async def test_fault_by_another_method_is_not_there(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """Only GET and POST are served."""
    for path in (FAULTS, CLEAR):
        async with session.put(sandbox.url + path) as answer:
            assert answer.status == 404
    async with session.post(sandbox.url + FAULTS, data=b"\xff") as answer:
        assert answer.status == 400
