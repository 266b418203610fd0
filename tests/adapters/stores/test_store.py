"""Check that every shipped store has the methods of the protocols."""

from __future__ import annotations

import inspect

import pytest

from wxpay_async.adapters.stores.inbox import Inbox
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.redis import RedisStore
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.stores.store import IdempotencyStore

METHODS = [
    (protocol, name)
    for protocol in (IdempotencyStore, Inbox)
    for name, member in vars(protocol).items()
    if inspect.iscoroutinefunction(member)
]


def test_protocols_share_no_method() -> None:
    """Operations and callbacks are two protocols; only `Store` joins them."""
    names = [name for _, name in METHODS]

    assert {"reserve", "claim", "record", "load", "due", "forget", "aclose"} < set(names)
    assert ["load_entries", "swap"] == names[-2:]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("store", [MemoryStore, RedisStore, SealedStore, SqlStore])
@pytest.mark.parametrize(("protocol", "name"), METHODS, ids=[name for _, name in METHODS])
def test_method_of_store_has_the_signature_of_the_protocol(
    store: type, protocol: type, name: str
) -> None:
    """Names, defaults and annotations are the protocol's, so that stores can be exchanged."""
    assert inspect.signature(getattr(protocol, name)) == inspect.signature(getattr(store, name))
