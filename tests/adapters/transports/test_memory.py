"""The transport for tests: its answers, the requests that it remembers, and its errors."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tests.support.server import CALM
from wxpay_async.adapters.transports.memory import Answer, MemoryTransport, UnexpectedRequestError
from wxpay_async.errors import InDoubtError, NotSentError, WxPayError
from wxpay_async.protocol.wire import HttpRequest, HttpResponse


def request(number: int = 0) -> HttpRequest:
    """Make a request with a number in its address."""
    return HttpRequest(f"https://platform.example/{number}", b"a=1")


async def test_answers_are_used_up_first_in_first_out() -> None:
    """A list is a scenario."""
    transport = MemoryTransport([HttpResponse(500, b""), HttpResponse(200, b"ok")])

    statuses = [(await transport.send(request(), timeout=CALM)).status for _ in range(2)]

    assert [500, 200] == statuses


async def test_mapping_is_the_json_of_a_reply() -> None:
    """The most common answer is written without HTTP."""
    transport = MemoryTransport([{"success": False, "errorMsg": "余额不足"}])

    response = await transport.send(request(), timeout=CALM)

    expected = '{"success": false, "errorMsg": "余额不足"}'.encode()
    assert HttpResponse(200, expected) == response


@pytest.mark.parametrize("error", [NotSentError("x", retryable=False), InDoubtError("y")])
async def test_error_is_raised(error: WxPayError) -> None:
    """Any error of a network can be scripted."""
    with pytest.raises(type(error)) as caught:
        await MemoryTransport([error]).send(request(), timeout=CALM)

    assert error is caught.value


async def test_empty_list_raises_an_error_that_is_not_the_sdk_s() -> None:
    """A retry or an `except` could hide an error of the SDK."""
    transport = MemoryTransport([{}])
    await transport.send(request(), timeout=CALM)

    with pytest.raises(UnexpectedRequestError, match="no answer is left for call 2") as caught:
        await transport.send(request(), timeout=CALM)

    assert (False, True) == (
        isinstance(caught.value, WxPayError),
        isinstance(caught.value, AssertionError),
    )


async def test_transport_without_answers_refuses_every_request() -> None:
    """Without a script the transport asserts that there is no traffic."""
    with pytest.raises(UnexpectedRequestError):
        await MemoryTransport().send(request(), timeout=CALM)


async def test_handler_sees_each_request() -> None:
    """A function may answer according to the request."""
    transport = MemoryTransport(lambda asked: {"url": asked.url})

    response = await transport.send(request(7), timeout=CALM)

    assert b'{"url": "https://platform.example/7"}' == response.body


async def test_handler_may_wait_and_be_cancelled() -> None:
    """A cancellation reaches the handler, as it would reach a network."""
    begun = asyncio.Event()

    async def never(_: HttpRequest) -> Answer:
        begun.set()
        await asyncio.Event().wait()
        return {}

    task = asyncio.create_task(MemoryTransport(never).send(request(), timeout=CALM))
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_requests_are_remembered_up_to_a_bound() -> None:
    """The last requests are kept, oldest first; a long run does not fill the memory."""
    transport = MemoryTransport(lambda _: {}, keep=3)

    for number in range(5):
        await transport.send(request(number), timeout=CALM)

    assert [request(2), request(3), request(4)] == list(transport.requests)
    assert 5 == transport.calls


async def test_failed_call_is_remembered_too() -> None:
    """A request that failed was made too."""
    transport = MemoryTransport([InDoubtError("x")])

    with pytest.raises(InDoubtError):
        await transport.send(request(1), timeout=CALM)

    assert [request(1)] == list(transport.requests)


async def test_closed_transport_works_on() -> None:
    """It may be closed twice, and used again."""
    transport = MemoryTransport([{}])
    await transport.aclose()
    await transport.aclose()

    assert 200 == (await transport.send(request(), timeout=CALM)).status


@pytest.mark.parametrize("answers", [{"success": True}, "ok"])
def test_single_answer_is_a_type_error(answers: object) -> None:
    """It would be read as its keys or letters, and fail far from the mistake."""
    with pytest.raises(TypeError, match="a handler or a list of answers"):
        MemoryTransport(cast("list[Answer]", answers))
