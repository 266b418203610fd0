"""Call an endpoint that the SDK has no method for: signed and limited like the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wxpay_async.errors import Fate, WxPayError
from wxpay_async.policy.lanes import Lane
from wxpay_async.protocol.endpoint import Parameters, make_endpoint, write_parameters
from wxpay_async.protocol.results import CallResult

if TYPE_CHECKING:
    from wxpay_async.engine.dispatcher import Dispatcher


async def call_endpoint(
    dispatcher: Dispatcher,
    path: str,
    params: Parameters,
    *,
    retry_safe: bool,
    timeout: float | None,
    lane: Lane,
) -> CallResult:
    """Call an endpoint once, or until it answers; see `PayGateway.call`."""
    operation = make_endpoint(path, retry_safe=retry_safe)
    written = write_parameters(params)
    template = dispatcher.builder.prepare(operation, written)
    dispatcher.enter_loop()
    times = dispatcher.times
    call = dispatcher.make_call(
        operation,
        template,
        CallResult,
        asked=None,
        check=None,
        deadline=times.after(times.seconds(timeout, lane)),
        lane=lane,
    )
    # The platform's message may repeat what was sent.
    call.content = written.get("bizContent", "").encode()
    del params, written
    policy = times.policy(lane)
    try:
        return await dispatcher.reader.send(call, policy if retry_safe else policy.of_unsafe())
    except WxPayError as error:
        if error.fate is Fate.IN_DOUBT and not retry_safe:
            error.retryable = False  # there is no requestId by which the platform would know it
        raise
