"""Services that the calls of one gateway share, in one event loop."""

from __future__ import annotations

from attrs import frozen

from wxpay_async.adapters.event_loop import ShieldedTasks
from wxpay_async.adapters.limiters.limiter import AcquireNow, Limiter
from wxpay_async.adapters.signers.threads import SigningExecutor
from wxpay_async.adapters.stores.store import IdempotencyStore
from wxpay_async.engine.clock import Clock, PlatformTime
from wxpay_async.engine.concurrency import ConcurrencyLimiter
from wxpay_async.engine.telemetry import Telemetry
from wxpay_async.protocol.wire import Timeouts


@frozen(kw_only=True, eq=False)
class Services:
    """What a call needs besides its request. It is made once, and not filled in for every call.

    Attributes:
        timeouts: how long an attempt may take. `call` also limits how long a slot of the quota is
            held while no connection is free, because the slot's lease would end.
        store: remembers operations.
        limiter: keeps the quota.
        acquire_now: takes a slot that is free now; None where the limiter has no such way.
        concurrency: limits the attempts under way.
        signing: signs.
        clock: the store's time, and seconds that only grow.
        time: the platform's time.
        telemetry: tells the hooks.
        background: runs what outlasts its call.
        in_process: store and limiter answer without waiting for anything outside this process.
    """

    timeouts: Timeouts
    store: IdempotencyStore
    limiter: Limiter
    acquire_now: AcquireNow | None
    concurrency: ConcurrencyLimiter
    signing: SigningExecutor
    clock: Clock
    time: PlatformTime
    telemetry: Telemetry
    background: ShieldedTasks
    in_process: bool
