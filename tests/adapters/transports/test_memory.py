"""The transport that users test with: what it answers, remembers and refuses."""

from __future__ import annotations

import asyncio

import pytest

from wxpay_async.adapters.transports.memory import Answer, MemoryTransport, UnexpectedRequestError
from wxpay_async.errors import InDoubtError, NotSentError, WxPayError
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts


def request(number: int = 0) -> HttpRequest:
    """Make a request that can be told from others."""
    return HttpRequest(f"https://platform.example/{number}", b"a=1")


async def test_answers_are_used_up_first_in_first_out(calm: Timeouts) -> None:
    """A list is a scenario, told in order."""
    transport = MemoryTransport([HttpResponse(500, b""), HttpResponse(200, b"ok")])

    statuses = [(await transport.send(request(), timeout=calm)).status for _ in range(2)]

    assert [500, 200] == statuses


async def test_a_mapping_is_the_json_of_a_reply(calm: Timeouts) -> None:
    """The most common answer needs no HTTP around it."""
    transport = MemoryTransport([{"success": False, "errorMsg": "余额不足"}])

    response = await transport.send(request(), timeout=calm)

    expected = '{"success": false, "errorMsg": "余额不足"}'.encode()
    assert HttpResponse(200, expected) == response


@pytest.mark.parametrize("error", [NotSentError("x", retryable=False), InDoubtError("y")])
async def test_an_error_is_raised(error: WxPayError, calm: Timeouts) -> None:
    """What a network would raise can be scripted."""
    with pytest.raises(type(error)) as caught:
        await MemoryTransport([error]).send(request(), timeout=calm)

    assert error is caught.value


async def test_it_fails_loudly_when_it_is_empty(calm: Timeouts) -> None:
    """Not with an error of the SDK, which a retry or an `except` could swallow."""
    transport = MemoryTransport([{}])
    await transport.send(request(), timeout=calm)

    with pytest.raises(UnexpectedRequestError, match="no answer is left for call 2") as caught:
        await transport.send(request(), timeout=calm)

    assert (False, True) == (
        isinstance(caught.value, WxPayError),
        isinstance(caught.value, AssertionError),
    )


async def test_without_answers_nothing_may_be_sent(calm: Timeouts) -> None:
    """The default asserts that there is no traffic."""
    with pytest.raises(UnexpectedRequestError):
        await MemoryTransport().send(request(), timeout=calm)


async def test_a_handler_sees_each_request(calm: Timeouts) -> None:
    """A function may answer by what was asked."""
    transport = MemoryTransport(lambda asked: {"url": asked.url})

    response = await transport.send(request(7), timeout=calm)

    assert b'{"url": "https://platform.example/7"}' == response.body


async def test_a_handler_may_wait_and_be_cancelled(calm: Timeouts) -> None:
    """Cancellation passes through, as it does through a network."""
    begun = asyncio.Event()

    async def never(_: HttpRequest) -> Answer:
        begun.set()
        await asyncio.Event().wait()
        return {}

    task = asyncio.create_task(MemoryTransport(never).send(request(), timeout=calm))
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_was_asked_is_remembered_up_to_a_bound(calm: Timeouts) -> None:
    """The last requests are kept, oldest first; a long run does not fill the memory."""
    transport = MemoryTransport(lambda _: {}, keep=3)

    for number in range(5):
        await transport.send(request(number), timeout=calm)

    assert [request(2), request(3), request(4)] == list(transport.requests)
    assert 5 == transport.calls


async def test_a_failed_call_is_remembered_too(calm: Timeouts) -> None:
    """A request that ended badly was made all the same."""
    transport = MemoryTransport([InDoubtError("x")])

    with pytest.raises(InDoubtError):
        await transport.send(request(1), timeout=calm)

    assert [request(1)] == list(transport.requests)


async def test_closing_is_nothing(calm: Timeouts) -> None:
    """It may be closed, twice, and used again."""
    transport = MemoryTransport([{}])
    await transport.aclose()
    await transport.aclose()

    assert 200 == (await transport.send(request(), timeout=calm)).status


@pytest.mark.parametrize("answers", [{"success": True}, "ok"])
def test_one_answer_is_no_list_of_answers(answers: object) -> None:
    """It would be taken apart into keys or letters, and fail far away from the mistake."""
    with pytest.raises(TypeError, match="a handler or a list of answers"):
        MemoryTransport(answers)  # type: ignore[arg-type]
