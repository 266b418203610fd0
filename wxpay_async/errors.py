"""Everything that can go wrong, and what it says about the money.

Each error has a `fate`: what is known about the request that it speaks of. The fate belongs to the
class, and no class is less careful than its parents: `except RefusedError` meets nothing that may
have been executed, and everything that may have been is an `InDoubtError`.

    WxPayError
    ├── InvalidRequestError       not_sent  bad input; names the field (a ValueError too)
    ├── InvalidKeyError           not_sent  a key that cannot be used, and why (a ValueError too)
    ├── IdempotencyConflictError  not_sent  same requestId, other content; names the fields
    ├── NotSentError              not_sent  no byte of the request can have arrived
    │   ├── NotSentTimeoutError             the call's time ended first (a TimeoutError too)
    │   └── QuotaExhaustedError             no slot of the quota in time (a TimeoutError too)
    ├── NotificationError         not_sent  a callback that must not be believed
    ├── InDoubtError              in_doubt  it may have been executed
    │   ├── AlreadyPaidError                the order is paid; only its credential got lost
    │   ├── DuplicateRequestError           an earlier request with this requestId arrived
    │   ├── InDoubtTimeoutError             the call's time ended first (a TimeoutError too)
    │   ├── InProgressError                 another process is sending this requestId
    │   ├── MalformedResponseError          an answer that proves nothing
    │   ├── PlatformConflictError           the platform holds this requestId with other content
    │   ├── OtherPayerError                 another payer has the order's live credential
    │   ├── PrepayExpiredError              the credential is too old; it may have been paid before
    │   └── TradeUnusableError              the order exists, and its payToken is lost
    └── RefusedError              refused   the platform said no, and nothing was executed
        ├── ClockSkewError                  the request had expired on arrival
        ├── ConfigurationRefusedError       nothing was looked at; correct the configuration
        │   ├── AccessDeniedError           appKey, token or caller's address not allowed
        │   └── SignatureRefusedError       the platform could not verify our signature
        ├── FailedError                     the platform reports that it failed
        ├── NotExecutedError                proven: no money moved, and none can move any more
        ├── NotPaidError                    the order ended without a payment
        └── RateLimitedError                the platform's quota is used up

`docs/errors.md` says of each class what a merchant does, and so does each error's `hint`.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import ClassVar

ResolveCallback = Callable[[], Awaitable[object]]


class Fate(enum.StrEnum):
    """What is known about a request after an error."""

    NOT_SENT = "not_sent"
    IN_DOUBT = "in_doubt"
    REFUSED = "refused"


class WxPayError(Exception):
    """The root of all errors that this package raises on purpose.

    What to do: read `fate`.

    An error of your own, raised by a part that you plugged in, is in doubt unless its class derives
    from `NotSentError`: "not sent" needs a proof.

    Attributes:
        fate: what is known about the request. A class says it, never a single error.
        retryable: whether the same requestId may be sent again without a person looking at it.
        request_id: the idempotency key of the request, where there is one.
        out_trade_no: the merchant's number of the order or refund, where it is known.
        attempts: how many HTTP attempts were begun before this was raised.
        code: the platform's errorCode, e.g. `CO_MSG_000006`.
        message: the platform's errorMsg. It is meant for the merchant; do not show it to a payer.
        replayed: True when the error was read from the idempotency store, not from the wire.
    """

    fate: ClassVar[Fate] = Fate.IN_DOUBT
    retryable: bool = False
    out_trade_no: str | None = None

    def __init__(self, reason: str, *, code: str | None = None, message: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.message = message
        self.request_id: str | None = None
        self.attempts = 0
        self.replayed = False

    @property
    def hint(self) -> str:
        """What the merchant should do, in one sentence.

        In the language of `WXPAY_LANG` (`zh`, `en`), else of the locale.
        """
        from wxpay_async.hints import find_hint  # noqa: PLC0415 - hardly ever needed
        from wxpay_async.language import find_language  # noqa: PLC0415 - as above

        kinds = [kind.__name__ for kind in type(self).__mro__]
        found = find_hint(kinds, code=self.code, reason=self.reason)
        return found.in_language(find_language(os.environ))

    def __str__(self) -> str:
        parts = [self.reason]
        if self.code:
            said = f"{self.code:.64}: {self.message:.200}" if self.message else f"{self.code:.64}"
            parts.append(f"[{said}]")
        if self.request_id:
            parts.append(f"(requestId {self.request_id}, {self.fate})")
        # One line: what the other side wrote must not look like lines of a log.
        return "".join(
            c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(parts)
        )


class InvalidRequestError(WxPayError, ValueError):
    """Bad input, found before anything was sent.

    What to do: correct the field that it names.

    Attributes:
        field: the offending field by the platform's name, e.g. `requestId`.
        allowed: what the field may hold, in words.
    """

    fate = Fate.NOT_SENT

    def __init__(self, reason: str, *, field: str = "", allowed: str = "") -> None:
        text = f"{field}: {reason}" if field else reason
        super().__init__(f"{text}; allowed: {allowed}" if allowed else text)
        self.field = field
        self.allowed = allowed
        self._problem = reason

    def called(self, field: str) -> InvalidRequestError:
        """Return the same error under the name by which the caller knows the field."""
        return InvalidRequestError(self._problem, field=field, allowed=self.allowed)


class InvalidKeyError(WxPayError, ValueError):
    """A key, or the file that should hold it, cannot be used; the text says why.

    What to do: correct the key.
    """

    fate = Fate.NOT_SENT


class IdempotencyConflictError(WxPayError):
    """The requestId already stands for other content in the store. Nothing was sent.

    What to do: find out who uses the requestId a second time.

    Attributes:
        fields: the platform's names of the fields that differ.
    """

    fate = Fate.NOT_SENT

    def __init__(self, reason: str, *, fields: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.fields = tuple(fields)


class NotSentError(WxPayError):
    """No byte of the request can have reached the platform: nothing was executed.

    What to do: call again with the same request; where a certificate or an address is wrong, which
    is not tried again, correct it first.

    Args:
        reason: what happened.
        retryable: False where trying again cannot help (certificates, a malformed address).
    """

    fate = Fate.NOT_SENT

    def __init__(self, reason: str, *, retryable: bool = True) -> None:
        super().__init__(reason)
        self.retryable = retryable


class NotSentTimeoutError(NotSentError, TimeoutError):
    """The call's time ended before anything was sent.

    What to do: call again with the same request, or give the call a longer `timeout`.
    """


class QuotaExhaustedError(NotSentError, TimeoutError):
    """No slot of the platform's quota comes free in time. It is told at once where it is foreseen.

    What to do: call again after `retry_after` seconds, or give the call a longer `timeout`.

    Attributes:
        retry_after: seconds until a slot can be had, if no other caller comes first.
    """

    def __init__(self, reason: str, *, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class NotificationError(WxPayError):
    """A callback failed verification. It says nothing about any request.

    What to do: do not believe the callback; query the order if in doubt.
    """

    fate = Fate.NOT_SENT


class InDoubtError(WxPayError):
    """The request may have been executed, now or later.

    What to do: never use a new requestId; call again with the same request, or query the order.
    After a redirect, which is not tried again, correct the address first. Where a stored reply does
    not open, name the former key (`seal_keys=`, `WXPAY_FORMER_SECRETS`).

    Args:
        reason: what happened.
        retryable: False where sending the same requestId again cannot bring clarity; without it
            what the class says.
        code: the platform's errorCode.
        message: the platform's errorMsg.

    Attributes:
        outcome: what the platform answered (a result or an error), when all that failed was
            writing it down.
    """

    fate = Fate.IN_DOUBT
    retryable = True

    def __init__(
        self,
        reason: str,
        *,
        retryable: bool | None = None,
        code: str | None = None,
        message: str | None = None,
    ) -> None:
        super().__init__(reason, code=code, message=message)
        if retryable is not None:
            self.retryable = retryable
        self.resolver: ResolveCallback | None = None
        self.outcome: object = None

    async def resolve(self) -> object:
        """Find out what became of the request; see `PayGateway.resolve`.

        Returns:
            The `Outcome`, which may still be in doubt.

        Raises:
            InDoubtError: this error itself, where no gateway is there to ask.
        """
        if self.resolver is None:
            raise self
        return await self.resolver()

    def __reduce__(self) -> tuple[type[InDoubtError], tuple[object, ...], dict[str, object]]:
        """Leave the gateway behind when the error travels to another process."""
        return type(self), self.args, {**self.__dict__, "resolver": None}


class InDoubtTimeoutError(InDoubtError, TimeoutError):
    """The call's time ended after the request may have been sent.

    What to do: never use a new requestId; call again with the same request, or query the order.
    """


class AlreadyPaidError(InDoubtError):
    """The order is paid. The answer with the credential was lost, and is not needed any more.

    Its fate is in_doubt: of the three it is the one after which a merchant does not charge again.

    What to do: nothing; do not charge again.
    """

    retryable = False


class DuplicateRequestError(InDoubtError):
    """The platform has seen this requestId before: this call was refused, the earlier one is open.

    It is no `RefusedError`: a duplicate that is taken for a decline makes the caller charge or
    refund again, and one that is taken for a success reports a declined payment as paid.

    What to do: query the order before anything else; never use a new requestId.
    """

    retryable = False


class InProgressError(InDoubtError):
    """Another process holds the lease of this requestId and is sending it.

    What to do: call again later with the same request; a lease lasts 45 s.
    """

    retryable = False


class MalformedResponseError(InDoubtError):
    """The answer is not what the protocol promises, so it proves neither success nor failure.

    What to do: call again with the same request, or query the order. Where the answer belongs to
    another request, which is not tried again, query the order.
    """


class PlatformConflictError(InDoubtError):
    """The platform holds this requestId, or its order number, with other content.

    Unlike an `IdempotencyConflictError` it was found out by sending: what the platform holds was
    executed.

    What to do: let a person look; never use a new requestId before.
    """

    retryable = False


class OtherPayerError(InDoubtError):
    """Another payer holds a credential of this order that can still be paid.

    A second one beside it could be paid as well.

    What to do: call `checkout` again after `retry_at`; until then only the other payer can pay.

    Attributes:
        retry_at: when that credential is dead.
    """

    retryable = False

    def __init__(self, reason: str, *, retry_at: datetime | None = None) -> None:
        super().__init__(reason)
        self.retry_at = retry_at


class PrepayExpiredError(InDoubtError):
    """The stored prepay is older than WeChat accepts. Whether it was paid before, it cannot tell.

    What to do: query the order; if it is not paid, pay under the next generation of the requestId.
    """

    retryable = False


class TradeUnusableError(InDoubtError):
    """The order exists, but its payToken was lost with the answer: no payer can pay it.

    A second order at once would leave two orders of one purchase that can be paid.

    What to do: wait until `retry_at`, when the order is closed, then create a new order; `checkout`
    does so by itself when it is given `reorder=`.

    Attributes:
        retry_at: when the order will be closed, None where its `timeoutExpress` does not say.
    """

    retryable = False

    def __init__(self, reason: str, *, retry_at: datetime | None = None) -> None:
        super().__init__(reason)
        self.retry_at = retry_at


class RefusedError(WxPayError):
    """The platform refused the request, and nothing was executed by it.

    What to do: read `code` and `message`. The refusal is final, and its replay says since when; the
    next generation of the requestId may go.

    Attributes:
        server_time: the platform's time from the `Date` header of its answer, if it sent one.
    """

    fate = Fate.REFUSED
    server_time: datetime | None = None


class ClockSkewError(RefusedError):
    """The request had expired on arrival: the clocks of both sides differ by minutes.

    What to do: set the clock, then call again with the same request.
    """

    retryable = True


class ConfigurationRefusedError(RefusedError):
    """The request was refused for how it was sent, before its content was looked at.

    The platform said so by a code, or something in front of it by an HTTP status that proves it. It
    is not final: the operation stays as if it had not been sent (`money-safety.md` §4).

    What to do: correct what it names (the address, the proxy), then call again with the same
    request.
    """


class AccessDeniedError(ConfigurationRefusedError):
    """The appKey, the token or the caller's address is not accepted.

    What to do: correct the appKey, the token or the address allow-list, then call again with the
    same request.
    """


class SignatureRefusedError(ConfigurationRefusedError):
    """The platform could not verify the signature.

    What to do: compare `canonical_string(...)` and the keys, then call again with the same request.
    """


class FailedError(RefusedError):
    """The platform accepted the request and reports that it failed (status F): no money moved.

    What to do: find out why; the next generation of the requestId may go.
    """


class NotExecutedError(RefusedError):
    """Queries proved that no money moved, and that none can move any more under this requestId.

    Either it was never executed, or it is a `pay` whose prepay was not paid and has expired.

    What to do: the next generation of the requestId may go.
    """


class NotPaidError(RefusedError):
    """The order reached an end (closed, failed) without being paid.

    What to do: create a new order if it is still wanted.
    """


class RateLimitedError(RefusedError):
    """The platform counted over 400 calls in 60 s for the appKey; this one was not executed.

    What to do: nothing while a call has time, since it waits for the platform's window; afterwards
    call again with the same request.
    """

    retryable = True
