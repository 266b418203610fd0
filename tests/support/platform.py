"""What the platform says: scripts of replies, and signed callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlencode

from attrs import define, field

from tests.support.clock import NOON
from tests.support.vectors import PRIVATE_KEY, PUBLIC_KEY
from wxpay_async.errors import WxPayError
from wxpay_async.protocol.signing import RsaSigner, RsaVerifier, Signer
from wxpay_async.protocol.wire import HttpRequest

APP_KEY: Final = "gmd930ea5d5a258f4f"
SECRET: Final = "192006250b4c09247ec02edce69f6a2d"
"""The app secret of the platform's published example."""
QUERY: Final = "/api/instant/query"
UNKNOWN_ORDER: Final = {
    "success": False,
    "errorCode": "GM_API_BUS_000099",
    "errorMsg": "订单不存在",
}
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
"""The headers of a callback."""

Answer = Any
"""Anything that `MemoryTransport` takes for an answer."""


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
            return _copy_error(answer)
        return answer(request) if callable(answer) else answer


@define(eq=False)
class HeldPlatform:
    """A platform that answers when the test opens its gate.

    Attributes:
        reply: what every request is answered.
        asked: set when a request has arrived.
        gate: set by the test.
    """

    reply: Answer = None
    asked: asyncio.Event = field(factory=asyncio.Event)
    gate: asyncio.Event = field(factory=asyncio.Event)

    async def __call__(self, _: HttpRequest) -> Answer:
        """Answer one request, once the gate is open."""
        self.asked.set()
        await self.gate.wait()
        return self.reply


def answer_late(answer: Answer, seconds: float = 0.0) -> Callable[[HttpRequest], Awaitable[Answer]]:
    """Return a handler that gives this answer so many seconds later, one loop turn at least.

    An answer that comes at once may end a call before the next one of a `gather` begins.
    """

    async def handle(_: HttpRequest) -> Answer:
        await asyncio.sleep(seconds)
        return answer

    return handle


def _copy_error(error: WxPayError) -> WxPayError:
    copy = type(error)(error.reason)
    copy.retryable = error.retryable
    return copy


SIGNER: Final = RsaSigner.from_pem(PRIVATE_KEY.read_bytes())
"""Signs callbacks as the platform does; `VERIFIER` belongs to it."""
VERIFIER: Final = RsaVerifier.from_pem(PUBLIC_KEY.read_bytes())


def sign_callback(
    fields: dict[str, str],
    *,
    signer: Signer = SIGNER,
    at: float = NOON,
    app_key: str = APP_KEY,
    nonce: str = "n",
) -> dict[str, str]:
    """Add the envelope and the signature to the fields of a callback; given fields win.

    It is written by the published rule, without the package's help.
    """
    full = {
        "appKey": app_key,
        "nonce": nonce,
        "timestamp": str(round(at * 1000)),
        **({"signType": "RSA"} if signer.sign_type else {}),
        **fields,
    }
    named = sorted(name for name, value in full.items() if value and name != "sign")
    message = "&".join(f"{name}={full[name]}" for name in named)
    return {**full, "sign": str(signer.sign(message.encode()))}


def encode_callback(fields: dict[str, str]) -> bytes:
    """Encode the fields of a callback as a form, as they are."""
    return urlencode(fields).encode()
