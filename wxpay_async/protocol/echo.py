"""Check that a reply echoes the fields of its request.

What identifies (the numbers of requests, orders and trades) must be the same, character for
character: ours have no padding (`money-safety.md` §2), so a number with some is not ours. What
describes an order (`is_same_order`) is compared without white space at the ends.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from wxpay_async.errors import MalformedResponseError
from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay, Refund, Request, TradeQuery
from wxpay_async.protocol.results import RoyaltyShare, TradeRef, TradeStatus
from wxpay_async.protocol.validators import drop_hidden


def check_echo(request: Request, result: Any) -> None:  # noqa: ANN401 - the request's result
    """Withhold an answer that belongs to another request."""
    _check_same("requestId", request.request_id, result.request_id)
    if isinstance(request, MiniProgramPay):
        _check_same("appId", request.app_id, result.app_id)
        _check_row_of(request.out_trade_no, result.trade_res_list)
    elif isinstance(request, Refund):
        _check_same("outTradeNo", request.out_trade_no, result.out_trade_no)
    else:
        _check_rows_among({item.out_trade_no for item in request.trade_info}, result.trade_res_list)
        _check_amount(request, result.inst_amount)
        if result.request_id is None and not result.trade_res_list:
            raise _make_withheld_error("requestId", (), ())


def check_order(query: TradeQuery, status: TradeStatus) -> None:
    """Withhold what a query says of another order than the one it asked for."""
    _check_same("outTradeNo", query.out_trade_no, status.out_trade_no)
    _check_same("tradeNo", query.trade_no, status.trade_no)


def is_same_order(item: Mapping[str, Any], status: TradeStatus) -> bool:
    """Tell whether an order is what an item of `tradeInfo` asked for, in all that a query echoes.

    Args:
        item: as it was sent.
        status: what the platform holds under its number.
    """
    echoes: list[tuple[object, object]] = [
        (_trim(item["subject"]), _trim(status.subject)),
        (_trim(item["payeeIdentity"]), _trim(status.payee_identity)),
        (Decimal(item["price"]), status.price),
        (Decimal(item["totalAmount"]), status.total_amount),
        (
            item["quantity"],
            None if status.quantity is None else _trim_places(status.quantity),
        ),
    ]
    differ = any(echoed is not None and asked != echoed for asked, echoed in echoes)
    return not differ and _has_same_shares(item.get("royaltyInfo", ()), status.royalty_info)


def digest_order(status: TradeStatus) -> str:
    """Return a digest of what a query says of an order's content, to see the same again."""
    numbers = (status.price, status.total_amount)
    shares = sorted((_trim(s.payee_member_id) or "", str(s.amount)) for s in status.royalty_info)
    content = (
        status.out_trade_no,
        _trim(status.subject),
        _trim(status.payee_identity),
        *(None if number is None else f"{number.normalize():f}" for number in numbers),
        None if status.quantity is None else _trim_places(status.quantity),
        repr(shares),
    )
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def _check_amount(request: InstantTrade, amount: Decimal | None) -> None:
    # Which of the two instAmount repeats is documented nowhere; the page's sample differs.
    amounts = {sum(item.total_amount for item in request.trade_info), request.pay_method.amount}
    if amount is not None and amount not in amounts:
        raise _make_withheld_error("instAmount", (), ())


def _trim(text: str | None) -> str | None:
    return (text or "").strip() or None


def _trim_places(quantity: str) -> str:
    """Read 2.00 as 2, as both are two pieces."""
    whole, _, places = quantity.partition(".")
    return quantity if places.strip("0") else whole


def _has_same_shares(asked: Sequence[Mapping[str, Any]], echoed: Sequence[RoyaltyShare]) -> bool:
    if not echoed:  # an empty list may mean that the query does not tell
        return True
    if any(share.payee_member_id is None or share.amount is None for share in echoed):
        return len(asked) == len(echoed)
    wanted = Counter((share["payeeMemberId"], Decimal(share["amount"])) for share in asked)
    return wanted == Counter((_trim(share.payee_member_id), share.amount) for share in echoed)


def _check_row_of(number: str | None, rows: Sequence[TradeRef]) -> None:
    if number is None:
        return
    numbers = {row.out_trade_no for row in rows}
    if numbers and number not in numbers:
        raise _make_withheld_error("outTradeNo", [number], numbers)


def _check_rows_among(numbers: set[str], rows: Sequence[TradeRef]) -> None:
    for row in rows:
        if row.out_trade_no not in numbers:
            raise _make_withheld_error("outTradeNo", numbers, [row.out_trade_no])


def _check_same(name: str, sent: str | None, echoed: str | None) -> None:
    if sent is not None and echoed is not None and sent != echoed:
        raise _make_withheld_error(name, [sent], [echoed])


def _make_withheld_error(
    name: str, sent: Iterable[str], echoed: Iterable[str]
) -> MalformedResponseError:
    how = "is not the request's"
    if not {drop_hidden(text) for text in sent}.isdisjoint(map(drop_hidden, echoed)):
        how = "differs from the request's only in characters that do not show"
    return MalformedResponseError(f"the answer's {name} {how}: it is withheld", retryable=False)
