"""What every operation of a gateway shares, and how hooks hear of it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define, field

from wxpay_async.adapters.limiters.limiter import Limiter, Unlimited
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.signers.threads import SigningExecutor
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.store import Store
from wxpay_async.engine.clock import Clock, PlatformTime
from wxpay_async.engine.concurrency import ConcurrencyLimiter
from wxpay_async.engine.telemetry import Event, EventKind, Hook, fate_of
from wxpay_async.errors import WxPayError
from wxpay_async.protocol.builder import Operation, RequestBuilder

_LOG: Final = logging.getLogger("wxpay_async")


def _nonce() -> str:
    return secrets.token_hex(16)


@define(eq=False, kw_only=True)
class Wiring:
    """What every operation of a gateway shares."""

    builder: RequestBuilder
    signatures: SigningExecutor
    store: Store
    limiter: Limiter
    clock: Clock
    time: PlatformTime
    hooks: Sequence[Hook] = ()
    nonce: Callable[[], str] = _nonce
    in_process: bool = field(init=False)
    turns: ConcurrencyLimiter = field(factory=lambda: ConcurrencyLimiter(64))

    def __attrs_post_init__(self) -> None:
        # These very classes: what a subclass awaits may be a network.
        local = type(self.limiter) in {LocalLimiter, Unlimited}
        self.in_process = local and type(self.store) is MemoryStore

    def tell(self, event: Event) -> None:
        """Tell every hook; one that breaks its promise not to raise must lose no answer."""
        for hook in self.hooks:
            try:
                hook(event)
            except Exception:  # noqa: BLE001 - a stranger's code, see above
                _LOG.exception("a hook raised on %s", event.kind)

    def tell_start(self, operation: Operation, request_id: str | None) -> None:
        """Tell of a call that begins."""
        if self.hooks:
            self.tell(
                Event(
                    kind=EventKind.CALL_STARTED,
                    operation=operation.name,
                    app_key=self.builder.app_key,
                    request_id=request_id,
                )
            )

    def tell_outcome(
        self,
        operation: Operation,
        request_id: str | None,
        began: float,
        *,
        error: BaseException | None = None,
        result: Any = None,  # noqa: ANN401 - any of the results
        shared: bool = False,
    ) -> None:
        """Tell of a call's end: its error, or its result."""
        if not self.hooks:
            return
        told = error if isinstance(error, WxPayError) else result
        self.tell(
            Event(
                kind=EventKind.OUTCOME,
                operation=operation.name,
                app_key=self.builder.app_key,
                request_id=request_id,
                attempt=told.attempts if told else 0,
                fate=fate_of(error),
                code=error.code if isinstance(error, WxPayError) else None,
                seconds=self.clock.monotonic() - began,
                replayed=shared or (told is not None and told.replayed),
                shared=shared,
            )
        )
