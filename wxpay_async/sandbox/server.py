"""Serve the sandbox over HTTP, with aiohttp's low-level server around `Platform`.

Besides the platform's endpoints it serves people: the console at `/`, the cashier of each order,
`/wx-pay.js`, and the plain page of `payer_pages`. They need no credentials, so every process that
can reach the port can use them; by default these are the processes of this machine. Merchants with
a `notify_url` get callbacks. `Sandbox.faults` queues faults of callbacks and replies.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self, TypeVar

from aiohttp import web
from Crypto.PublicKey import RSA

from wxpay_async.protocol.keys import KeyData
from wxpay_async.protocol.signing import RsaSigner
from wxpay_async.protocol.wire import is_loopback
from wxpay_async.sandbox.answers import Answers
from wxpay_async.sandbox.auth import App, Scheme
from wxpay_async.sandbox.callback_payloads import Callback
from wxpay_async.sandbox.callbacks import SCHEDULE, CallbackSender, Delivery
from wxpay_async.sandbox.console.feed import Feed
from wxpay_async.sandbox.console.journal import Journal, SeenCall
from wxpay_async.sandbox.console.site import Console
from wxpay_async.sandbox.fault_kinds import Forgery
from wxpay_async.sandbox.fault_queue import CallbackFault, Faults
from wxpay_async.sandbox.faults import Fault
from wxpay_async.sandbox.handler import Handler
from wxpay_async.sandbox.platform import Platform
from wxpay_async.sandbox.state_file import StateFile

_KEY_BITS: Final = 2048
_KEEP_ALIVE: Final = 75.0
_GRACE: Final = 0.25  # seconds; when it closes, only injected delays are still in progress
_ANY_ADDRESS: Final[Mapping[str, str]] = MappingProxyType(
    {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - only compared here
)

SandboxEvent = SeenCall | Delivery | tuple[Callback, CallbackFault]
"""A call, a callback that was sent, or one that a fault changes."""

_T = TypeVar("_T")


def _ignore_event(event: SandboxEvent) -> None:
    """Do nothing with an event: no observer was given."""


@functools.cache
def _make_key() -> RSA.RsaKey:
    """Make one key for all sandboxes of the process: it takes seconds and protects nothing."""
    return RSA.generate(_KEY_BITS)


class Sandbox:
    """Run a simulated platform on loopback, in this process.

    Args:
        host: where to listen.
        port: 0 for any free one.
        app_key: the first merchant.
        app_secret: its secret; random when None.
        merchant_public_key: verifies its RSA signatures; None if it signs by MD5 only.
        quota: calls that an appKey may make in any window, None for no limit.
        quota_window: seconds.
        pay_key: signs the prepays; generated on start when None.
        clock: seconds since the epoch.
        notify_url: where the first merchant takes callbacks, None for no callbacks.
        notify_remote: whether callbacks may go to another machine.
        callback_schedule: real seconds before each delivery of a callback.
        callback_scheme: how the callbacks to the first merchant are signed; None for RSA if it
            has a public key, else MD5.
        callback_key: signs callbacks by RSA; the pay key when None.
        faults: what goes wrong, from the start.
        fault_seed: what their chance is drawn from.
        magic: whether magic openids and amounts act.
        other_payer_refused: whether a pay is refused whose openid is not that of its trade.
        state_file: where its orders are kept, None to forget them with the process.
        on_event: called with each call, each delivery of a callback, and each callback that a
            fault changes.

    Attributes:
        platform: the platform behind the server: orders, ledger, switches.
        callbacks: sends the callbacks, and keeps a log of its deliveries.
        faults: the faults that are ordered; more can be.
        app_key: the first merchant.
        app_secret: its secret.

    Raises:
        InvalidKeyError: the merchant's public key cannot be used.
        InvalidRequestError: `notify_url` is not an address on loopback, or the state file cannot
            be used.
        ValueError: the schedule is empty, or a time in it is negative or not finite.
    """

    _signer: RsaSigner | None = None
    _callback_signer: RsaSigner | None = None
    _runner: web.ServerRunner | None = None

    def __init__(  # noqa: PLR0913 - a test sets the one or two that it needs
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
        faults: Iterable[Fault] = (),
        fault_seed: int = 0,
        magic: bool = True,
        other_payer_refused: bool = False,
        state_file: Path | None = None,
        on_event: Callable[[SandboxEvent], None] = _ignore_event,
    ) -> None:
        self.platform = Platform(
            clock=clock,
            token=functools.partial(secrets.token_hex, 16),
            sign_pay=self._sign_pay,
            quota=quota,
            quota_window=quota_window,
            faults=Faults(fault_seed),
            magic=magic,
        )
        self.platform.operations.other_payer_refused = other_payer_refused
        self.faults = self.platform.faults
        self.faults.inject_all(faults)
        self.callbacks = self._make_sender(callback_schedule)
        self._on_event = on_event
        self._console = self._make_console()
        self.platform.notify = self._notify
        self._notify_remote = notify_remote
        self._app = self.add_app(
            app_key,
            app_secret=app_secret,
            merchant_public_key=merchant_public_key,
            notify_url=notify_url,
            callback_scheme=callback_scheme,
        )
        self.app_key, self.app_secret = self._app.app_key, self._app.app_secret
        self._state_file = StateFile(state_file, self.platform) if state_file else None
        if self._state_file:
            self._state_file.load()
        self._host, self._port = host, port
        remote = not is_loopback(_build_origin(host))
        self._handler = Handler(platform=self.platform, console=self._console, remote=remote)
        self._pay_key, self._callback_key = pay_key, callback_key

    def __repr__(self) -> str:
        return f"Sandbox({self.app_key!r}, url={self.platform.url or None!r})"

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
        """Listen. A closed sandbox may be started again; it keeps its orders and its ledger.

        Raises:
            OSError: the address is taken.
            RuntimeError: it is running.
        """
        if self._runner is not None:
            raise RuntimeError("the sandbox is running")
        if self._pay_key is None:
            self._pay_key = await asyncio.to_thread(_make_key)
        self._signer = RsaSigner(self._pay_key)
        key = self._callback_key  # loading one takes 10 to 30 ms, so the pay key is used for both
        self._callback_signer = self._signer if key is None else RsaSigner(key)
        server = web.Server(self._handler.handle, access_log=None, keepalive_timeout=_KEEP_ALIVE)
        self._runner = web.ServerRunner(server, shutdown_timeout=_GRACE)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError:
            await self.aclose()
            raise
        self.platform.url = _build_url(*self._runner.addresses[0][:2])
        await self.callbacks.start()
        if self._state_file:
            self._state_file.start()

    async def aclose(self) -> None:
        """Stop listening and sending callbacks, and close every connection. May be called twice."""
        self._console.feed.close()
        await self.callbacks.aclose()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        if self._state_file:
            await self._state_file.aclose()

    @property
    def url(self) -> str:
        """The base URL; raises `RuntimeError` before the first start."""
        return _require_started(self.platform.url)

    @property
    def pay_public_key(self) -> str:
        """The PEM that verifies paySign; raises `RuntimeError` before the first start."""
        return _export_public_key(_require_started(self._pay_key))

    @property
    def callback_public_key(self) -> str:
        """The PEM that verifies callbacks by RSA; raises `RuntimeError` before the first start."""
        if self._callback_key is None:
            return self.pay_public_key
        return _export_public_key(self._callback_key)

    @property
    def notify_url(self) -> str | None:
        """Where the first merchant takes callbacks; a new address applies at once.

        Setting it raises `InvalidRequestError` when it is not an address on loopback.
        """
        return self._app.notify_url

    @notify_url.setter
    def notify_url(self, url: str | None) -> None:
        self._app.notify_url = url

    def settings(self) -> dict[str, str]:
        """Return the environment variables with which a gateway finds this sandbox."""
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
        """Register another merchant, with a quota, an account and callbacks of its own.

        Raises:
            InvalidRequestError: the appKey is taken, something is empty, or `notify_url` is not
                an address on loopback.
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
        """Wait until no callback is pending: each is acknowledged or given up.

        Raises:
            RuntimeError: one is pending, and the sandbox is not running.
        """
        await self.callbacks.wait_until_idle()

    async def send_forged(self, kind: Forgery | str, out_trade_no: str) -> Delivery:
        """Send one forged callback about an order or a refund, once.

        It contains the status of the order. If the order awaits payment, it says "paid".

        Returns:
            What the merchant answered. It should not be `acknowledged`.

        Raises:
            InvalidRequestError: there is no such order, or its merchant has no address.
            RuntimeError: the sandbox is not running.
            ValueError: there is no such forgery.
        """
        callback = self.platform.build_callback(out_trade_no)
        return await self.callbacks.send_once(callback, forgery=Forgery(kind))

    def confirm(self, out_trade_no: str) -> None:
        """Let the payer confirm: every trade of the purchase is paid, once.

        Raises:
            InvalidRequestError: there is no such order.
            PrepayExpiredError: the payer has no valid prepay.
        """
        self.platform.confirm(out_trade_no)

    def cancel(self, out_trade_no: str) -> None:
        """Let the payer decline; raises `InvalidRequestError` when there is no such order."""
        self.platform.cancel(out_trade_no)

    def expire(self, out_trade_no: str) -> None:
        """Let the order's time run out; raises `InvalidRequestError` when there is none."""
        self.platform.expire(out_trade_no)

    def advance(self, seconds: float) -> None:
        """Let orders and prepays become older; those whose time is over are closed.

        Requests and callbacks are fresh or stale by the clock as before.

        Raises:
            ValueError: negative or not finite.
        """
        self.platform.advance(seconds)

    def _make_console(self) -> Console:
        feed = Feed()

        def note_call(call: SeenCall) -> None:
            feed.add(call)
            self._on_event(call)

        def note_delivery(delivery: Delivery) -> None:
            journal.note_delivery(delivery)
            self._on_event(delivery)

        def note_callback_fault(callback: Callback, fault: CallbackFault) -> None:
            self._on_event((callback, fault))

        journal = Journal(platform=self.platform, on_order=feed.add, on_call=note_call)
        self.platform.observe = journal.note_call
        self.platform.observe_fault = journal.note_fault
        self.callbacks.on_delivery = note_delivery
        self.callbacks.on_fault = note_callback_fault
        return Console(
            journal=journal,
            feed=feed,
            callbacks=self.callbacks,
            answers=Answers(self.platform),
            public_key=lambda: self.pay_public_key,
            token=self.platform.token(),
        )

    def _notify(self, callback: Callback) -> None:
        self._console.journal.note_callback(callback)
        self.callbacks.enqueue(callback)

    def _make_sender(self, schedule: Sequence[float]) -> CallbackSender:
        return CallbackSender(
            apps=self.platform.apps,
            clock=self.platform.clock,
            token=self.platform.token,
            sign_rsa=self._sign_callback,
            schedule=schedule,
            faults=self.faults,
        )

    def _sign_pay(self, message: bytes) -> str:
        return _require_started(self._signer).sign(message)

    def _sign_callback(self, message: bytes) -> str:
        return _require_started(self._callback_signer).sign(message)


def _require_started(value: _T | None) -> _T:
    if not value:
        raise RuntimeError("the sandbox was not started")
    return value


def _build_url(host: str, port: int) -> str:
    return f"{_build_origin(_ANY_ADDRESS.get(host, host))}:{port}"


def _build_origin(host: str) -> str:
    return f"http://[{host}]" if ":" in host else f"http://{host}"


def _export_public_key(key: RSA.RsaKey) -> str:
    return key.public_key().export_key("PEM").decode("ascii")
