"""The sandbox over HTTP: aiohttp's low-level server around `Platform`, and nothing else.

Beside the platform's endpoints it serves the payer: `GET /sandbox` is a page with buttons,
`POST /sandbox/confirm`, `/sandbox/cancel` and `/sandbox/expire` take `outTradeNo=`, and
`GET /sandbox/ledger` tells what was executed. These are for whoever can reach the port, which is
this machine unless told otherwise.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from types import MappingProxyType, TracebackType
from typing import Final, Self

from aiohttp import web
from Crypto.PublicKey import RSA

from wxpay_async.errors import InvalidRequestError, PrepayExpiredError
from wxpay_async.protocol.keys import KeyData
from wxpay_async.protocol.signing import RsaSigner
from wxpay_async.protocol.wire import SANDBOX_MARKER
from wxpay_async.sandbox.accounts import App, Call, read_pairs
from wxpay_async.sandbox.cashier import render
from wxpay_async.sandbox.platform import Platform
from wxpay_async.sandbox.refusals import RefusalError
from wxpay_async.sandbox.replies import encode
from wxpay_async.sandbox.state import Entry, Status

_JSON: Final = "application/json;charset=UTF-8"
_HTML: Final = "text/html;charset=UTF-8"
_KEY_BITS: Final = 2048
_KEEP_ALIVE: Final = 75.0
_PAGE: Final = "/sandbox"
_ANY_ADDRESS: Final[Mapping[str, str]] = MappingProxyType(
    {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read here, bound only if asked for
)
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"

Act = Callable[..., Status]


@functools.cache
def _process_key() -> RSA.RsaKey:
    """Make one key for all sandboxes of the process: it takes up to seconds and guards nothing."""
    return RSA.generate(_KEY_BITS)


class Sandbox:
    """Run a whole platform on loopback, in this process.

    Args:
        host: where to listen.
        port: 0 for any free one.
        app_key: the first merchant.
        app_secret: its secret; random when None.
        merchant_public_key: with which it signs by RSA, if it does.
        quota: calls that an appKey may make in any window, None for no limit.
        quota_window: seconds.
        pay_key: signs the prepays; generated on start when None.
        clock: seconds since the epoch.

    Attributes:
        platform: everything behind the HTTP: orders, ledger, switches.
        app_key: the first merchant.
        app_secret: its secret.

    Raises:
        InvalidKeyError: the merchant's public key cannot be used.
    """

    def __init__(  # noqa: PLR0913 - a test sets the one or two that it is about
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        app_key: str = "sandbox-app-key",
        app_secret: str | None = None,
        merchant_public_key: KeyData | None = None,
        quota: int | None = 400,
        quota_window: float = 60.0,
        pay_key: RSA.RsaKey | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.platform = Platform(
            clock=clock,
            token=functools.partial(secrets.token_hex, 16),
            sign_pay=self._sign_pay,
            quota=quota,
            quota_window=quota_window,
        )
        app = self.add_app(app_key, app_secret=app_secret, merchant_public_key=merchant_public_key)
        self.app_key, self.app_secret = app.app_key, app.app_secret
        self._host, self._port = host, port
        self._pay_key = pay_key
        self._signer: RsaSigner | None = None
        self._runner: web.ServerRunner | None = None
        self._date = (-1, "")
        self._acts: Mapping[str, Act] = {
            f"{_PAGE}/confirm": self.platform.confirm,
            f"{_PAGE}/cancel": self.platform.cancel,
            f"{_PAGE}/expire": self.platform.expire,
        }

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Listen. A sandbox that was closed may be started again; its books stay.

        Raises:
            OSError: the address is taken.
            RuntimeError: it is running.
        """
        if self._runner is not None:
            raise RuntimeError("the sandbox is running")
        if self._pay_key is None:
            self._pay_key = await asyncio.to_thread(_process_key)
        self._signer = RsaSigner(self._pay_key)
        server = web.Server(self._handle, access_log=None, keepalive_timeout=_KEEP_ALIVE)
        self._runner = web.ServerRunner(server)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError:
            await self.aclose()
            raise
        self.platform.url = _url(*self._runner.addresses[0][:2])

    async def aclose(self) -> None:
        """Stop listening and close every connection. May be called twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @property
    def url(self) -> str:
        """The base URL; raises `RuntimeError` before the first start."""
        if not self.platform.url:
            raise RuntimeError("the sandbox was not started")
        return self.platform.url

    @property
    def pay_public_key(self) -> str:
        """The PEM that verifies paySign; raises `RuntimeError` before the first start."""
        if self._pay_key is None:
            raise RuntimeError("the sandbox was not started")
        return self._pay_key.public_key().export_key("PEM").decode("ascii")

    def settings(self) -> dict[str, str]:
        """Return the environment by which a gateway finds this sandbox."""
        return {
            "WXPAY_BASE_URL": self.url,
            "WXPAY_APP_KEY": self.app_key,
            "WXPAY_APP_SECRET": self.app_secret,
        }

    def add_app(
        self,
        app_key: str,
        *,
        app_secret: str | None = None,
        merchant_public_key: KeyData | None = None,
    ) -> App:
        """Register another merchant, with a quota and books of its own.

        Raises:
            InvalidRequestError: the appKey is taken, or something is empty.
            InvalidKeyError: the public key cannot be used.
        """
        return self.platform.add_app(
            app_key,
            app_secret=secrets.token_hex(16) if app_secret is None else app_secret,
            merchant_public_key=merchant_public_key,
        )

    def confirm(self, out_trade_no: str) -> None:
        """Let the payer confirm: every trade of the purchase is paid, once.

        Raises:
            InvalidRequestError: there is no such order.
            PrepayExpiredError: the payer holds no prepay that is still alive.
        """
        self.platform.confirm(out_trade_no)

    def cancel(self, out_trade_no: str) -> None:
        """Let the payer decline; raises `InvalidRequestError` when there is no such order."""
        self.platform.cancel(out_trade_no)

    def expire(self, out_trade_no: str) -> None:
        """Let the order's time run out; raises `InvalidRequestError` when there is none."""
        self.platform.expire(out_trade_no)

    def _sign_pay(self, message: bytes) -> str:
        if self._signer is None:
            raise RuntimeError("the sandbox was not started")
        return self._signer.sign(message)

    # HTTP

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        path = request.path
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self._respond(encode({"error": "the body is too large"}), status=413)
        call = Call(
            method=request.method,
            path=path,
            query=request.rel_url.raw_query_string,
            body=body,
            content_type=request.headers.get("Content-Type", ""),
            address=request.remote or "",
        )
        if path in self.platform.operations:
            return self._respond(encode(self.platform.answer(call)))
        return self._serve_payer(call)

    def _serve_payer(self, call: Call) -> web.Response:
        match call.method, call.path:
            case "GET", "/sandbox":
                return self._respond(self._page(), kind=_HTML)
            case "GET", "/sandbox/ledger":
                return self._respond(encode([_line(entry) for entry in self.platform.ledger]))
            case "POST", path if path in self._acts:
                return self._act(call, self._acts[path])
            case _:
                return self._respond(encode({"error": "there is nothing here"}), status=404)

    def _act(self, call: Call, act: Act) -> web.Response:
        try:
            params = read_pairs(call)
            status = act(params.get("outTradeNo", ""), app_key=params.get("appKey") or None)
        except RefusalError as error:
            return self._respond(encode({"error": error.message}), status=400)
        except InvalidRequestError as error:
            return self._respond(encode({"error": str(error)}), status=404)
        except PrepayExpiredError as error:
            return self._respond(encode({"error": str(error)}), status=409)
        if params.get("page"):
            response = self._respond(b"", status=303)
            response.headers["Location"] = _PAGE
            return response
        return self._respond(encode({"status": str(status)}))

    def _page(self) -> bytes:
        return render(self.platform.orders()).encode()

    def _respond(self, body: bytes, *, status: int = 200, kind: str = _JSON) -> web.Response:
        headers = {"Content-Type": kind, SANDBOX_MARKER: "1", "Date": self._http_date()}
        if kind is _HTML:
            headers["Content-Security-Policy"] = _POLICY
        return web.Response(body=body, status=status, headers=headers)

    def _http_date(self) -> str:
        """Format the time once a second: the clock is the sandbox's, not the machine's."""
        second = int(self.platform.clock())
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]


def _url(host: str, port: int) -> str:
    host = _ANY_ADDRESS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _line(entry: Entry) -> dict[str, object]:
    return {
        "kind": entry.kind,
        "appKey": entry.app_key,
        "requestId": entry.request_id,
        "outTradeNos": entry.out_trade_nos,
        "amount": str(entry.amount),
        "at": entry.at,
    }
