"""`PayGateway`: the acquiring chapter as operations to await."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

import attrs

from wxpay_async.clock import Clock, PlatformTime
from wxpay_async.errors import (
    IdempotencyConflictError,
    InDoubtError,
    InvalidRequestError,
    MalformedResponseError,
    NotPaidError,
    RefusedError,
    WxPayError,
)
from wxpay_async.execution import Execution, Wiring
from wxpay_async.flights import Flights, conflict
from wxpay_async.idempotency.store import Entry, IdempotencyStore, MemoryStore
from wxpay_async.limits.limiter import Lane, Limiter, Unlimited
from wxpay_async.policy.retry import RetryBudget, RetryPolicy
from wxpay_async.policy.states import FINISHED, State
from wxpay_async.protocol.builder import (
    MERCHANTS,
    OPERATIONS,
    QUERY,
    Operation,
    RequestBuilder,
    parameters,
    query_parameters,
)
from wxpay_async.protocol.codec import wire_fields
from wxpay_async.protocol.identity import Fingerprint, derive_request_id, fingerprint
from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay, Refund, Request, TradeQuery
from wxpay_async.protocol.results import (
    Merchant,
    MerchantPage,
    PayResult,
    RefundResult,
    TradeResult,
    TradeState,
    TradeStatus,
)
from wxpay_async.protocol.signing import Md5Signer, RsaSigner, Signer
from wxpay_async.protocol.wire import PRODUCTION, Timeouts, Transport
from wxpay_async.stream import Outcome, stream
from wxpay_async.telemetry import Event, EventKind, Hook
from wxpay_async.transports.retrying import RetryingTransport

T = TypeVar("T")
R = TypeVar("R", bound=Request)

POLL_EVERY: Final = 2.0
"""Seconds between two queries of `wait_paid`."""


class PayGateway:
    """Awaits the platform for one appKey; many calls at once, each safe to repeat.

    Making one is pure: no I/O, no event loop. It works in one loop after another. Leave the
    `async with` block, or call `aclose`, to release its connections.

    Args:
        app_key: the merchant's developer id.
        signer: the scheme that the contract names: `RsaSigner`, `Md5Signer` or your own.
        base_url: the platform's origin; HTTPS, except on loopback.
        transport: how requests travel; aiohttp by default.
        store: where requestIds are remembered; in memory by default.
        limiter: the quota; `Unlimited()` switches it off.
        retry: how often and how fast to try again.
        timeouts: how long each phase may take.
        hooks: called with every `Event`.
        max_in_flight: HTTP requests at once; further callers wait.
        clock: the machine's, unless a test moves it.

    Raises:
        InvalidRequestError: a setting cannot be used; nothing was sent.
    """

    def __init__(
        self,
        app_key: str,
        signer: Signer,
        *,
        base_url: str = PRODUCTION,
        transport: Transport | None = None,
        store: IdempotencyStore | None = None,
        limiter: Limiter | None = None,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        hooks: Sequence[Hook] = (),
        max_in_flight: int = 64,
        clock: Clock | None = None,
    ) -> None:
        if not app_key:
            raise InvalidRequestError("empty", field="appKey", allowed="a non-empty text")
        if max_in_flight < 1:
            raise InvalidRequestError("too few", field="max_in_flight", allowed="1 or above")
        self.app_key = app_key
        self._clock = clock or Clock()
        self._retry = retry or RetryPolicy()
        self._timeouts = timeouts or Timeouts()
        self._transport = transport
        self._max_in_flight = max_in_flight
        self._budget = RetryBudget()
        self._wiring = Wiring(
            builder=RequestBuilder(app_key, signer.sign_type, base_url),
            signer=signer,
            store=store or MemoryStore(),
            limiter=limiter or Unlimited(),
            clock=self._clock,
            time=PlatformTime(self._clock),
            hooks=tuple(hooks),
        )
        self._flights = Flights()
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **settings: Any) -> Self:  # noqa: ANN401 - the constructor's
        """Make a gateway from the environment.

        Reads `WXPAY_APP_KEY`; `WXPAY_APP_SECRET` (MD5) or `WXPAY_PRIVATE_KEY_FILE` (RSA, with
        `WXPAY_PRIVATE_KEY_PASSPHRASE`); `WXPAY_BASE_URL`; `WXPAY_PROXY`.

        Args:
            environ: read this mapping instead of `os.environ`.
            **settings: the constructor's keyword arguments, which win over the environment.

        Raises:
            InvalidRequestError: a variable is missing; both schemes are set.
            InvalidKeyError: the key file cannot be used.
        """
        env = os.environ if environ is None else environ
        app_key = env.get("WXPAY_APP_KEY", "")
        if not app_key:
            raise InvalidRequestError("not set", field="WXPAY_APP_KEY", allowed="the appKey")
        settings.setdefault("base_url", env.get("WXPAY_BASE_URL") or PRODUCTION)
        if env.get("WXPAY_PROXY") and settings.get("transport") is None:
            from wxpay_async.transports.aiohttp import (  # noqa: PLC0415 - not by import wxpay_async
                AiohttpTransport,
            )

            settings["transport"] = AiohttpTransport(proxy=env["WXPAY_PROXY"])
        return cls(app_key, _signer_from(env), **settings)

    async def __aenter__(self) -> Self:
        """Return the gateway; connections open with the first request."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel what is under way, record where it stands, and release every connection."""
        await self._flights.aclose()
        if self._transport is not None:
            await self._transport.aclose()
        await self._wiring.limiter.aclose()
        await self._wiring.store.aclose()

    # The operations

    async def pay(self, request: MiniProgramPay, *, timeout: float | None = None) -> PayResult:
        """Turn a payToken into the parameters of `wx.requestPayment`.

        Args:
            request: what to pay.
            timeout: seconds for the whole call: quota, retries and all; 30 when absent.

        Raises:
            IdempotencyConflictError: the requestId stands for other content; nothing was sent.
            NotSentError: the request cannot have arrived.
            InDoubtError: it may have been executed; call again with the same request.
            RefusedError: the platform refused, see its subclasses.
        """

        def check(result: PayResult) -> None:
            _check_echo("requestId", request.request_id, result.request_id)
            _check_echo("appId", request.app_id, result.app_id)

        return await self._once(_typed(request, MiniProgramPay), PayResult, check, timeout)

    async def trade(self, request: InstantTrade, *, timeout: float | None = None) -> TradeResult:
        """Create payable orders. Takes and raises what `pay` does."""
        numbers = {item.out_trade_no for item in _typed(request, InstantTrade).trade_info}

        def check(result: TradeResult) -> None:
            _check_echo("requestId", request.request_id, result.request_id)
            for row in result.trade_res_list:
                if row.out_trade_no not in numbers:
                    raise _differs("outTradeNo")

        return await self._once(request, TradeResult, check, timeout)

    async def refund(self, request: Refund, *, timeout: float | None = None) -> RefundResult:
        """Give money back. Takes and raises what `pay` does; status F is a `FailedError`."""

        def check(result: RefundResult) -> None:
            _check_echo("requestId", request.request_id, result.request_id)
            _check_echo("outTradeNo", request.out_trade_no, result.out_trade_no)

        return await self._once(_typed(request, Refund), RefundResult, check, timeout)

    async def query(
        self,
        *,
        out_trade_no: str | None = None,
        trade_no: str | None = None,
        timeout: float | None = None,
    ) -> TradeStatus:
        """Ask what the platform knows of one trade: the truth behind every callback.

        Args:
            out_trade_no: the merchant's order number, or
            trade_no: the platform's; exactly one of the two.
            timeout: seconds for the whole call.

        Raises:
            RefusedError: the platform does not know the order, or refuses to say.
            NotSentError, InDoubtError: no answer; ask again.
        """
        query = TradeQuery(out_trade_no=out_trade_no, trade_no=trade_no)
        return await self._ask(QUERY, query_parameters(query), TradeStatus, timeout)

    async def merchants(
        self, *, page_size: int = 10, timeout: float | None = None
    ) -> AsyncIterator[Merchant]:
        """Iterate over the sub-merchants, fetching a page at a time.

        Args:
            page_size: sub-merchants a page.
            timeout: seconds for each page.
        """
        if page_size < 1:
            raise InvalidRequestError(f"{page_size}", field="pageSize", allowed="1 or above")
        number = 1
        while True:
            params = {"pageSize": str(page_size), "currentPage": str(number)}
            page = await self._ask(MERCHANTS, params, MerchantPage, timeout)
            for merchant in page.merchants:
                yield merchant
            if not page.merchants or number >= (page.total_page or 0):
                return
            number += 1

    async def checkout(
        self, trade: InstantTrade, *, openid: str, app_id: str, timeout: float | None = None
    ) -> PayResult:
        """Create the order and its prepay in one call: `trade`, then `pay`.

        The requestId of the payment is derived from the trade's, so calling again after any error
        continues where it stopped.

        Args:
            trade: the order.
            openid: the payer's openid in the mini program.
            app_id: the mini program's appid.
            timeout: seconds for each of the two calls.
        """
        created = await self.trade(trade, timeout=timeout)
        if created.pay_token is None:
            raise MalformedResponseError("the trade was created without a payToken")
        return await self.pay(
            MiniProgramPay(
                request_id=derive_request_id(self.app_key, "pay", trade.request_id),
                pay_token=created.pay_token,
                terminal_payer_id=openid,
                app_id=app_id,
                out_trade_no=trade.trade_info[0].out_trade_no,
            ),
            timeout=timeout,
        )

    async def wait_paid(
        self, out_trade_no: str, *, timeout: float = 300.0, every: float = POLL_EVERY
    ) -> TradeStatus:
        """Query until the order is paid.

        Args:
            out_trade_no: the merchant's order number.
            timeout: seconds to wait for the person.
            every: seconds between two queries.

        Returns:
            The status of the paid order.

        Raises:
            NotPaidError: the order was closed, or the payment failed.
            InDoubtError: the time is up and the order can still be paid.
            RefusedError: the platform does not know the order.
        """
        deadline = self._clock.monotonic() + timeout
        while True:
            try:
                status = await self.query(out_trade_no=out_trade_no)
            except WxPayError as error:
                if isinstance(error, RefusedError) and not error.retryable:
                    raise
            else:
                if status.state is TradeState.PAID:
                    return status
                if status.state in {TradeState.FAILED, TradeState.CLOSED}:
                    raise NotPaidError(f"order {out_trade_no} ended as {status.status}")
            if self._clock.monotonic() + every > deadline:
                raise InDoubtError(f"order {out_trade_no} is not paid yet and still can be")
            await self._clock.sleep(every)

    # Many at once

    def pay_many(
        self,
        requests: Iterable[MiniProgramPay] | AsyncIterable[MiniProgramPay],
        *,
        concurrency: int = 64,
        timeout: float | None = None,
    ) -> AsyncIterator[Outcome[MiniProgramPay, PayResult]]:
        """Pay for every request and yield an `Outcome` for each as it ends, in no fixed order.

        Requests are pulled no faster than they are sent, so an endless generator is fine. No error
        of one request is raised. Leaving the loop cancels what is under way.

        Args:
            requests: an iterable or async iterable.
            concurrency: calls at once.
            timeout: seconds for each call.
        """
        return stream(requests, lambda r: self.pay(r, timeout=timeout), concurrency=concurrency)

    def refund_many(
        self,
        requests: Iterable[Refund] | AsyncIterable[Refund],
        *,
        concurrency: int = 64,
        timeout: float | None = None,
    ) -> AsyncIterator[Outcome[Refund, RefundResult]]:
        """Refund for every request; works like `pay_many`."""
        return stream(requests, lambda r: self.refund(r, timeout=timeout), concurrency=concurrency)

    def query_many(
        self,
        out_trade_nos: Iterable[str] | AsyncIterable[str],
        *,
        concurrency: int = 64,
        timeout: float | None = None,
    ) -> AsyncIterator[Outcome[str, TradeStatus]]:
        """Query every order by its outTradeNo; works like `pay_many`."""
        return stream(
            out_trade_nos,
            lambda number: self.query(out_trade_no=number, timeout=timeout),
            concurrency=concurrency,
        )

    # How they are carried out

    async def _once(
        self,
        request: Request,
        result_type: type[T],
        check: Callable[[T], None],
        timeout: float | None,
        lane: Lane = Lane.PEOPLE,
    ) -> T:
        """Execute what carries a requestId, together with whoever asks for the same."""
        self._enter_loop()
        operation = OPERATIONS[type(request)]
        meaning = fingerprint(
            operation.name, {**wire_fields(request), "outTradeNo": _order(request)}
        )
        wait = self._call_time(timeout)
        execution = Execution(
            wiring=self._wiring,
            operation=operation,
            params=parameters(request),
            result_type=result_type,
            check=check,
            lane=lane,
            deadline=self._clock.monotonic() + wait,
        )
        began = self._clock.monotonic()
        try:
            result, shared = await self._flights.join(
                request.request_id,
                meaning,
                lambda: self._fly(execution, request, meaning),
                timeout=wait,
            )
        except WxPayError as error:
            error.request_id = request.request_id
            self._tell(operation, request.request_id, began, error=error)
            raise
        if shared:
            result = attrs.evolve(result, replayed=True)
        self._tell(operation, request.request_id, began, replayed=result.replayed)
        return result

    async def _fly(self, execution: Execution[T], request: Request, meaning: Fingerprint) -> T:
        now = self._clock.time()
        fresh = Entry(
            app_key=self.app_key,
            request_id=request.request_id,
            operation=execution.operation.name,
            fingerprint=meaning,
            out_trade_no=_order(request),
            created_at=now,
            updated_at=now,
        )
        entry = await self._wiring.store.reserve(fresh)
        if entry.fingerprint != meaning:
            raise conflict(entry.fingerprint.differences(meaning))
        if entry.state in FINISHED or entry.state is State.PENDING:
            return execution.replayed(entry)
        _check_sendable(entry)
        execution.entry = entry
        return await self._delivering().deliver(
            execution.prepare,
            read=execution.read,
            settle=execution.settle,
            deadline=execution.deadline,
            in_doubt=entry.in_doubt,
        )

    async def _ask(
        self,
        operation: Operation,
        params: Mapping[str, str],
        result_type: type[T],
        timeout: float | None,
    ) -> T:
        """Execute what only reads: no requestId, no store."""
        self._enter_loop()
        began = self._clock.monotonic()
        execution = Execution(
            wiring=self._wiring,
            operation=operation,
            params=params,
            result_type=result_type,
            deadline=began + self._call_time(timeout),
        )
        try:
            result = await self._delivering().deliver(
                execution.prepare,
                read=execution.read,
                settle=execution.settle,
                deadline=execution.deadline,
            )
        except WxPayError as error:
            self._tell(operation, None, began, error=error)
            raise
        self._tell(operation, None, began)
        return result

    def _enter_loop(self) -> None:
        """Start afresh in a new event loop: what waited in the old one is gone with it."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._flights = Flights()
            self._wiring.connections = asyncio.Semaphore(self._max_in_flight)

    def _delivering(self) -> RetryingTransport:
        if self._transport is None:
            from wxpay_async.transports.aiohttp import (  # noqa: PLC0415 - not by import wxpay_async
                AiohttpTransport,
            )

            self._transport = AiohttpTransport(max_connections=self._max_in_flight)
        return RetryingTransport(
            self._transport,
            policy=self._retry,
            budget=self._budget,
            timeouts=self._timeouts,
            clock=self._clock,
        )

    def _call_time(self, timeout: float | None) -> float:
        if timeout is None:
            return self._timeouts.call
        if timeout < self._retry.min_left:
            raise InvalidRequestError(
                f"{timeout} s",
                field="timeout",
                allowed=f"at least {self._retry.min_left} s, which one attempt may need",
            )
        return timeout

    def _tell(
        self,
        operation: Operation,
        request_id: str | None,
        began: float,
        *,
        error: WxPayError | None = None,
        replayed: bool = False,
    ) -> None:
        if self._wiring.hooks:
            self._wiring.tell(
                Event(
                    kind=EventKind.OUTCOME,
                    operation=operation.name,
                    request_id=request_id,
                    attempt=error.attempts if error else 0,
                    fate=error.fate if error else "ok",
                    code=error.code if error else None,
                    seconds=self._clock.monotonic() - began,
                    replayed=error.replayed if error else replayed,
                )
            )


def _signer_from(env: Mapping[str, str]) -> Signer:
    secret, key_file = env.get("WXPAY_APP_SECRET"), env.get("WXPAY_PRIVATE_KEY_FILE")
    if bool(secret) == bool(key_file):
        raise InvalidRequestError(
            "both set" if secret else "not set",
            field="WXPAY_APP_SECRET",
            allowed="WXPAY_APP_SECRET (MD5) or WXPAY_PRIVATE_KEY_FILE (RSA), one of the two",
        )
    if key_file:
        return RsaSigner.from_file(key_file, env.get("WXPAY_PRIVATE_KEY_PASSPHRASE") or None)
    return Md5Signer(secret or "")


def _typed(request: object, kind: type[R]) -> R:
    if not isinstance(request, kind):
        raise InvalidRequestError(
            f"got {type(request).__name__}", field="request", allowed=kind.__name__
        )
    return request


def _order(request: Request) -> str | None:
    """Return the order number that a query can ask for when the answer gets lost."""
    if isinstance(request, InstantTrade):
        return request.trade_info[0].out_trade_no
    return request.out_trade_no


def _check_echo(field: str, sent: str | None, echoed: str | None) -> None:
    if sent is not None and echoed is not None and sent != echoed:
        raise _differs(field)


def _differs(field: str) -> MalformedResponseError:
    return MalformedResponseError(
        f"the answer's {field} is not the request's: the credential is withheld", retryable=False
    )


def _check_sendable(entry: Entry) -> None:
    if entry.state is State.CONFLICT:
        raise IdempotencyConflictError("the platform holds this requestId with other content")
    if entry.state is State.NEEDS_REVIEW:
        raise InDoubtError("24 h without proof: a person must look at it", retryable=False)
