"""Do what the buttons of console and cashier say."""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping
from typing import Final

from attrs import define, field, frozen

from wxpay_async.errors import InvalidRequestError, PrepayExpiredError
from wxpay_async.sandbox.callbacks import CallbackSender
from wxpay_async.sandbox.console.journal import Journal, OrderKey
from wxpay_async.sandbox.console.views import STATES, find_trade, view_delivery
from wxpay_async.sandbox.fault_input import read_fault_form, read_number
from wxpay_async.sandbox.payer import NO_FUNDS
from wxpay_async.sandbox.state import Status

NOT_OF_THE_FAULT: Final = ("token", "act", "back", "lang", "app", "order")
"""Parameters of an act that orders a fault which are no fields of it."""

IN_VAIN: Final = ("wrong_password", "leave", "bad_parameters")
"""What a payer can do without changing the order."""

_MAX_SECONDS: Final = 31 * 86_400.0


@frozen(kw_only=True)
class ActResult:
    """What came of an act.

    Attributes:
        status: of HTTP.
        state: of the order afterwards, one of `STATES`; empty if there is none.
        text: what to tell the person, empty for nothing.
    """

    status: int = 200
    state: str = ""
    text: str = ""

    def to_json(self) -> dict[str, object]:
        """Return it for a script."""
        return {"ok": self.status < 400, "state": self.state, "text": self.text}  # noqa: PLR2004


@define(eq=False, kw_only=True)
class Acts:
    """Perform acts.

    Attributes:
        journal: where they are noted.
        callbacks: sends callbacks again.
        token: what an act must repeat.
    """

    journal: Journal
    callbacks: CallbackSender
    token: str = field(repr=False)

    async def perform(self, params: Mapping[str, str], texts: Mapping[str, str]) -> ActResult:
        """Perform an act.

        Args:
            params: `token`, `act`, and `app` and `order`, or `seconds`.
            texts: the words of the reader's language.
        """
        if not hmac.compare_digest(params.get("token", "").encode(), self.token.encode()):
            return ActResult(status=403, text=texts["stale_page"])
        act, key = params.get("act", ""), (params.get("app", ""), params.get("order", ""))
        if act in ("advance", "order_fault", "clear_faults"):
            return self._change_sandbox(act, params, texts)
        if act == "resend":
            return await self._resend(key, texts)
        trade = find_trade(self.journal, key)
        if trade is None:
            return ActResult(status=404, text=texts["not_found"])
        if act in IN_VAIN:
            self.journal.note_act(key, act)
            return ActResult(state=STATES[trade.status])
        return self._act_as_payer(act, key, texts)

    def _change_sandbox(
        self, act: str, params: Mapping[str, str], texts: Mapping[str, str]
    ) -> ActResult:
        """Advance its time, or order faults and take them back."""
        if act == "advance":
            return self._advance(params.get("seconds", ""), texts)
        faults = self.journal.platform.faults
        fields = {name: text for name, text in params.items() if name not in NOT_OF_THE_FAULT}
        try:
            if act == "order_fault":
                faults.inject(read_fault_form(fields))
            else:
                faults.clear(read_number(fields.get("number", "")))
        except InvalidRequestError as error:
            return ActResult(status=400, text=str(error))
        return ActResult()

    def _act_as_payer(self, act: str, key: OrderKey, texts: Mapping[str, str]) -> ActResult:
        app_key, number = key
        platform = self.journal.platform
        try:
            match act:
                case "confirm":
                    status = platform.confirm(number, app_key=app_key)
                case "cancel":
                    status = platform.cancel(number, app_key=app_key)
                case "insufficient":
                    status = platform.cancel(number, app_key=app_key, reason=NO_FUNDS)
                case "expire":
                    status = platform.expire(number, app_key=app_key)
                case _:
                    return ActResult(status=400, text=texts["try_again"])
        except PrepayExpiredError:
            return ActResult(status=409, state="expired", text=texts["prepay_expired"])
        return ActResult(state=STATES[status])

    def _advance(self, seconds: str, texts: Mapping[str, str]) -> ActResult:
        try:
            value = float(seconds)
        except ValueError:
            value = math.nan
        if not 0.0 < value <= _MAX_SECONDS:
            return ActResult(status=400, text=texts["bad_number"])
        self.journal.platform.advance(value)
        return ActResult()

    async def _resend(self, key: OrderKey, texts: Mapping[str, str]) -> ActResult:
        """Send the callback about an order or a refund once more, now."""
        app_key, number = key
        trade = find_trade(self.journal, key)
        if trade is not None and trade.status is Status.AWAITING:
            return ActResult(status=409, text=texts["not_ended"])
        try:
            callback = self.journal.platform.build_callback(number, app_key=app_key)
        except InvalidRequestError:
            return ActResult(status=404, text=texts["not_found"])
        if self.journal.platform.apps[app_key].notify_url is None:
            return ActResult(status=409, text=texts["no_notify_url"])
        view = view_delivery(await self.callbacks.send_once(callback))
        return ActResult(text=f"{texts[view.result]} · {view.status}")
