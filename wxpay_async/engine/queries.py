"""Read on until an answer is complete: page by page, or again and again."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

from wxpay_async.adapters.limiters.limiter import Lane
from wxpay_async.engine.dispatcher import Dispatcher
from wxpay_async.errors import InDoubtError, InvalidRequestError, NotPaidError, WxPayError
from wxpay_async.protocol.builder import MERCHANTS
from wxpay_async.protocol.requests import TradeQuery
from wxpay_async.protocol.results import Merchant, MerchantPage, TradeStatus


async def iter_merchants(
    dispatcher: Dispatcher, *, page_size: int, timeout: float | None
) -> AsyncIterator[Merchant]:
    """Iterate over the sub-merchants; see `PayGateway.merchants`."""
    if type(page_size) is not int or page_size < 1:  # True is an int, too
        raise InvalidRequestError(f"{page_size!r:.24}", field="pageSize", allowed="1 or above")
    seen, listed, number = set[int](), 0, 1
    while True:
        params = {"pageSize": str(page_size), "currentPage": str(number)}
        page = await dispatcher.reader.read(MERCHANTS, params, MerchantPage, timeout=timeout)
        # A platform that does not page sends the same page each time, or says which one it is.
        strays = number > 1 and page.current_page not in {None, number}
        known = hash(page.merchants)  # of a page that was seen: its merchants need not be kept
        if not page.merchants or strays or known in seen:
            return
        seen.add(known)
        for merchant in page.merchants:
            yield merchant
        listed += len(page.merchants)
        if _is_last(page, number, listed, page_size):
            return
        number += 1


def _is_last(page: MerchantPage, number: int, listed: int, page_size: int) -> bool:
    if page.total and listed >= page.total:
        return True
    return number >= page.total_page if page.total_page else len(page.merchants) < page_size


async def poll_until_paid(
    dispatcher: Dispatcher, out_trade_no: str, *, timeout: float, every: float
) -> TradeStatus:
    """Query until the order was paid; see `PayGateway.wait_paid`."""
    _check_seconds("timeout", timeout)
    _check_seconds("every", every)
    query = TradeQuery(out_trade_no=out_trade_no)
    clock = dispatcher.clock
    deadline = clock.monotonic() + timeout
    last = "no query was answered"
    while True:
        # At least one attempt's time, since a shorter call is refused.
        left = max(
            dispatcher.retry.min_left,
            min(deadline - clock.monotonic(), dispatcher.timeouts.call),
        )
        try:
            status = await dispatcher.reader.query(query, timeout=left, lane=Lane.POLLING)
        except WxPayError as error:
            if not error.retryable:
                raise
        else:
            if status.state.was_paid:
                return status
            if status.state.ended_unpaid:
                raise NotPaidError(f"order {out_trade_no} ended as {status.status:.64}")
            last = f"the last query said {status.status:.64}"
        if clock.monotonic() + every > deadline:
            raise InDoubtError(f"order {out_trade_no} is not paid yet and still can be; {last}")
        await clock.sleep(every)


def _check_seconds(name: str, seconds: object) -> None:
    if not (isinstance(seconds, int | float) and 0 <= seconds < math.inf):
        raise InvalidRequestError(
            f"{seconds!r:.24} is no time to wait", field=name, allowed="seconds, 0 or above"
        )
