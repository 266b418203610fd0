"""What every answer of the sandbox has: marker, type, and the date by its own clock."""

from email.utils import parsedate_to_datetime

import aiohttp

from tests.sandbox.raw_merchant import MERCHANTS
from tests.support.clock import MovedClock
from wxpay_async.sandbox import Sandbox


async def test_answer_has_marker_type_and_date(
    session: aiohttp.ClientSession, sandbox: Sandbox, clock: MovedClock
) -> None:
    """Every answer names the sandbox, its time by its own clock, and JSON in UTF-8."""
    clock.move(86400)
    for path in (MERCHANTS, "/nowhere", "/sandbox/ledger"):
        async with session.get(sandbox.url + path) as answer:
            assert answer.headers["X-Wxpay-Sandbox"] == "1"
            assert answer.headers["Content-Type"] == "application/json;charset=UTF-8"
            date = parsedate_to_datetime(answer.headers["Date"])
            assert date.timestamp() == clock.time()


async def test_date_header_follows_the_clock_in_both_directions(
    session: aiohttp.ClientSession, sandbox: Sandbox, clock: MovedClock
) -> None:
    """The Date header follows the clock, forth and back."""
    dates = []
    for seconds in (0, 1, -3600):
        clock.move(seconds)
        async with session.get(sandbox.url + "/sandbox/ledger") as answer:
            dates.append(parsedate_to_datetime(answer.headers["Date"]).timestamp() - clock.time())
    assert dates == [0, 0, 0]
