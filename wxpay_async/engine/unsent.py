"""Say "not sent" only of what no other call or process can have sent (`money-safety.md` §4)."""

from __future__ import annotations

import contextlib
from typing import Final

from wxpay_async.adapters.stores.store import IdempotencyStore
from wxpay_async.engine.replay import SettledMeanwhileError
from wxpay_async.engine.waiting import as_timeout, wait_for
from wxpay_async.errors import InDoubtError, InProgressError, NotSentError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State

LAST_WORD: Final = 0.5
"""Seconds that the store has to say what a call ended with, also where its time is over."""


async def check_unsent(
    store: IdempotencyStore,
    known: IdempotencyRecord,
    epoch: int,
    error: NotSentError,
    *,
    seconds: float,
) -> None:
    """Let "not sent" stand only if no other process can have sent the operation.

    While a call waits for quota it holds no lease, so another process may send meanwhile.

    Args:
        store: where the operation stands.
        known: the operation as the call left it.
        epoch: of the operation when the call began.
        error: what the call ended with.
        seconds: what is left of the call's time.

    Raises:
        InDoubtError: the operation was claimed by another, or the store cannot tell.
    """
    try:
        stored = await wait_for("store", store.load(known.key), max(seconds, LAST_WORD))
    except NotSentError:
        raise make_unknown(error) from error
    if stored is None:  # forgotten: it may have been sent, and have ended
        raise make_unknown(error) from error
    ours = stored.epoch == known.epoch > epoch  # and no attempt of ours was sent
    unsent = stored.state is State.RESERVED and not stored.in_doubt
    if not ours and not unsent:
        raise make_unknown(error) from error


async def explain_refused_claim(
    store: IdempotencyStore, key: tuple[str, str], *, seconds: float
) -> InProgressError | SettledMeanwhileError:
    """Return why an operation could not be claimed.

    That another process had it first is known, also where the store fails now.
    """
    with contextlib.suppress(NotSentError):
        stored = await wait_for("store", store.load(key), seconds)
        if stored is not None and stored.is_settled:
            return SettledMeanwhileError(stored)
    return InProgressError("another process is sending this requestId")


async def load_or_doubt(store: IdempotencyStore, key: tuple[str, str]) -> IdempotencyRecord | None:
    """Return the record of an operation that may have been sent, None if there is none.

    Raises:
        InDoubtError: the store cannot tell; "not sent" would be true of the question only.
    """
    try:
        return await store.load(key)
    except NotSentError as error:
        raise make_unknown(error) from error


def make_unknown(error: NotSentError) -> InDoubtError:
    """Make the doubt about a call that sent nothing, of an operation that may have been sent."""
    doubt = InDoubtError(
        f"nothing was sent now, and whether it was sent before is not known: {error.reason}",
        retryable=error.retryable,
    )
    doubt.attempts = error.attempts
    return as_timeout(doubt) if isinstance(error, TimeoutError) else doubt
