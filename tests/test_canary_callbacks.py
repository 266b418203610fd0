"""What a callback says of a payer is planted, and every place that shows anything is searched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
from attrs import define, field

from tests.support import replies
from tests.support.canaries import (
    OPENID,
    SECRET,
    Canaries,
    find_leaks,
    render_error,
    render_records,
)
from tests.support.clock import MovedClock
from tests.support.merchant import OpenShop
from tests.support.platform import (
    APP_KEY,
    FORM,
    SIGNER,
    VERIFIER,
    encode_callback,
    sign_callback,
)
from wxpay_async.engine.callbacks import CallbackEvent, CallbackReceiver, Verdict
from wxpay_async.errors import NotificationError
from wxpay_async.protocol.notify import Notifications, TradeNotification
from wxpay_async.protocol.signing import Md5Signer, Md5Verifier, Signer

REASON = "canary: the balance of a person"


@define(eq=False)
class Sender:
    """Signs callbacks about a payer in one scheme, and knows what must not be found of them."""

    signer: Signer
    notifications: Notifications
    canaries: Canaries = field(factory=dict)

    def body(self, **changes: str) -> bytes:
        """Sign a callback that holds more than a log may show."""
        fields = {
            "out_trade_no": "O-1",
            "inner_trade_no": "T-1",
            "trade_status": "TRADE_SUCCESS",
            "trade_amount": "1.00",
            "buyer": OPENID.rstrip("="),
            "failReason": REASON,
            **changes,
        }
        signed = sign_callback(fields, signer=self.signer, at=self.notifications.clock())
        self.canaries |= {
            "the openid": OPENID.rstrip("="),
            "the reason": REASON,
            "the secret": SECRET,
            "the signature": signed["sign"],
        }
        return encode_callback(signed)


@pytest.fixture(params=["rsa", "md5"])
def sender(request: pytest.FixtureRequest, clock: MovedClock) -> Sender:
    """Return what signs, and the notifications that verify it."""
    if request.param == "rsa":
        signer: Signer = SIGNER
        verifier: Any = VERIFIER
    else:
        signer, verifier = Md5Signer(SECRET), Md5Verifier(SECRET)
    return Sender(signer, Notifications(verifier, app_key=APP_KEY, clock=clock.time))


def catch_refusal(notifications: Notifications, body: Callable[[], bytes]) -> NotificationError:
    """Return what reading raises; the frame of this function holds nothing of the message."""
    try:
        notifications.parse(FORM, body())
    except NotificationError as error:
        return error
    raise AssertionError("it was believed")


WRONG: dict[str, Callable[[Sender], bytes]] = {
    "forged": lambda sender: sender.body().replace(b"1.00", b"0.01"),
    "a sign that is none": lambda sender: sender.body().replace(b"sign=", b"sign=%21"),
    "unsigned in part": lambda sender: sender.body().replace(b"nonce=n", b"nonce="),
    "of another": lambda sender: sender.body(appKey="another"),
    "ambiguous": lambda sender: sender.body(inner_trade_no="T&1"),
    "a field hidden in the reason": lambda sender: sender.body(failReason=f"{REASON}&a=b"),
    "from the future": lambda sender: sender.body(timestamp="9763870400000"),
    "no amount": lambda sender: sender.body(trade_amount="a lot"),
    "no number": lambda sender: sender.body(inner_trade_no=""),
    "twice": lambda sender: sender.body() + b"&buyer=" + urlencode({"": OPENID}).encode()[1:],
    "no form": lambda sender: sender.body() + b"&%ff",
    "too large": lambda sender: sender.body() + b"&a=" + b"x" * (64 << 10),
    "too many": lambda sender: sender.body() + b"".join(b"&f%d=1" % n for n in range(64)),
}


@pytest.mark.parametrize("why", WRONG)
def test_refusal_shows_nothing_of_the_message(why: str, sender: Sender) -> None:
    """Neither its text nor a frame of its traceback holds what the callback says."""
    error = catch_refusal(sender.notifications, lambda: WRONG[why](sender))

    assert [] == find_leaks(render_error(error), sender.canaries)


def test_notification_shows_nothing_of_a_payer(sender: Sender) -> None:
    """In a log line it names the order, not the person."""
    notification = sender.notifications.parse(FORM, sender.body())
    places = {"repr": repr(notification), "str": f"{notification}"}

    assert isinstance(notification, TradeNotification)
    assert REASON == notification.fail_reason
    assert "O-1" in places["repr"]
    assert [] == find_leaks(places, sender.canaries)


async def test_handling_shows_nothing_of_a_payer(
    sender: Sender, open_shop: OpenShop, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs at DEBUG, events of hooks and all of the inbox; whatever the handler does."""
    caplog.set_level(logging.DEBUG)
    shop, events = open_shop([replies.order("支付成功")] * 2), list[CallbackEvent]()
    failing = [LookupError("the shop's database is away")]

    async def handle(_: TradeNotification) -> None:
        await asyncio.sleep(0)
        if failing:
            raise failing.pop()

    receiver = CallbackReceiver(
        shop.gateway, sender.notifications, on_trade=handle, hooks=[events.append], clock=shop.clock
    )
    forged = sender.body().replace(b"1.00", b"0.01")
    for body in (forged, sender.body(), sender.body(), sender.body()):
        await receiver.receive(FORM, body)
    places = {
        "logs": render_records(caplog.records) + caplog.text,
        "events": "\n".join(f"{event!r} {event}" for event in [*events, *shop.events]),
        "the inbox": repr(shop.store._entries),
    }

    assert [Verdict.REFUSED, Verdict.FAILED, Verdict.HANDLED, Verdict.DUPLICATE] == [
        event.verdict for event in events
    ]
    assert "O-1" in places["logs"]
    assert "O-1" in places["the inbox"]
    assert [] == find_leaks(places, sender.canaries)


def test_search_finds_the_canaries_in_the_message(sender: Sender) -> None:
    """A search for what was never there proves nothing."""
    body = sender.body()
    fields = {name: values[0] for name, values in parse_qs(body.decode()).items()}

    assert ["the openid", "the reason", "the signature"] == [
        name for _, name in find_leaks({"it": "\n".join(fields.values())}, sender.canaries)
    ]
