"""Read on until an answer is complete: page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator

from wxpay_async.engine.dispatcher import Dispatcher
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.builder import MERCHANTS
from wxpay_async.protocol.results import Merchant, MerchantPage


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
