"""Methods of `PayGateway` that tell how operations ended, and settle what is open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import timedelta
from typing import Any

from wxpay_async.engine.gateway_base import GatewayBase
from wxpay_async.engine.open_operations import OpenFilter, OpenOperation, OpenState
from wxpay_async.engine.streaming import Outcome
from wxpay_async.policy.review import ReviewVerdict
from wxpay_async.protocol.notify import Notification
from wxpay_async.protocol.requests import OperationName, R


class GatewayOutcomes(GatewayBase):
    """The operations of `PayGateway` that find out how others ended."""

    async def recall(self, requests: Sequence[R]) -> list[Outcome[R, Any] | None]:
        """Read from the store how requests ended, without any call; 500 of them by one read.

        Args:
            requests: what was, or was not, given to `pay`, `trade` or `refund` before.

        Returns:
            For each request, in this order, what its call would replay: `ok` with the result, or
            the error. None for what the store does not know, and for what has no end yet.

        Raises:
            NotSentError, InDoubtError: the store cannot be reached.
        """
        return await self._dispatcher.recall(requests)

    async def resolve(
        self, request_id: str, *, reissue: bool = False, verdict: ReviewVerdict | None = None
    ) -> Outcome[str, Any]:
        """Find out what became of an operation, by its stored state and one query.

        Args:
            request_id: what it was sent under.
            reissue: for a `pay` whose answer got lost and whose order is not paid: issue a new
                prepay under the next generation of the requestId. Nothing is charged by a prepay.
            verdict: what a person found out of an operation that waits for one (see
                `open_operations`). The platform is asked once more; only if its answer settles
                nothing is the verdict taken, and kept in the store with who and when.

        Returns:
            `ok` with the result, `refused` with what the platform said, `in_doubt`, or `not_sent`:
            nothing was sent so far, and it goes when its request is called again.

        Raises:
            InvalidRequestError: a verdict is given on an operation that does not wait for a person.
            InDoubtError: the store does not know the requestId, which proves nothing where stores
                are lost or forget; or it cannot be reached.
        """
        return await self._dispatcher.resolve(request_id, reissue=reissue, verdict=verdict)

    def open_operations(
        self,
        *,
        state: OpenState | Collection[OpenState] | None = None,
        operation: OperationName | Collection[OperationName] | None = None,
        older_than: timedelta | float | None = None,
    ) -> AsyncIterator[OpenOperation]:
        """Iterate over what is open and what waits for a person, in the order of the requestIds.

        What has `needs_review` set goes nowhere by itself. Find out what became of it, from the
        platform's support for example, and tell it by `resolve(request_id, verdict=...)`.

        Args:
            state: only these, of `sending`, `unknown`, `pending`, `conflict` and `needs_review`.
            operation: only these, of `pay`, `trade` and `refund`.
            older_than: only what is open for so long, a time or its seconds, by the store's clock.

        Raises:
            InvalidRequestError: there is no such state or operation, or the time is negative.
            NotSentError: while iterating: the store cannot be reached.
        """
        return self._dispatcher.open_operations(OpenFilter.make(state, operation, older_than))

    async def recover(self) -> int:
        """Look after everything that is open and due, once; for batch jobs.

        Returns:
            How many operations reached an end.

        Raises:
            NotSentError: the store cannot be reached.
        """
        return await self._dispatcher.recover()

    async def apply_notification(self, notification: Notification) -> int:
        """Settle the open operations of a genuine notification's number; no query is made.

        A `CallbackReceiver` does this by itself. What the notification does not prove is asked
        about with the next recovery. Callers that wait for its order (`wait_paid`) are woken.

        Returns:
            How many operations it settled.

        Raises:
            InvalidRequestError: it is neither authentic nor confirmed: anyone can have written it.
            InProgressError: it tells of a refund that is being sent, and has to come again.
            NotSentError, InDoubtError: the store cannot be reached.
        """
        self._dispatcher.wake(notification)
        return await self._dispatcher.resolver.settle(self.app_key, notification)
