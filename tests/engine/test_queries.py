"""Reading until an answer is complete: `merchants`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.merchant import OpenShop
from wxpay_async.errors import (
    InvalidRequestError,
)

# merchants


def make_page(ids: Sequence[int], number: int, total_page: int | None) -> dict[str, Any]:
    """Make the reply that is a page of merchants."""
    rows = [{"merchantId": f"m{n}", "merchantName": "店"} for n in ids]
    data = {"merchants": rows, "currentPage": number, "total": 5}
    if total_page is not None:
        data["totalPage"] = total_page
    return {"success": True, "data": data}


async def test_merchants_of_several_pages_are_all_found(open_shop: OpenShop) -> None:
    """Page after page, as long as the platform says that there are more."""
    pages = [make_page([0, 1], 1, 3), make_page([2, 3], 2, 3), make_page([4], 3, 3)]
    shop = open_shop(pages)
    found = [merchant.merchant_id async for merchant in shop.gateway.merchants(page_size=2)]

    assert [f"m{n}" for n in range(5)] == found
    assert [("2", "1"), ("2", "2"), ("2", "3")] == [
        (sent["pageSize"], sent["currentPage"]) for sent in shop.sent()
    ]


async def test_merchants_of_an_empty_page_are_none(open_shop: OpenShop) -> None:
    """An empty first page is the end, whatever the totals say."""
    shop = open_shop([make_page([], 1, 9)])

    assert [] == [merchant async for merchant in shop.gateway.merchants()]


async def test_merchants_are_fetched_page_by_page(open_shop: OpenShop) -> None:
    """A caller that stops after the first merchant asks for one page."""
    shop = open_shop([make_page([0, 1], 1, 3)])
    merchants = shop.gateway.merchants(page_size=2)
    assert "m0" == (await anext(merchants)).merchant_id
    await merchants.aclose()

    assert 1 == shop.transport.calls


async def test_merchants_after_a_full_page_without_a_total_are_asked_for(
    open_shop: OpenShop,
) -> None:
    """A platform that leaves totalPage out does not hide the rest."""
    shop = open_shop([make_page([0, 1], 1, None), make_page([2], 2, None)])
    found = [merchant.merchant_id async for merchant in shop.gateway.merchants(page_size=2)]

    assert ["m0", "m1", "m2"] == found


@pytest.mark.parametrize(
    ("pages", "expected", "calls"),
    [
        pytest.param([([0, 1], 1)], 2, 2, id="the same page for every number"),
        pytest.param([([0, 1], None)], 2, 2, id="the same page, without a number"),
        pytest.param([([0, 1], None), ([2, 3], None)] * 9, 4, 3, id="two pages in turn"),
        pytest.param([([0, 1], 1), ([2, 3], 1)], 2, 2, id="another page, by its number"),
        pytest.param([([0, 1], 0), ([2, 3], 2), ([4], 3)], 5, 3, id="a first page of any number"),
    ],
)
async def test_merchants_end_though_every_page_is_full(
    pages: list[tuple[list[int], int | None]],
    expected: int,
    calls: int,
    open_shop: OpenShop,
) -> None:
    """Without totals: a page that comes again, or says that it is another one, is the end."""

    def answer(_: object) -> dict[str, Any]:
        ids, number = pages.pop(0) if len(pages) > 1 else pages[0]
        page = make_page(ids, number or 0, None)
        del page["data"]["total"]
        if number is None:
            del page["data"]["currentPage"]
        return page

    shop = open_shop(answer)
    found = [merchant.merchant_id async for merchant in shop.gateway.merchants(page_size=2)]

    assert ([f"m{n}" for n in range(expected)], calls) == (found, shop.transport.calls)


async def test_merchants_end_with_the_total(open_shop: OpenShop) -> None:
    """Five are promised: after three pages of two there is nothing left to ask for."""
    numbers = iter(range(1, 100))

    def answer(_: object) -> dict[str, Any]:
        number = next(numbers)
        return make_page([2 * number, 2 * number + 1], number, None)

    shop = open_shop(answer)
    found = [merchant async for merchant in shop.gateway.merchants(page_size=2)]

    assert (6, 3) == (len(found), shop.transport.calls)


@pytest.mark.parametrize("page_size", [0, -1, 1.5, "2", True, None])
async def test_page_size_that_is_no_positive_integer_is_refused(
    page_size: object, open_shop: OpenShop
) -> None:
    """Refused before anything is sent."""
    shop = open_shop()
    with pytest.raises(InvalidRequestError, match="pageSize"):
        await anext(shop.gateway.merchants(page_size=page_size))

    assert 0 == shop.transport.calls
