"""Render the page on which a person acts as the payer; all text from requests is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import islice
from string import Template
from typing import Final

from wxpay_async.sandbox.state import Status, Trade

MAX_ROWS: Final = 200

_PAGE: Final = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sandbox cashier</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #ccc; padding: .4rem .6rem; text-align: left; }
form { display: inline; }
</style>
</head>
<body>
<h1>Sandbox cashier</h1>
<p>No money moves here. Latest orders first, $limit at most.
<a href="/sandbox/ledger">Ledger</a></p>
<table>
<thead><tr><th>appKey</th><th>outTradeNo</th><th>Subject</th><th>Yuan</th><th>Status</th><th></th></tr></thead>
<tbody>
$rows
</tbody>
</table>
</body>
</html>
""")

_ROW: Final = Template(
    "<tr><td>$app_key</td><td>$number</td><td>$subject</td><td>$amount</td><td>$status</td>"
    "<td>$buttons</td></tr>"
)

_BUTTON: Final = Template(
    '<form method="post" action="/sandbox/$action">'
    '<input type="hidden" name="outTradeNo" value="$number">'
    '<input type="hidden" name="appKey" value="$app_key">'
    '<input type="hidden" name="page" value="1">'
    "<button>$action</button></form>"
)


def render_page(trades: Iterable[Trade]) -> str:
    """Return the page for orders; the latest must come first."""
    rows = "\n".join(_render_row(trade) for trade in islice(trades, MAX_ROWS))
    return _PAGE.substitute(rows=rows or "<tr><td>No orders yet.</td></tr>", limit=MAX_ROWS)


def _render_row(trade: Trade) -> str:
    number, app_key = escape(trade.out_trade_no), escape(trade.purchase.app_key)
    awaiting = trade.status is Status.AWAITING
    return _ROW.substitute(
        app_key=app_key,
        number=number,
        subject=escape(trade.item.subject),
        amount=trade.amount,
        status=trade.status,
        buttons=" ".join(
            _BUTTON.substitute(action=action, number=number, app_key=app_key)
            for action in ("confirm", "cancel", "expire")
            if awaiting
        ),
    )
