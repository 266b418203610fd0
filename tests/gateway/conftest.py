"""A platform that answers an operation by a script and a query as it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from attrs import define, field

from wxpay_async.errors import WxPayError
from wxpay_async.protocol.wire import HttpRequest, HttpResponse

Answer = Any  # whatever MemoryTransport takes for one
QUERY = "/api/instant/query"
UNKNOWN_ORDER = {"success": False, "errorCode": "GM_API_BUS_000099", "errorMsg": "订单不存在"}


@define(eq=False)
class Script:
    """Answers for `MemoryTransport`: operations one after another, the last one again and again.

    Attributes:
        answers: what operations are told; a callable is called.
        query: what every query is told.
        queries: how many were made.
    """

    answers: list[Answer]
    query: Answer = field(factory=lambda: dict(UNKNOWN_ORDER))
    queries: int = 0

    def __call__(self, request: HttpRequest) -> Answer:
        """Answer one request."""
        if request.url.endswith(QUERY):
            self.queries += 1
            return self.query() if callable(self.query) else self.query
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, WxPayError):  # a fresh one each time: what is raised gets marked
            return _again(answer)
        return answer(request) if callable(answer) else answer


def _again(error: WxPayError) -> WxPayError:
    copy = type(error)(error.reason)
    copy.retryable = error.retryable
    return copy


@pytest.fixture
def script() -> Callable[..., Script]:
    """Return what makes scripts: `script(answer, answer, query=…)`."""

    def made(*answers: Answer, **more: Answer) -> Script:
        return Script(list(answers), **more)

    return made


@pytest.fixture
def html() -> Callable[[int], HttpResponse]:
    """Return what a broken gateway in front of the platform says."""
    return lambda status: HttpResponse(status, b"<html>Bad Gateway</html>")


@pytest.fixture
def kinds() -> Callable[[Sequence[object]], list[str]]:
    """Return what names the classes of results and errors."""
    return lambda things: [type(thing).__name__ for thing in things]
