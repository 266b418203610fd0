"""Define a line of a batch: its request, its place in the file and its requestIds."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import attrs
from attrs import field, frozen

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.idempotency_key import derive_request_id
from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay, Refund, TradeQuery

OperationName = Literal["pay", "trade", "refund", "query"]
OPERATION_NAMES: Final[tuple[OperationName, ...]] = get_args(OperationName)

BatchRequest: TypeAlias = MiniProgramPay | InstantTrade | Refund | TradeQuery

_NAMES: Final[dict[type[BatchRequest], OperationName]] = {
    MiniProgramPay: "pay",
    InstantTrade: "trade",
    Refund: "refund",
    TradeQuery: "query",
}


@frozen(kw_only=True)
class Line:
    """A line of a batch.

    Attributes:
        number: its place in the file, from 1; outcomes and reports name the line by it.
        request: the request. In an outcome it has the requestId that the outcome belongs to.
        key: what later generations of the requestId are derived from: the order's number where the
            requestId was derived from it, else the requestId itself. Empty for a query.
        generation: how many requestIds of this line were proven not executed before this one.
    """

    number: int
    request: BatchRequest
    key: str = field(default=attrs.Factory(lambda line: line.request_id or "", takes_self=True))
    generation: int = 0

    @property
    def operation(self) -> OperationName:
        """Which operation it asks for."""
        return _NAMES[type(self.request)]

    @property
    def request_id(self) -> str | None:
        """The requestId of its request; None for a query, which needs none."""
        return None if isinstance(self.request, TradeQuery) else self.request.request_id

    def next_generation(self, app_key: str) -> Line:
        """Return the line with its next requestId, which is the same in every run.

        Only for a requestId that is proven not executed (`NotExecutedError`).

        Raises:
            InvalidRequestError: it is a query.
        """
        if isinstance(self.request, TradeQuery):
            raise InvalidRequestError(
                "a query has none", field="requestId", allowed="pay, trade, refund"
            )
        generation = self.generation + 1
        request_id = derive_request_id(app_key, self.operation, self.key, generation)
        return attrs.evolve(
            self,
            request=attrs.evolve(self.request, request_id=request_id),
            generation=generation,
        )
