"""Parts for the tests of a shop: a sandbox in a thread, a clock to move, signed callbacks.

The pytest plugin (`integrations/pytest.py`) makes fixtures of them. Without pytest:

    clock = SettableClock()
    with ThreadedSandbox(pay_key=make_key(), clock=clock.time) as sandbox:
        gateway = make_gateway(sandbox, clock=clock)
        callbacks = Callbacks(sandbox, clock, make_key())
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Unpack
from urllib.parse import urlencode

from attrs import define, field, frozen
from Crypto.PublicKey import RSA

from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.environment import GatewayOptions
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.integrations.settable_clock import SettableClock
from wxpay_async.integrations.threaded_sandbox import ThreadedSandbox
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.notify import Notifications
from wxpay_async.protocol.signing import Md5Signer, RsaSigner, RsaVerifier
from wxpay_async.sandbox.callback_payloads import (
    PAID,
    REFUNDED,
    Callback,
    CallbackSigner,
    Nonce,
    forge_callback,
    format_time,
)
from wxpay_async.sandbox.fault_kinds import Forgery
from wxpay_async.sandbox.server import Sandbox

__all__ = [
    "Callbacks",
    "Forgery",
    "SettableClock",
    "SignedCallback",
    "ThreadedSandbox",
    "load_key",
    "make_gateway",
    "make_key",
]

_KEY_BITS: Final = 2048
_QUICK: Final = RetryPolicy(base=0.01, cap=0.05)
_FORM: Final = "application/x-www-form-urlencoded"


@functools.cache
def make_key() -> RSA.RsaKey:
    """Return the platform's key of this process; making it takes a second or more, once."""
    return RSA.generate(_KEY_BITS)


def load_key(folder: Path) -> RSA.RsaKey:
    """Return the platform's key that a folder keeps, so that the next run need not make one.

    In a folder that cannot be written no key is kept. A key that cannot be read is replaced.
    """
    path = folder / "platform.pem"
    with contextlib.suppress(OSError, ValueError):
        return RSA.import_key(path.read_bytes())
    key = make_key()
    with contextlib.suppress(OSError):
        _write_private(path, key.export_key("PEM"))
    return key


