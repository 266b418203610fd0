"""Mistakes to make on purpose, in the merchant's process: each must turn a check red.

Nothing of the package is changed on disk; a mistake replaces what it is about while it runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, Unpack

import attrs
from attrs import define

from tests.support.records import Claim
from wxpay_async.adapters.stores.store import Store
from wxpay_async.engine import executor
from wxpay_async.engine.call import Call
from wxpay_async.errors import DuplicateRequestError
from wxpay_async.policy import resolution
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.retry import RetryBudget
from wxpay_async.policy.states import State
from wxpay_async.protocol import codec, strict_json
from wxpay_async.protocol.wire import HttpResponse

NEW_REQUEST_ID: Final = "new-request-id"
NO_FENCING: Final = "no-fencing"
ONE_SEAL_KEY: Final = "one-seal-key"


@define(eq=False)
class UnfencedStore:
    """A store whose claims hold nobody off, and whose writes win by coming last."""

    store: Store

    async def claim(self, key: tuple[str, str], **claim: Unpack[Claim]) -> IdempotencyRecord | None:
        """Take the operation over, whoever is sending it."""
        entry = await self.store.load(key)
        if entry is not None and entry.state is State.SENDING:
            back = State.UNKNOWN if entry.in_doubt else State.RESERVED
            await self.store.record(attrs.evolve(entry, state=back))
        return await self.store.claim(key, **claim)

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Write the entry, whatever happened since it was read."""
        stored = await self.store.load(entry.key)
        return await self.store.record(
            attrs.evolve(entry, epoch=stored.epoch if stored else entry.epoch)
        )

    def __getattr__(self, name: str) -> object:
        """Do everything else as the store does."""
        return getattr(self.store, name)


def fenced_or_not(store: Store, broken: str | None) -> Store:
    """Return the store, without its fences if that is the mistake to make."""
    return UnfencedStore(store) if broken == NO_FENCING else store


def _absence_is_final() -> None:
    # Below 0, because the `Date` of an answer is cut off to a second, and a timestamp is not.
    resolution.QUARANTINE, resolution.SEEN_APART = -1.0, 0.0


def _one_answer_is_proof() -> None:
    resolution.SEEN_APART = 0.0


def _timeout_is_refusal() -> None:
    codec._REFUSED_UNREAD |= {408}


def _page_is_refusal() -> None:
    codec._REFUSED_UNREAD = frozenset(range(600))


def _mark_is_unreadable() -> None:
    strict_json._BYTE_ORDER_MARK = "no such mark"


def _dead_store_means_unsent() -> None:
    executor.make_unknown = lambda error: type(error)(error.reason, retryable=error.retryable)


def _budget_is_endless() -> None:
    RetryBudget.take = lambda _: True


def _duplicate_is_success() -> None:
    read = Call.read

    def careless(self: Call, response: HttpResponse, **more: bool) -> object:
        try:
            return read(self, response, **more)
        except DuplicateRequestError:
            if self.operation.name == "pay":
                raise  # even the careless find no credential in it
            return read(self, _made_up(self.content), **more)

    Call.read = careless


def _made_up(sent: bytes) -> HttpResponse:
    content = json.loads(sent)
    row = {"outTradeNo": content.get("outTradeNo"), "tradeNo": "0", "status": "S"}
    data = {"requestId": content["requestId"], **row}
    return HttpResponse(200, json.dumps({"success": True, "data": data}).encode())


BREAKS: Final[Mapping[str, Callable[[], None]]] = {
    NO_FENCING: lambda: None,  # the merchant wraps its store
    "not-found-final": _absence_is_final,
    NEW_REQUEST_ID: lambda: None,  # the merchant sends another one
    "duplicate-is-success": _duplicate_is_success,
    "one-answer-is-proof": _one_answer_is_proof,
    "timeout-is-refusal": _timeout_is_refusal,
    "page-is-refusal": _page_is_refusal,
    "mark-is-unreadable": _mark_is_unreadable,
    "dead-store-means-unsent": _dead_store_means_unsent,
    ONE_SEAL_KEY: lambda: None,  # the merchant forgets the others
    "no-budget": _budget_is_endless,
}
"""name -> what makes the mistake."""
