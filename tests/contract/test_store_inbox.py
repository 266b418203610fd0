"""Check that every store is an inbox: each callback is handled once."""

from __future__ import annotations

import asyncio

from tests.contract.stores import Place, warm_stores
from tests.support.records import NOW
from wxpay_async.adapters.stores.inbox import INBOX_RETENTION, Receipt
from wxpay_async.adapters.stores.store import Store
from wxpay_async.policy.record import LEASE


async def test_callback_is_handled_once(place: Place, store: Store) -> None:
    """It is in progress while one handles it, and known for 30 days once that is done."""
    message = place.make_message("paid")
    other = place.make_store()

    assert await store.begin(message, now=NOW) is Receipt.ACQUIRED
    assert await other.begin(message, now=NOW + LEASE - 0.001) is Receipt.IN_PROGRESS
    await store.complete(message, now=NOW)
    await store.complete(message, now=NOW)
    assert await other.begin(message, now=NOW + INBOX_RETENTION - 0.001) is Receipt.DONE
    assert await other.begin(message, now=NOW + INBOX_RETENTION) is Receipt.ACQUIRED


async def test_callback_that_was_never_received_may_be_noted(place: Place, store: Store) -> None:
    """A handler whose claim was swept away meanwhile still gets its effect noted."""
    message = place.make_message("paid")
    await store.complete(message, now=NOW)

    assert await store.begin(message, now=NOW) is Receipt.DONE


async def test_dead_handler_is_replaced(place: Place, store: Store) -> None:
    """At the end of its lease a callback that was not given back can be acquired again."""
    message = place.make_message("paid")
    await store.begin(message, now=NOW, lease=5.0)

    assert await store.begin(message, now=NOW + 4.999) is Receipt.IN_PROGRESS
    assert await store.begin(message, now=NOW + 5.0) is Receipt.ACQUIRED


async def test_failed_callback_comes_again(place: Place, store: Store) -> None:
    """What its handler gave back is handled when the platform sends it again."""
    message = place.make_message("paid")
    await store.begin(message, now=NOW)
    await store.release(message)
    await store.release(message)

    assert await store.begin(message, now=NOW) is Receipt.ACQUIRED


async def test_what_is_handled_stays_handled(place: Place, store: Store) -> None:
    """A late handler that fails does not undo what its replacement did."""
    message = place.make_message("paid")
    await store.begin(message, now=NOW)
    await store.complete(message, now=NOW)
    await store.release(message)

    assert await store.begin(message, now=NOW + 1) is Receipt.DONE


async def test_messages_are_compared_exactly(place: Place, store: Store) -> None:
    """However long two messages are, one difference makes them two."""
    messages = [place.make_message("x" * 3000 + end) for end in ("", "a", "A", "a ", "é")]

    receipts = [await store.begin(message, now=NOW) for message in messages]

    assert [Receipt.ACQUIRED] * len(messages) == receipts


async def test_one_of_two_racing_handlers_wins(place: Place) -> None:
    """In each of 30 rounds exactly one of two processes may handle the callback."""
    stores = await warm_stores(place)

    for number in range(30):
        message = place.make_message(f"m{number}")
        for now in (NOW, NOW + LEASE):  # as new, and after a handler that never came back
            receipts = await asyncio.gather(*(s.begin(message, now=now) for s in stores))
            assert {Receipt.IN_PROGRESS, Receipt.ACQUIRED} == set(receipts)
