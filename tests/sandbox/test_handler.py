"""Which requests the platform answers, which its pages, and which nobody."""

import aiohttp
import pytest

from tests.sandbox.raw_merchant import Merchant
from wxpay_async.sandbox import Fault, Sandbox
from wxpay_async.sandbox.platform import PATHS


@pytest.mark.parametrize("path", list(PATHS))
async def test_call_is_answered_under_any_host(
    session: aiohttp.ClientSession, sandbox: Sandbox, path: str
) -> None:
    """Merchants sign, so no name and no origin is checked; a wrong method has its own code."""
    headers = {"Host": "evil.example", "Origin": "https://evil.example"}
    async with session.get(sandbox.url + path, headers=headers) as answer:
        reply = await answer.json(content_type=None)
    assert (answer.status, reply["errorCode"]) == (200, "CO_MSG_0000016")


async def test_path_that_does_not_exist_is_in_the_request_log(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """A typing mistake in an address can be found."""
    async with session.post(f"{sandbox.url}/api/instant/pays") as answer:
        assert answer.status == 404
    async with session.get(f"{sandbox.url}/console/requests") as page:
        assert "/api/instant/pays" in await page.text()


async def test_fault_on_arrival_and_one_of_the_platform_meet_one_call(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """A reply can begin with a mark and be somebody else's."""
    sandbox.faults.inject_all([Fault.bom(), Fault.wrong_echo()])
    params = merchant.sign(bizContent="{}")
    async with merchant.session.post(f"{sandbox.url}/api/instant/trade", data=params) as answer:
        assert (await answer.read()).startswith(b"\xef\xbb\xbf")
    assert [ordered.fault.kind for ordered in sandbox.faults.list_ordered()] == []


async def test_fault_of_a_call_is_in_the_request_log(
    session: aiohttp.ClientSession, sandbox: Sandbox, merchant: Merchant
) -> None:
    """Besides the call itself."""
    sandbox.faults.inject_all([Fault.delay(seconds=0), Fault.wrong_echo()])
    await merchant.trade("A1")
    async with session.get(f"{sandbox.url}/console/requests") as page:
        html = await page.text()
    assert "injected fault: delay" in html
    assert "injected fault: wrong_echo" in html
