"""Everything that can go wrong, and what it says about the money.

Each error has a `fate`: what is known about the request that it speaks of.

    WxPayError
    ├── InvalidRequestError       not_sent  bad input; names the field (a ValueError too)
    ├── InvalidKeyError           not_sent  a key that cannot be used, and why (a ValueError too)
    ├── IdempotencyConflictError  not_sent  same requestId, other content; names the fields
    │                             in_doubt  where it is the platform that holds other content
    ├── NotSentError              not_sent  no byte of the request can have arrived
    ├── NotificationError         not_sent  a callback that must not be believed
    ├── InProgressError           in_doubt  another process is sending this requestId
    ├── InDoubtError              in_doubt  it may have been executed
    │   ├── AlreadyPaidError                the order is paid; only its credential got lost
    │   └── MalformedResponseError          an answer that proves nothing
    └── RefusedError              refused   the platform said no
        ├── AccessDeniedError               appKey, token or caller's address not allowed
        ├── ClockSkewError                  the request had expired on arrival
        ├── DuplicateRequestError in_doubt  an earlier request with this requestId arrived
        ├── FailedError                     executed, and reported as failed
        ├── NotExecutedError                proven never executed; the next generation may go
        ├── PrepayExpiredError              the credential of an earlier success is too old
        ├── RateLimitedError                the platform's quota is used up
        ├── SignatureRefusedError           the platform could not verify our signature
        └── NotPaidError                    the order ended without a payment
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

ResolveCallback = Callable[[], Awaitable[object]]


class Fate(enum.StrEnum):
    """What is known about a request after an error."""

    NOT_SENT = "not_sent"
    IN_DOUBT = "in_doubt"
    REFUSED = "refused"


class WxPayError(Exception):
    """The root of all errors that this package raises on purpose.

    Attributes:
        fate: what is known about the request.
        retryable: whether the same requestId may be sent again without a person looking at it.
        request_id: the idempotency key of the request, where there is one.
        attempts: how many HTTP attempts were begun before this was raised.
        code: the platform's errorCode, e.g. `CO_MSG_000006`.
        message: the platform's errorMsg. It is meant for the merchant; do not show it to a payer.
        replayed: True when the error was read from the idempotency store, not from the wire.
    """

    fate: Fate = Fate.NOT_SENT
    retryable: bool = False

    def __init__(self, reason: str, *, code: str | None = None, message: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.message = message
        self.request_id: str | None = None
        self.attempts = 0
        self.replayed = False

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

    Attributes:
        field: the offending field by the platform's name, e.g. `requestId`.
        allowed: what the field may hold, in words.
    """

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
    """A key, or the file that should hold it, cannot be used; the text says why."""


class IdempotencyConflictError(WxPayError):
    """The requestId is already taken by a request with other content. Nothing was sent.

    Where it is the platform that holds other content, which only a call can bring to light, the
    fate of this error is in_doubt and a person must look.

    Attributes:
        fields: the platform's names of the fields that differ.
    """

    def __init__(self, reason: str, *, fields: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.fields = tuple(fields)


class NotSentError(WxPayError):
    """No byte of the request can have reached the platform: nothing was executed.

    Args:
        reason: what happened.
        retryable: False where trying again cannot help (certificates, a malformed address).
    """

    def __init__(self, reason: str, *, retryable: bool = True) -> None:
        super().__init__(reason)
        self.retryable = retryable


class NotificationError(WxPayError):
    """A callback failed verification and must be ignored."""


class InProgressError(WxPayError):
    """Another process holds the lease of this requestId and is sending it."""

    fate = Fate.IN_DOUBT


class InDoubtError(WxPayError):
    """The request may have been executed, now or later. Never answer this with a new requestId.

    Args:
        reason: what happened.
        retryable: False where sending the same requestId again cannot bring clarity.

    Attributes:
        outcome: what the platform answered (a result or an error), when all that failed was
            writing it down.
    """

    fate = Fate.IN_DOUBT

    def __init__(
        self,
        reason: str,
        *,
        retryable: bool = True,
        code: str | None = None,
        message: str | None = None,
    ) -> None:
        super().__init__(reason, code=code, message=message)
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


class MalformedResponseError(InDoubtError):
    """The answer is not what the protocol promises, so it proves neither success nor failure."""


class AlreadyPaidError(InDoubtError):
    """The order is paid. The answer with the credential was lost, and is not needed any more.

    Its fate is in_doubt: of the three it is the one after which a merchant does not charge again.
    """

    def __init__(self, reason: str, *, code: str | None = None, message: str | None = None) -> None:
        super().__init__(reason, retryable=False, code=code, message=message)


class RefusedError(WxPayError):
    """The platform refused the request; it was not executed by this call.

    Attributes:
        server_time: the platform's time from the `Date` header of its answer, if it sent one.
    """

    fate = Fate.REFUSED
    server_time: datetime | None = None


class AccessDeniedError(RefusedError):
    """The appKey, the token or the caller's address is not accepted."""


class ClockSkewError(RefusedError):
    """The request had expired on arrival: the clocks of both sides differ by minutes."""

    retryable = True


class DuplicateRequestError(RefusedError, InDoubtError):
    """The platform has seen this requestId before: this call was refused, the earlier one is open.

    It is an `InDoubtError` too, and its fate is in_doubt, because a duplicate that is taken for a
    decline makes the caller charge again, and one that is taken for a success reports a declined
    payment as paid. Query before anything else.
    """

    fate = Fate.IN_DOUBT

    def __init__(self, reason: str, *, code: str | None = None, message: str | None = None) -> None:
        super().__init__(reason, code=code, message=message)
        self.retryable = False


class FailedError(RefusedError):
    """The platform executed the request and reports failure (status F)."""


class NotExecutedError(RefusedError):
    """A query proved that it was never executed; the next generation of the requestId may go."""


class PrepayExpiredError(RefusedError):
    """The stored prepay is older than WeChat accepts; pay again under the next generation."""


class RateLimitedError(RefusedError):
    """The platform counted over 400 calls in 60 s for the appKey; this one was not executed."""

    retryable = True


class SignatureRefusedError(RefusedError):
    """The platform could not verify the signature. Compare `canonical_string()` with its view."""


class NotPaidError(RefusedError):
    """The order reached an end (closed, failed) without being paid."""
