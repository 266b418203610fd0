"""What calls share, and what another event loop gets anew."""

from __future__ import annotations

import asyncio

from wxpay_async import Md5Signer, PayGateway
from wxpay_async.engine.services import Services


def test_loop_has_services_of_its_own_over_the_same_parts() -> None:
    """Places and tasks of a loop that is gone are forgotten; store and quota are not."""
    gateway = PayGateway("k", Md5Signer("s"))

    async def enter() -> tuple[Services, Services]:
        gateway._dispatcher.enter_loop()
        first = gateway._dispatcher._services
        gateway._dispatcher.enter_loop()
        return first, gateway._dispatcher._services

    (first, again), (other, _) = asyncio.run(enter()), asyncio.run(enter())

    assert first is again
    assert first.concurrency is not other.concurrency
    assert first.background is not other.background
    assert (first.store, first.limiter) == (other.store, other.limiter)
