"""A merchant's server for callbacks, and a careful check of each callback by hand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from tests.sandbox.raw_merchant import canonical_text, sign_md5, verify_by_openssl
from wxpay_async.sandbox import Sandbox

ACKNOWLEDGED = (200, b'{"status": 1}')
REFUSED = (200, b'{"status": 0}')
FAST = (0, 0.001, 0.001)
"""A schedule that no test has to wait for."""

_STATUS = ("trade_status", "refund_status")
_ENVELOPE = {"appKey", "nonce", "timestamp", "sign", "signType"}
_FRESH_MS = 300_000

Form = list[tuple[str, str]]
Settings = dict[str, Any]
"""The arguments of a sandbox."""

Answer = tuple[int, bytes] | Callable[[web.BaseRequest], Awaitable[tuple[int, bytes]]]


class CallbackShop:
    """Answers callbacks from a list, and acknowledges them when the list is used up."""

    def __init__(self) -> None:
        self.forms: list[Form] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.arrived = asyncio.Semaphore(0)
        self.answers: deque[Answer] = deque()
        self.closing = asyncio.Event()
        self.url = ""
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)

    async def start(self) -> None:
        """Listen on loopback."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/notify"

    async def aclose(self) -> None:
        """Stop listening, and end answers that hang."""
        self.closing.set()
        await self._runner.cleanup()

    async def hang(self, request: web.BaseRequest) -> tuple[int, bytes]:
        """Do not answer until the test is over."""
        del request
        await self.closing.wait()
        return ACKNOWLEDGED

    async def reset(self, request: web.BaseRequest) -> tuple[int, bytes]:
        """Close the connection instead of answering."""
        request.transport.abort()
        return ACKNOWLEDGED

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        """Number and status of each callback, in the order of arrival."""
        return [
            (dict(form)["out_trade_no"], next(v for k, v in form if k in _STATUS))
            for form in self.forms
        ]

    @property
    def numbers(self) -> list[str]:
        """The number of each callback, in the order of arrival."""
        return [number for number, _ in self.outcomes]

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        self.forms.append(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
        self.headers.append(dict(request.headers))
        self.paths.append(request.path)
        self.arrived.release()
        answer = self.answers.popleft() if self.answers else ACKNOWLEDGED
        status, content = answer if isinstance(answer, tuple) else await answer(request)
        headers = {"Location": f"{self.url}/elsewhere"} if status == 302 else None
        return web.Response(status=status, body=content, headers=headers)


def business_fields(form: Form) -> dict[str, str]:
    """Return the fields of a callback without those of the envelope."""
    return {k: v for k, v in form if k not in _ENVELOPE}


def is_signed_by_md5(form: Form, secret: str) -> bool:
    """Return whether the MD5 signature of a callback is right."""
    return dict(form)["sign"] == sign_md5(dict(form), secret)


def is_signed_by_rsa(form: Form, public_key: str, folder: Path) -> bool:
    """Return whether the openssl program accepts the RSA signature of a callback."""
    params = dict(form)
    return params.get("signType") == "RSA" and verify_by_openssl(
        canonical_text(params), params["sign"], public_key, folder
    )


def is_genuine(form: Form, sandbox: Sandbox, folder: Path, *, rsa: bool) -> bool:
    """Check a callback as a careful merchant does."""
    params = dict(form)
    if len(params) < len(form) or params.get("appKey") != sandbox.app_key or not params.get("sign"):
        return False
    if abs(int(params["timestamp"]) - sandbox.platform.clock() * 1000) > _FRESH_MS:
        return False
    if rsa:
        return is_signed_by_rsa(form, sandbox.callback_public_key, folder)
    return is_signed_by_md5(form, sandbox.app_secret)
