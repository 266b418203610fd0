"""A transport without a network, for tests: replies from a list or from a function."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from inspect import isawaitable
from typing import Any

from attrs import define, field

from wxpay_async.errors import WxPayError
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts

Answer = HttpResponse | WxPayError | Mapping[str, Any]
Handler = Callable[[HttpRequest], Answer | Awaitable[Answer]]


class UnexpectedRequestError(AssertionError):
    """More requests were sent than there are answers: the test's script and the code differ."""


def _to_answers(answers: Handler | Iterable[Answer]) -> Handler | deque[Answer]:
    if isinstance(answers, Mapping | str):  # would be taken apart into its keys or letters
        raise TypeError("answers must be a handler or a list of answers")
    return answers if callable(answers) else deque(answers)


@define(eq=False)
class MemoryTransport:
    """Answers from memory and remembers the requests.

    Args:
        answers: a handler (plain or async) that gets each request, or a list that is consumed
            first in, first out. An answer is an `HttpResponse`, an error to raise, or the JSON
            of a reply with status 200.
        keep: how many of the last requests are remembered.

    Attributes:
        requests: the last requests, oldest first.
        calls: how many there were in all.
    """

    _answers: Handler | deque[Answer] = field(
        factory=deque[Answer], converter=_to_answers, repr=False, alias="answers"
    )
    keep: int = field(default=100, kw_only=True)
    requests: deque[HttpRequest] = field(init=False, repr=False)
    calls: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.requests = deque(maxlen=self.keep)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Answer with what comes next; raise `UnexpectedRequestError` when nothing is left."""
        del timeout
        self.calls += 1
        self.requests.append(request)
        answer = await self._next(request)
        if isinstance(answer, WxPayError):
            raise answer
        if isinstance(answer, HttpResponse):
            return answer
        return HttpResponse(200, json.dumps(answer, ensure_ascii=False).encode())

    async def _next(self, request: HttpRequest) -> Answer:
        if not callable(self._answers):
            if not self._answers:
                raise UnexpectedRequestError(f"no answer is left for call {self.calls}")
            return self._answers.popleft()
        answer = self._answers(request)
        return await answer if isawaitable(answer) else answer

    async def aclose(self) -> None:
        """Do nothing: there is nothing to release."""
