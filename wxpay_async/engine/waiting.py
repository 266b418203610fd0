"""Wait for a part of the gateway no longer than the call may: nothing outlasts its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

from wxpay_async.errors import (
    InDoubtError,
    InDoubtTimeoutError,
    NotSentError,
    NotSentTimeoutError,
    WxPayError,
)

E = TypeVar("E", bound=WxPayError)
T = TypeVar("T")

_TIMEOUTS: Final[Mapping[type[WxPayError], Any]] = MappingProxyType(
    {NotSentError: NotSentTimeoutError, InDoubtError: InDoubtTimeoutError}
)


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


async def measure(
    part: str,
    answer: Awaitable[T],
    monotonic: Callable[[], float],
    tell: Callable[[str, float], None],
) -> T:
    """Wait for the answer of a part, and tell for how long.

    Args:
        part: whose answer it is.
        answer: what is waited for.
        monotonic: seconds that only grow.
        tell: told the part and the seconds, also where no answer came; not of a wait of nothing.
    """
    began = monotonic()
    try:
        return await answer
    finally:
        seconds = monotonic() - began
        if seconds > 0:
            tell(part, seconds)


def as_timeout(error: E) -> E:
    """Return the error of a call whose time is over, as one that is a `TimeoutError` too.

    Where its class says more than its parent's, it stays as it is.
    """
    kind = _TIMEOUTS.get(type(error))
    if kind is None:
        return error
    late: E = kind(error.reason)
    vars(late).update(vars(error))
    return late
