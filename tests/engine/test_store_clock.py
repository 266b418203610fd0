"""Hosts whose clocks differ judge leases by the clock of their store's server."""

from __future__ import annotations

import asyncio

import pytest
from attrs import define, field

from tests.support import asking, replies
from tests.support.clock import NOON, MovedClock
from tests.support.merchant import OpenShop
from tests.support.platform import HeldPlatform
from tests.support.records import make_record
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.clock import StoreClock
from wxpay_async.errors import InProgressError
from wxpay_async.policy.states import State


@define(eq=False)
class Server:
    """A store that several hosts reach.

    Attributes:
        store: what it keeps.
    """

    store: MemoryStore = field(factory=MemoryStore)

    def reach(self, ahead: float) -> MemoryStore:
        """Return it as a host sees it that is so many seconds behind."""
        seen = _Seen(ahead)
        seen._active, seen._finished = self.store._active, self.store._finished
        return seen


class _Seen(MemoryStore):
    """The store of a server, whose clock is known once it was opened."""

    def __init__(self, ahead: float) -> None:
        super().__init__()
        self.ahead = None  # type: ignore[assignment] # as with a server
        self._known = ahead

    async def open(self) -> None:
        """Ask the server for its time."""
        self.ahead = self._known


@pytest.mark.parametrize("wrong_by", [-60.0, -50.0, 50.0, 60.0])
async def test_host_with_a_wrong_clock_leaves_a_running_claim_alone(
    wrong_by: float, open_shop: OpenShop
) -> None:
    """Neither its recovery nor its call takes over what another host is sending."""
    server, platform = Server(), HeldPlatform(replies.refunded())
    right = open_shop(platform, store=server.reach(0.0))
    wrong = open_shop([], store=server.reach(-wrong_by), clock=MovedClock(wrong_by=wrong_by))
    sending = asyncio.create_task(right.gateway.refund(asking.refund()))
    await platform.asked.wait()

    assert 0 == await wrong.gateway.recover()
    with pytest.raises(InProgressError):
        await wrong.gateway.refund(asking.refund())
    assert State.SENDING is (await right.get_record("refund-1")).state
    platform.gate.set()

    assert "S" == (await sending).status
    assert 0 == wrong.transport.calls


async def test_what_a_host_writes_has_the_servers_time(open_shop: OpenShop) -> None:
    """Its own clock is an hour ahead; nobody sees that in its records."""
    server = Server()
    shop = open_shop(
        [replies.refunded()], store=server.reach(-3600.0), clock=MovedClock(wrong_by=3600.0)
    )
    await shop.gateway.refund(asking.refund())

    record = await shop.get_record("refund-1")
    assert (NOON, NOON) == (record.created_at, record.updated_at)


async def test_clock_of_a_store_that_was_not_opened_is_the_hosts() -> None:
    """There is nothing to go by."""
    store = Server().reach(7.0)
    clock = StoreClock(MovedClock(), store)
    before = clock.time()
    await store.open()

    assert (NOON, NOON + 7.0) == (before, clock.time())


async def test_lease_that_ran_out_is_seen_by_a_host_whose_clock_is_behind(
    open_shop: OpenShop,
) -> None:
    """Its process died; by the server's clock its time is over."""
    server = Server()
    behind = open_shop([], store=server.reach(60.0), clock=MovedClock(wrong_by=-60.0))
    record = make_record(
        "refund-1", app_key=behind.gateway.app_key, operation="refund", state=State.SENDING,
        lease_until=NOON - 1.0,
    )  # fmt: skip
    await server.store.reserve(record)
    await behind.gateway.recover()

    assert State.SENDING is not (await behind.get_record("refund-1")).state
