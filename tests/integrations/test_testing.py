"""The gateway and the callbacks of the plugin, and the key that is kept."""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from Crypto.PublicKey import RSA

from tests.support import asking
from tests.support.purchases import KEY, buy
from wxpay_async import (
    InvalidRequestError,
    NotificationError,
    PayGateway,
    RefundNotification,
    TradeNotification,
)
from wxpay_async.integrations import testing
from wxpay_async.integrations.testing import (
    Callbacks,
    Forgery,
    SettableClock,
    ThreadedSandbox,
    load_key,
    make_gateway,
)

REFUSED = sorted(set(Forgery) - {Forgery.BARE})


@pytest.fixture(name="moved")
def settable_clock() -> SettableClock:
    """Return a clock that runs, and that a test moves."""
    return SettableClock()


@pytest.fixture
def sandbox(moved: SettableClock) -> Iterator[ThreadedSandbox]:
    """Run a sandbox in a thread."""
    with ThreadedSandbox(
        pay_key=KEY, quota=None, clock=moved.time, callback_scheme="rsa"
    ) as running:
        yield running


@pytest.fixture
def gateway(sandbox: ThreadedSandbox, moved: SettableClock) -> Iterator[PayGateway]:
    """Make a gateway to the sandbox, which is closed afterwards."""
    made = make_gateway(sandbox, clock=moved)
    yield made
    sandbox.run(made.aclose())


@pytest.fixture
def callbacks(sandbox: ThreadedSandbox, moved: SettableClock) -> Callbacks:
    """Make callbacks of the sandbox."""
    return Callbacks(sandbox, moved, KEY)


# The callbacks


def test_payment_is_authentic(callbacks: Callbacks) -> None:
    """And says what the test says."""
    callback = callbacks.payment("O-7", "12.50", failReason="")

    read = callbacks.notifications.parse(callback.headers, callback.body)

    assert isinstance(read, TradeNotification)
    assert ("O-7", Decimal("12.50"), "paid") == (read.out_trade_no, read.trade_amount, read.state)
    assert (True, True) == (read.authentic, read.fresh)
    assert read.gmt_payment is not None


def test_payment_that_failed_has_no_time(callbacks: Callbacks) -> None:
    """A status of one's own, and a field of the platform."""
    callback = callbacks.payment("O-7", status="TRANSFER_FAIL", failReason="余额不足")

    read = callbacks.notifications.parse(callback.headers, callback.body)

    assert isinstance(read, TradeNotification)
    assert ("failed", "余额不足", None) == (read.state, read.fail_reason, read.gmt_payment)


def test_refund_is_authentic(callbacks: Callbacks) -> None:
    """It names the order that was paid."""
    callback = callbacks.refund("R-7", "0.50", order="O-7")

    read = callbacks.notifications.parse(callback.headers, callback.body)

    assert isinstance(read, RefundNotification)
    assert ("R-7", "O-7", Decimal("0.50"), "refunded", True) == (
        read.out_trade_no,
        read.orig_outer_trade_no,
        read.refund_amount,
        read.state,
        read.authentic,
    )


@pytest.mark.parametrize("forgery", REFUSED)
def test_forgery_is_refused(forgery: Forgery, callbacks: Callbacks) -> None:
    """Each kind, of a payment and of a refund."""
    made = [
        callbacks.payment("O-1", forgery=forgery),
        callbacks.refund("R-1", order="O-1", forgery=str(forgery)),
    ]

    for callback in made:
        with pytest.raises(NotificationError):
            callbacks.notifications.parse(callback.headers, callback.body)


def test_bare_callback_is_a_hint_only(callbacks: Callbacks) -> None:
    """Nothing proves it."""
    callback = callbacks.payment("O-1", forgery="bare")

    assert not callbacks.notifications.parse(callback.headers, callback.body).verified


def test_forgery_that_does_not_exist_is_told(callbacks: Callbacks) -> None:
    """A typing mistake must not make a genuine one."""
    with pytest.raises(ValueError, match="signatur"):
        callbacks.payment("O-1", forgery="signatur")


def test_same_news_comes_twice(callbacks: Callbacks) -> None:
    """With another nonce, as the platform repeats it."""
    bodies = [callbacks.payment("O-1").body for _ in range(2)]

    assert 2 == len({re.search(b"nonce=([^&]+)", body)[1] for body in bodies})  # type: ignore[index]


@pytest.mark.parametrize(("age", "fresh"), [(0.0, True), (301.0, False)])
def test_callback_has_an_age(age: float, fresh: bool, callbacks: Callbacks) -> None:  # noqa: FBT001 - the case
    """One that was under way for long is genuine and not fresh."""
    callback = callbacks.payment("O-1", age=age)

    assert fresh is callbacks.notifications.parse(callback.headers, callback.body).fresh


def test_callback_ages_by_the_clock(callbacks: Callbacks, moved: SettableClock) -> None:
    """The shop reads it by the clock that the test moves."""
    callback = callbacks.payment("O-1")
    moved.move(301)

    assert not callbacks.notifications.parse(callback.headers, callback.body).fresh


async def test_callback_tells_what_became_of_an_order(
    callbacks: Callbacks, gateway: PayGateway, sandbox: ThreadedSandbox
) -> None:
    """And of a refund, by its own number."""
    await buy(gateway)
    sandbox.confirm("O-1")
    await gateway.refund(asking.refund())

    read = [
        callbacks.notifications.parse(each.headers, each.body)
        for each in (callbacks.about("O-1"), callbacks.about("R-1"))
    ]

    assert ["paid", "refunded"] == [notification.state for notification in read]
    with pytest.raises(InvalidRequestError):
        callbacks.about("O-9")


# The key


def test_key_is_kept_for_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making one takes seconds. Only its owner reads it."""
    monkeypatch.setattr(testing, "make_key", lambda: KEY)
    load_key(tmp_path)
    monkeypatch.setattr(testing, "make_key", lambda: pytest.fail("made again"))

    assert KEY == load_key(tmp_path)
    files = list(tmp_path.iterdir())
    assert ["platform.pem"] == [file.name for file in files]
    assert sys.platform == "win32" or 0o600 == stat.S_IMODE(files[0].stat().st_mode)


def test_key_that_cannot_be_read_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache may hold anything."""
    monkeypatch.setattr(testing, "make_key", lambda: KEY)
    (tmp_path / "platform.pem").write_text("rubbish")

    assert KEY == load_key(tmp_path)
    assert KEY == RSA.import_key((tmp_path / "platform.pem").read_bytes())


def test_folder_that_cannot_be_written_keeps_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on without."""
    monkeypatch.setattr(testing, "make_key", lambda: KEY)

    assert KEY == load_key(tmp_path / "absent")


def test_key_is_made_once() -> None:
    """For a process, at the size that verifiers take."""
    made = testing.make_key()

    assert made is testing.make_key()
    assert 2048 == made.size_in_bits()