def _write_private(path: Path, content: bytes) -> None:
    """Write a file for its owner only, in one piece: other processes of the run may read it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    Path(name).replace(path)


# The gateway


def make_gateway(sandbox: Sandbox, **options: Unpack[GatewayOptions]) -> PayGateway:
    """Make a gateway to a sandbox: without a quota, and with short pauses between its attempts.

    Args:
        sandbox: the platform.
        **options: the keyword arguments of `PayGateway`, which win.
    """
    given: GatewayOptions = {"base_url": sandbox.url, "limiter": Unlimited(), "retry": _QUICK}
    merged: GatewayOptions = {**given, **options}
    return PayGateway(sandbox.app_key, Md5Signer(sandbox.app_secret), **merged)


# The callbacks


@frozen(kw_only=True)
class SignedCallback:
    """A callback as it arrives: hand both to a `TestClient`, or to `CallbackReceiver.receive`.

    Attributes:
        body: the raw bytes, a form.
        headers: of the HTTP request.
    """

    body: bytes = field(repr=False)
    headers: Mapping[str, str]


@define(eq=False)
class Callbacks:
    """Makes the platform's callbacks, signed by RSA. Nothing is sent.

    Each has a nonce and a timestamp of its own, so that the same news can come twice.

    Args:
        sandbox: the platform.
        clock: tells the timestamps, and whether `notifications` takes them for fresh.
        key: the platform's, with which the sandbox was made.

    Attributes:
        notifications: reads them, as the shop's own would: it has the platform's public key.
    """

    sandbox: Sandbox
    clock: Clock
    _key: RSA.RsaKey = field(repr=False)
    notifications: Notifications = field(init=False)
    _signer: CallbackSigner = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        public = self._key.public_key().export_key("PEM")
        self.notifications = Notifications(
            RsaVerifier.from_pem(public), app_key=self.sandbox.app_key, clock=self.clock.time
        )
        self._signer = CallbackSigner(
            scheme="rsa",
            signers={
                "rsa": RsaSigner(self._key).sign,
                "md5": Md5Signer(self.sandbox.app_secret).sign,
            },
        )

    def about(
        self, out_trade_no: str, *, forgery: Forgery | str | None = None, age: float = 0.0
    ) -> SignedCallback:
        """Tell what became of an order or a refund at the sandbox.

        Of an order that awaits payment it says "paid": with a forgery, or to see that a shop which
        queries is not deceived.

        Args:
            out_trade_no: the order's number, or the refund's own.
            forgery: what is wrong with it, None for a genuine one.
            age: seconds that have passed since it was signed.

        Raises:
            InvalidRequestError: there is no such order or refund.
            ValueError: there is no such forgery.
        """
        return self._sign(self.sandbox.platform.build_callback(out_trade_no), forgery, age)

    def payment(
        self,
        out_trade_no: str,
        amount: str = "1.00",
        *,
        status: str = PAID,
        forgery: Forgery | str | None = None,
        age: float = 0.0,
        **fields: str,
    ) -> SignedCallback:
        """Tell the end of a payment, whether the sandbox has the order or not.

        Args:
            out_trade_no: the order's number.
            amount: yuan.
            status: `TRADE_SUCCESS`, `TRANSFER_FAIL` or `TRADE_CLOSED`.
            forgery: what is wrong with it, None for a genuine one.
            age: seconds that have passed since it was signed.
            **fields: further fields by the platform's names, or other values of these.

        Raises:
            ValueError: there is no such forgery.
        """
        written = {
            "out_trade_no": out_trade_no,
            "inner_trade_no": f"T-{out_trade_no}",
            "trade_status": status,
            "trade_amount": amount,
            "gmt_payment": self._now() if status == PAID else "",
            **fields,
        }
        return self._sign(self._make("trade", out_trade_no, written), forgery, age)

    def refund(
        self,
        out_trade_no: str,
        amount: str = "1.00",
        *,
        order: str,
        status: str = REFUNDED,
        forgery: Forgery | str | None = None,
        age: float = 0.0,
        **fields: str,
    ) -> SignedCallback:
        """Tell the end of a refund, whether the sandbox has it or not.

        Args:
            out_trade_no: the refund's own number.
            amount: yuan.
            order: the number of the order that was paid.
            status: `REFUND_SUCCESS` or `REFUND_FAIL`.
            forgery: what is wrong with it, None for a genuine one.
            age: seconds that have passed since it was signed.
            **fields: as of `payment`.

        Raises:
            ValueError: there is no such forgery.
        """
        written = {
            "orig_outer_trade_no": order,
            "out_trade_no": out_trade_no,
            "inner_trade_no": f"T-{out_trade_no}",
            "refund_status": status,
            "refund_amount": amount,
            "gmt_refund": self._now(),
            **fields,
        }
        return self._sign(self._make("refund", out_trade_no, written), forgery, age)

    def _make(self, kind: str, out_trade_no: str, fields: Mapping[str, str]) -> Callback:
        return Callback(
            app_key=self.sandbox.app_key, kind=kind, out_trade_no=out_trade_no, fields=fields
        )

    def _now(self) -> str:
        return format_time(self.clock.time())

    def _sign(
        self, callback: Callback, forgery: Forgery | str | None, age: float
    ) -> SignedCallback:
        at = round((self.clock.time() - age) * 1000)
        nonce = Nonce(value=secrets.token_hex(16), timestamp=at)
        if forgery is None:
            pairs = list(self._signer.sign(callback, nonce).items())
        else:
            pairs = forge_callback(Forgery(forgery), callback, signer=self._signer, nonce=nonce)
        return SignedCallback(body=urlencode(pairs).encode(), headers={"Content-Type": _FORM})
