"""The sandbox over HTTP: aiohttp's low-level server around `Platform`, and nothing else.

Beside the platform's endpoints it serves the payer: `GET /sandbox` is a page with buttons,
`POST /sandbox/confirm`, `/sandbox/cancel` and `/sandbox/expire` take `outTradeNo=`, and
`GET /sandbox/ledger` tells what was executed. These are for whoever can reach the port, which is
this machine unless told otherwise. Merchants with a `notify_url` are told what became of their
orders; what shall go wrong with that, or with replies, is asked of `Sandbox.faults`.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from types import MappingProxyType, TracebackType
from typing import Final, Self

from aiohttp import web
from Crypto.PublicKey import RSA

from wxpay_async.errors import InvalidRequestError, PrepayExpiredError
from wxpay_async.protocol.keys import KeyData
from wxpay_async.protocol.signing import RsaSigner
from wxpay_async.protocol.wire import SANDBOX_MARKER
from wxpay_async.sandbox.auth import App, Call, Scheme, read_pairs
from wxpay_async.sandbox.callback_payloads import refund_notice, trade_notice
from wxpay_async.sandbox.callbacks import SCHEDULE, Callbacks, Delivery
from wxpay_async.sandbox.cashier import render
from wxpay_async.sandbox.error_codes import Code, RefusalError
from wxpay_async.sandbox.fault_injection import spoil
from wxpay_async.sandbox.faults import Faults, Forgery, ReplyFaultKind
from wxpay_async.sandbox.platform import Platform
from wxpay_async.sandbox.responses import encode, failure
from wxpay_async.sandbox.state import Entry, Status

_JSON: Final = "application/json;charset=UTF-8"
_HTML: Final = "text/html;charset=UTF-8"
_KEY_BITS: Final = 2048
_KEEP_ALIVE: Final = 75.0
_GRACE: Final = 0.25  # only a reply that is late on request is still under way when it closes
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
        notify_url: where the first merchant takes callbacks, None for nowhere.
        notify_remote: whether callbacks may go to another machine.
        callback_schedule: real seconds before each delivery of a callback.
        callback_scheme: how the first merchant's are signed; None for RSA where it has a public
            key, MD5 otherwise.
        callback_key: signs callbacks by RSA; the pay key when None.

    Attributes:
        platform: everything behind the HTTP: orders, ledger, switches.
        callbacks: what was delivered, and a log of it.
        faults: what shall go wrong with replies and callbacks.
        app_key: the first merchant.
        app_secret: its secret.

    Raises:
        InvalidKeyError: the merchant's public key cannot be used.
        InvalidRequestError: `notify_url` is no address on loopback.
        ValueError: the schedule is empty, or holds something that is no time to wait.
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
        notify_url: str | None = None,
        notify_remote: bool = False,
        callback_schedule: Sequence[float] = SCHEDULE,
        callback_scheme: Scheme | None = None,
        callback_key: RSA.RsaKey | None = None,
    ) -> None:
        self.platform = Platform(
            clock=clock,
            token=functools.partial(secrets.token_hex, 16),
            sign_pay=self._sign_pay,
            quota=quota,
            quota_window=quota_window,
        )
        self.faults = Faults()
        self.callbacks = Callbacks(
            apps=self.platform.apps,
            clock=clock,
            token=self.platform.token,
            sign_rsa=self._sign_callback,
            schedule=callback_schedule,
            faults=self.faults,
        )
        self.platform.tell = self.callbacks.tell
        self._notify_remote = notify_remote
        self._app = self.add_app(
            app_key,
            app_secret=app_secret,
            merchant_public_key=merchant_public_key,
            notify_url=notify_url,
            callback_scheme=callback_scheme,
        )
        self.app_key, self.app_secret = self._app.app_key, self._app.app_secret
        self._host, self._port = host, port
        self._pay_key, self._callback_key = pay_key, callback_key
        self._signer: RsaSigner | None = None
        self._callback_signer: RsaSigner | None = None
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
        key = self._callback_key  # loading one costs 10 to 30 ms, so the pay key serves twice
        self._callback_signer = self._signer if key is None else RsaSigner(key)
        server = web.Server(self._handle, access_log=None, keepalive_timeout=_KEEP_ALIVE)
        self._runner = web.ServerRunner(server, shutdown_timeout=_GRACE)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError:
            await self.aclose()
            raise
        self.platform.url = _url(*self._runner.addresses[0][:2])
        await self.callbacks.start()

    async def aclose(self) -> None:
        """Stop listening and telling, and close every connection. May be called twice."""
        await self.callbacks.aclose()
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
        return _public_pem(self._pay_key)

    @property
    def callback_public_key(self) -> str:
        """The PEM that verifies callbacks by RSA; raises `RuntimeError` before the first start."""
        if self._callback_key is None:
            return self.pay_public_key
        return _public_pem(self._callback_key)

    @property
    def notify_url(self) -> str | None:
        """Where the first merchant takes callbacks, at once when it is set.

        Setting it raises `InvalidRequestError` when it is no address on loopback.
        """
        return self._app.notify_url

    @notify_url.setter
    def notify_url(self, url: str | None) -> None:
        self._app.notify_url = url

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
        notify_url: str | None = None,
        callback_scheme: Scheme | None = None,
    ) -> App:
        """Register another merchant, with a quota, books and callbacks of its own.

        Raises:
            InvalidRequestError: the appKey is taken, something is empty, or `notify_url` is no
                address on loopback.
            InvalidKeyError: the public key cannot be used.
        """
        return self.platform.add_app(
            app_key,
            app_secret=secrets.token_hex(16) if app_secret is None else app_secret,
            merchant_public_key=merchant_public_key,
            notify_url=notify_url,
            notify_remote=self._notify_remote,
            callback_scheme=callback_scheme,
        )

    async def callbacks_idle(self) -> None:
        """Wait until no callback is waiting: each is acknowledged, or given up.

        Raises:
            RuntimeError: one is waiting, and the sandbox is not running.
        """
        await self.callbacks.idle()

    async def send_forged(self, kind: Forgery | str, out_trade_no: str) -> Delivery:
        """Send one forged callback about an order or a refund, once.

        It says what has become of the order; of one that awaits payment, that it is paid.

        Returns:
            What the merchant answered. It should not be `acknowledged`.

        Raises:
            InvalidRequestError: there is no such order, or its merchant has no address.
            RuntimeError: the sandbox is not running.
            ValueError: there is no such forgery.
        """
        trade = self.platform.trades.get(out_trade_no)
        refund = self.platform.refunds.get(out_trade_no)
        if trade is not None:
            return await self.callbacks.send(trade_notice(trade), forgery=Forgery(kind))
        if refund is not None:
            return await self.callbacks.send(refund_notice(refund), forgery=Forgery(kind))
        raise InvalidRequestError(
            "there is no such order", field="outTradeNo", allowed="an order of the sandbox"
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

    def _sign_callback(self, message: bytes) -> str:
        if self._callback_signer is None:
            raise RuntimeError("the sandbox was not started")
        return self._callback_signer.sign(message)

    # HTTP

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
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
            return await self._serve_merchant(request, call)
        return self._serve_payer(call)

    async def _serve_merchant(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        fault = self.faults.next_reply(call.path)
        if fault is None:
            return self._respond(encode(self.platform.answer(call)))
        reply = self.platform.answer(call) if fault.executed else None
        await asyncio.sleep(fault.seconds)
        if fault.mishap is ReplyFaultKind.DELAY and reply is None:
            reply = self.platform.answer(call)
        if reply is None:
            reply = failure(RefusalError(Code.INTERRUPTED))
        return await spoil(request, self._respond(encode(reply)), fault.mishap)

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


def _public_pem(key: RSA.RsaKey) -> str:
    return key.public_key().export_key("PEM").decode("ascii")


def _line(entry: Entry) -> dict[str, object]:
    return {
        "kind": entry.kind,
        "appKey": entry.app_key,
        "requestId": entry.request_id,
        "outTradeNos": entry.out_trade_nos,
        "amount": str(entry.amount),
        "at": entry.at,
    }
