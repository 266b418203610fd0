"""Serve the payer without scripts and without the extra: `/sandbox` and what programs post to.

`GET /sandbox` is a page with buttons, `POST /sandbox/confirm`, `/sandbox/cancel` and
`/sandbox/expire` take `outTradeNo=`, and `GET /sandbox/ledger` lists what was executed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import web
from attrs import define

from wxpay_async.errors import InvalidRequestError, PrepayExpiredError
from wxpay_async.sandbox.answers import HTML, Answers
from wxpay_async.sandbox.auth import IncomingRequest, read_pairs
from wxpay_async.sandbox.cashier import render_page
from wxpay_async.sandbox.error_codes import RefusalError
from wxpay_async.sandbox.platform import Platform
from wxpay_async.sandbox.responses import encode_json
from wxpay_async.sandbox.state import LedgerEntry, Status

PayerAction = Callable[..., Status]
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"


@define(eq=False)
class PayerPages:
    """Serve the plain pages of a platform's payers."""

    platform: Platform
    answers: Answers

    def serve(self, incoming: IncomingRequest) -> web.Response | None:
        """Answer a request; None if there is nothing here."""
        match incoming.method, incoming.path:
            case "GET", "/sandbox":
                page = render_page(self.platform.iter_orders())
                headers = {"Content-Security-Policy": _POLICY}
                return self.answers.build(page.encode(), content_type=HTML, headers=headers)
            case "GET", "/sandbox/ledger":
                entries = [describe_entry(entry) for entry in self.platform.ledger]
                return self.answers.build(encode_json(entries))
            case "POST", "/sandbox/confirm":
                return self._act(incoming, self.platform.confirm)
            case "POST", "/sandbox/cancel":
                return self._act(incoming, self.platform.cancel)
            case "POST", "/sandbox/expire":
                return self._act(incoming, self.platform.expire)
            case _:
                return None

    def _act(self, incoming: IncomingRequest, action: PayerAction) -> web.Response:
        try:
            params = read_pairs(incoming)
            status = action(params.get("outTradeNo", ""), app_key=params.get("appKey") or None)
        except RefusalError as error:
            return self.answers.build_error(error.message, status=400)
        except InvalidRequestError as error:
            return self.answers.build_error(str(error), status=404)
        except PrepayExpiredError as error:
            return self.answers.build_error(str(error), status=409)
        if params.get("page"):
            return self.answers.build_redirect("/sandbox")
        return self.answers.build(encode_json({"status": str(status)}))


def describe_entry(entry: LedgerEntry) -> dict[str, object]:
    """Return a line of the ledger for a program."""
    return {
        "kind": entry.kind,
        "appKey": entry.app_key,
        "requestId": entry.request_id,
        "outTradeNos": entry.out_trade_nos,
        "amount": str(entry.amount),
        "at": entry.at,
    }
