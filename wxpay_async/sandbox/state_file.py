"""Keep the state of a sandbox in a file, so that its orders outlive it.

The file is JSON, for its owner only: it holds payTokens and openids. It is written within a second
after a change and at the end, in one piece. Nonces, quotas, faults and callbacks that are pending
are not kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import cattrs
from attrs import define, field, frozen

from wxpay_async.errors import InvalidRequestError
from wxpay_async.sandbox.platform_state import PlatformState
from wxpay_async.sandbox.request_parsing import Item
from wxpay_async.sandbox.state import LedgerEntry, Prepay, Purchase, Refund, Status, Trade

_VERSION: Final = 1
_MAX_BYTES: Final = 256 * 2**20
_PERIOD: Final = 1.0  # seconds between two looks for a change


@frozen(kw_only=True)
class _SavedTrade:
    item: Item
    trade_no: str
    refunded: Decimal


@frozen(kw_only=True)
class _SavedPurchase:
    app_key: str
    pay_token: str
    amount: Decimal
    closes_at: float | None
    scannable: bool
    openid: str
    created_at: float
    fail_reason: str
    ended_at: float | None
    status: Status
    trades: list[_SavedTrade]
    prepays: list[Prepay]


@frozen(kw_only=True)
class _SavedRefund:
    item: Item
    trade_no: str
    app_key: str
    order: str
    at: float


@frozen(kw_only=True)
class _SavedState:
    version: int
    advance_by: float
    last_number: int
    purchases: list[_SavedPurchase]
    refunds: list[_SavedRefund]
    ledger: list[LedgerEntry]


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_unstructure_hook(Decimal, str)
    converter.register_structure_hook(Decimal, lambda value, _: Decimal(value))
    return converter


_CONVERTER: Final = _make_converter()


@define(eq=False)
class StateFile:
    """A file with the state of a platform.

    Attributes:
        path: where it is.
        state: what is kept.
    """

    path: Path
    state: PlatformState
    _written: int = field(init=False, default=0)
    _task: asyncio.Task[None] | None = field(init=False, default=None)

    def load(self) -> None:
        """Take over what the file holds; nothing if there is no file.

        Raises:
            InvalidRequestError: it cannot be read, is none of a sandbox, or has orders of an
                appKey that is not registered.
        """
        try:
            if self.path.exists():
                _restore(self.state, _read(self.path))
        except OSError as error:
            raise self._refuse(f"cannot be read ({error.strerror})") from error
        except (ValueError, TypeError, KeyError, cattrs.BaseValidationError) as error:
            raise self._refuse("is no state of a sandbox") from error
        self._written = self.state.changes

    def save(self) -> None:
        """Write the state, if it changed since the last time.

        Raises:
            InvalidRequestError: the file cannot be written.
        """
        changes = self.state.changes
        if changes == self._written:
            return
        text = json.dumps(_CONVERTER.unstructure(_save(self.state)), ensure_ascii=False)
        try:
            _write(self.path, text.encode())
        except OSError as error:
            raise self._refuse(f"cannot be written ({error.strerror})") from error
        self._written = changes

    def start(self) -> None:
        """Write each change from now on, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._save_regularly())

    async def aclose(self) -> None:
        """Write what changed last. May be called twice. Raises as `save` does."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            self.save()

    async def _save_regularly(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD)
            with contextlib.suppress(InvalidRequestError):  # a full disk: the last write tells
                self.save()

    def _refuse(self, reason: str) -> InvalidRequestError:
        return InvalidRequestError(
            reason, field=str(self.path), allowed="a file that a sandbox wrote, or none"
        )


def _read(path: Path) -> _SavedState:
    with path.open("rb") as file:
        text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise ValueError("too large")
    content: Any = json.loads(text)
    if content["version"] != _VERSION:
        raise ValueError("of another version")
    return _CONVERTER.structure(content, _SavedState)


def _write(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _save(state: PlatformState) -> _SavedState:
    accounts = list(state.iter_accounts())
    return _SavedState(
        version=_VERSION,
        advance_by=state.advance_by,
        last_number=state.last_number,
        purchases=[
            _save_purchase(purchase)
            for account in accounts
            for purchase in account.purchases.values()
        ],
        refunds=[
            _save_refund(refund) for account in accounts for refund in account.refunds.values()
        ],
        ledger=state.ledger,
    )


def _save_purchase(purchase: Purchase) -> _SavedPurchase:
    return _SavedPurchase(
        app_key=purchase.app_key,
        pay_token=purchase.pay_token,
        amount=purchase.amount,
        closes_at=purchase.closes_at,
        scannable=purchase.scannable,
        openid=purchase.openid,
        created_at=purchase.created_at,
        fail_reason=purchase.fail_reason,
        status=purchase.status,  # reading it may end it, so it comes before the time of its end
        ended_at=purchase.ended_at,
        trades=[
            _SavedTrade(item=trade.item, trade_no=trade.trade_no, refunded=trade.refunded)
            for trade in purchase.trades
        ],
        prepays=purchase.prepays,
    )


def _save_refund(refund: Refund) -> _SavedRefund:
    return _SavedRefund(
        item=refund.item,
        trade_no=refund.trade_no,
        app_key=refund.trade.purchase.app_key,
        order=refund.trade.out_trade_no,
        at=refund.at,
    )


def _restore(state: PlatformState, saved: _SavedState) -> None:
    owners = {each.app_key for each in saved.purchases}
    owners |= {each.app_key for each in saved.refunds}
    owners |= {each.app_key for each in saved.ledger}
    if not owners <= set(state.apps):
        raise ValueError("of another appKey")
    state.advance_by, state.last_number = saved.advance_by, saved.last_number
    for purchase in saved.purchases:
        _restore_purchase(state, purchase)
    for each in saved.refunds:
        account = state.find_account(each.app_key)
        trade = account.trades[each.order]
        account.add_refund(Refund(item=each.item, trade_no=each.trade_no, trade=trade, at=each.at))
    for entry in saved.ledger:
        state.ledger.append(entry)
        if entry.request_id:
            state.find_account(entry.app_key).entries[entry.request_id] = entry


def _restore_purchase(state: PlatformState, saved: _SavedPurchase) -> None:
    purchase = Purchase(
        app_key=saved.app_key,
        pay_token=saved.pay_token,
        amount=saved.amount,
        closes_at=saved.closes_at,
        scannable=saved.scannable,
        openid=saved.openid,
        prepays=saved.prepays,
        clock=state.now,
        on_change=state.notify_end,
        created_at=saved.created_at,
        fail_reason=saved.fail_reason,
    )
    purchase.restore(saved.status, saved.ended_at)
    purchase.trades.extend(
        Trade(item=each.item, trade_no=each.trade_no, purchase=purchase, refunded=each.refunded)
        for each in saved.trades
    )
    state.find_account(saved.app_key).add_purchase(purchase)
    state.prepays.update((prepay.prepay_id, prepay) for prepay in saved.prepays)
