"""Wait for a part of the gateway no longer than the call may: nothing outlasts its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from wxpay_async.errors import NotSentTimeoutError, WxPayError

T = TypeVar("T")


async def wait_for(
    part: str,
    waited_for: Awaitable[T],
    seconds: float,
    *,
    error_type: type[WxPayError] = NotSentTimeoutError,
) -> T:
    """Wait for the answer of a part that a call needs.

    Args:
        part: whose answer it is, for the text of the error.
        waited_for: the answer; cancelled when it comes too late.
        seconds: what is left of the call's time for it.
        error_type: what is true of the call when it takes too long.

    Raises:
        NotSentTimeoutError: it took too long, by default.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await waited_for
    except TimeoutError as error:
        if isinstance(error, WxPayError) or not limit.expired():
            raise
        raise error_type(f"the {part} did not answer in the time of the call") from error
