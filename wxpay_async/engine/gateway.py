"""`PayGateway`: the acquiring chapter as operations to await."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from wxpay_async.adapters.limiters.limiter import Lane
from wxpay_async.engine.checkout import Checkout, Reorder, prepare_payment
from wxpay_async.engine.endpoint_call import call_endpoint
from wxpay_async.engine.gateway_outcomes import GatewayOutcomes
from wxpay_async.engine.queries import iter_merchants
from wxpay_async.engine.streaming import OutcomeStream
from wxpay_async.protocol.endpoint import Parameters
from wxpay_async.protocol.requests import (
    InstantTrade,
    MiniProgramPay,
    Refund,
    TradeQuery,
    check_type,
)
from wxpay_async.protocol.results import (
    CallResult,
    Merchant,
    PayResult,
    RefundResult,
    TradeResult,
    TradeStatus,
)

if TYPE_CHECKING:
    from wxpay_async.protocol.explain import Explained, Explanation

Q = TypeVar("Q")
T = TypeVar("T")

POLL_EVERY: Final = 2.0
"""Seconds between the first two queries of `wait_paid`."""


class PayGateway(GatewayOutcomes):
    """Awaits the platform for one appKey; many calls at once, each safe to repeat.

    Making one is pure: no I/O, no event loop. It works in one loop after another, not in two at
    once (`threads.md`). Inside `async with` it also looks every 30 s after operations that a crash
    or a lost answer left open. A transport, store or limiter that is handed in belongs to the
    caller, who may share it and closes it; what the gateway makes itself it closes.

    Args:
        app_key: the merchant's developer id.
        signer: the scheme that the contract names: `RsaSigner`, `Md5Signer` or your own.
        base_url: the platform's address, or `test` or `production`; HTTPS, except on loopback. A
            path in it comes before that of each endpoint, and is not signed.
        allow_insecure: plain HTTP beyond loopback, too: for a machine that forwards to the
            platform, in a network that no one else can read.
        transport: how requests travel; aiohttp by default.
        store: where requestIds are remembered; in memory by default.
        limiter: the quota; 400 calls per 60 s by default, `Unlimited()` switches it off.
        retry: how often and how fast to try again.
        timeouts: how long each phase may take.
        hooks: called with every `Event`.
        max_in_flight: HTTP requests at once; further callers wait.
        seal_keys: what encrypts what a durable store keeps: keys of 32 bytes, or signers from whose
            secrets they are derived. The first seals, any opens, so a key can be changed without
            losing answers (`rotation.md`). The signer's own when absent; needed for a signer of
            your own, which does not hold its secret.
        refunds_queryable: set it once you have seen, on the platform's test host, that a query by
            a refund's own number finds it. Only then is a refund that is not found taken for not
            executed; otherwise a person must look.
        absent_codes: error codes of which you have seen, on the platform's test host, that a query
            answers with them when it does not know an order. Without them only an undocumented
            business code counts whose text says so (不存在, 未找到, 查无, not found, not exist).
        trade_states: status texts of a query, each with its `TradeState`, beside those that the SDK
            knows: the platform documents only one (待付款). A text that is in neither table is
            logged once, as a WARNING, and proves nothing.
        placement: where the parameters travel: a form body, or `"query"`, the query string, which
            ends up in the logs of whatever stands between.
        clock: the machine's, unless a test moves it.

    Raises:
        InvalidRequestError: a setting cannot be used; nothing was sent.
    """

    # The operations

    async def pay(
        self, request: MiniProgramPay, *, timeout: float | None = None, lane: Lane = Lane.PEOPLE
    ) -> PayResult:
        """Turn a payToken into the parameters of `wx.requestPayment`.

        Args:
            request: what to pay.
            timeout: seconds for the whole call, whatever it waits for; 30 when absent. What ends
                since they are over is a `TimeoutError` too.
            lane: whose turn it is when the quota is short. A machine's request (`Lane.BATCH`) waits
                for its slot as long as it takes, up to 24 h, where no timeout is given.

        Raises:
            IdempotencyConflictError: the requestId stands for other content; nothing was sent.
            NotSentError: the request cannot have arrived.
            InDoubtError: it may have been executed; call again with the same request.
            RefusedError: the platform refused, see its subclasses.
        """
        return await self._dispatcher.executor.execute(
            check_type(request, MiniProgramPay), PayResult, timeout=timeout, lane=lane
        )

    async def trade(
        self, request: InstantTrade, *, timeout: float | None = None, lane: Lane = Lane.PEOPLE
    ) -> TradeResult:
        """Create payable orders. Takes and raises what `pay` does."""
        return await self._dispatcher.executor.execute(
            check_type(request, InstantTrade), TradeResult, timeout=timeout, lane=lane
        )

    async def refund(
        self, request: Refund, *, timeout: float | None = None, lane: Lane = Lane.PEOPLE
    ) -> RefundResult:
        """Give money back. Takes and raises what `pay` does; status F is a `FailedError`."""
        return await self._dispatcher.executor.execute(
            check_type(request, Refund), RefundResult, timeout=timeout, lane=lane
        )

    async def query(
        self,
        *,
        out_trade_no: str | None = None,
        trade_no: str | None = None,
        timeout: float | None = None,
        lane: Lane = Lane.PEOPLE,
    ) -> TradeStatus:
        """Ask what the platform knows of one trade: the truth behind every callback.

        Args:
            out_trade_no: the merchant's order number, or
            trade_no: the platform's; exactly one of the two.
            timeout: seconds for the whole call.
            lane: whose turn it is when the quota is short.

        Raises:
            RefusedError: the platform does not know the order, or refuses to say.
            MalformedResponseError: the answer is about another order: it is withheld.
            NotSentError, InDoubtError: no answer; ask again.
        """
        query = TradeQuery(out_trade_no=out_trade_no, trade_no=trade_no)
        return await self._dispatcher.reader.query(query, timeout=timeout, lane=lane)

    def merchants(
        self, *, page_size: int = 10, timeout: float | None = None
    ) -> AsyncIterator[Merchant]:
        """Iterate over the sub-merchants, fetching a page at a time.

        It ends with the last page or the total that the platform tells; and with a page that comes
        again or says that it is another one, as a platform that does not page would go on for ever.

        Args:
            page_size: sub-merchants a page.
            timeout: seconds for each page.

        Raises:
            InvalidRequestError: `page_size` is no integer above 0.
        """
        return iter_merchants(self._dispatcher, page_size=page_size, timeout=timeout)

    async def checkout(
        self,
        trade: InstantTrade,
        *,
        openid: str,
        app_id: str,
        reorder: Reorder | None = None,
        timeout: float | None = None,
    ) -> PayResult:
        """Return what the payer needs to pay an order, which it creates: `trade`, then `pay`.

        Call it at every tap, with the same trade. For as long as the order can be paid there is one
        live credential, and this returns it: the one that is there, or another when its answer was
        lost, it is over 20 minutes old, or another payer wants to pay. There are never two of an
        order that can be paid. The requestIds of the payments are derived from the trade's.

        The same order may be paid from another phone or network: `payer_ip`, `terminal_info` and
        the openid of the trade may differ between two calls.

        Args:
            trade: the order.
            openid: the payer's openid in the mini program.
            app_id: the mini program's appid.
            reorder: makes the number of the next order when this one ended unpaid: it is given the
                number that ended. The next order is created and paid like this one, and every later
                call for this trade goes on with it. Without it the end is a `NotPaidError`.
            timeout: seconds for all of it; 30 when absent.

        Raises:
            AlreadyPaidError: the order is paid.
            NotPaidError, FailedError: the order ended without being paid, and there is no
                `reorder`.
            OtherPayerError: another payer has the live credential; see its `retry_at`.
            TradeUnusableError: the answer with the payToken was lost, so the order cannot be paid;
                see its `retry_at`. Called again after it, `reorder` makes the next one.
            InDoubtError: as of `pay`; also when the order is made and its prepay was not asked
                for, whatever kept it from being sent. Call again with the same trade.
            WxPayError: what `trade` and `pay` raise otherwise.
        """
        trade = check_type(trade, InstantTrade)
        request = prepare_payment(trade, app_key=self.app_key, openid=openid, app_id=app_id)
        del openid  # the request masks it; a traceback with locals would not
        times = self._dispatcher.times
        deadline = times.after(times.seconds(timeout, Lane.PEOPLE))
        return await Checkout(self._dispatcher, trade, request, deadline, reorder).run()

    async def wait_paid(
        self, out_trade_no: str, *, timeout: float = 300.0, every: float = POLL_EVERY
    ) -> TradeStatus:
        """Wait until the order is paid: query it again and again.

        All callers that wait for one order share its queries, in a lane that leaves the quota to
        people who pay. A callback that can be believed ends the pause before the next one: at once
        if it comes to this gateway, within a second if it comes to another process that has the
        same durable store.

        Args:
            out_trade_no: the merchant's order number.
            timeout: seconds to wait for the person.
            every: seconds between the first query and the second. Pauses grow by half again, up to
                15 s; an `every` above that stays as it is.

        Returns:
            The status of the paid order, which may be given back already: see its `state`.

        Raises:
            InvalidRequestError: a time is negative, infinite or no number.
            MalformedResponseError: an answer is about another order: it is withheld.
            NotPaidError: the order was closed, or the payment failed.
            InDoubtTimeoutError: the time is up and the order can still be paid; the text has the
                platform's last word.
            InDoubtError: the gateway was closed meanwhile.
            RefusedError: the platform does not know the order.
        """
        return await self._dispatcher.wait_paid(out_trade_no, timeout=timeout, every=every)

    # Many at once

    def pay_many(
        self,
        requests: Iterable[MiniProgramPay] | AsyncIterable[MiniProgramPay],
        *,
        concurrency: int = 64,
        timeout: float | None = None,
    ) -> OutcomeStream[MiniProgramPay, PayResult]:
        """Pay for every request and yield an `Outcome` for each as it ends, in no fixed order.

        Requests are pulled no faster than they are sent, so an endless generator is fine. No error
        of one request is raised. After 10 requests in a row without an answer, or 3 access
        refusals, it pauses: the next one starts after 2, 4, 8, … 60 s, alone, and all others once
        such a one is answered (`money-safety.md` §5). Leaving the loop cancels what is under way;
        where the iterator has a name of its own, close it, as by
        `async with gateway.pay_many(...) as outcomes:`.

        Args:
            requests: an iterable or async iterable, of any length: a request waits for its slot
                of the quota as long as it takes (24 h at most), and is tried up to 6 times: after
                a refusal for too many calls always, after other failures while the budget of
                retries lasts, which all calls share (`money-safety.md` §5).
            concurrency: calls at once.
            timeout: seconds for each call, the wait for the quota included; a long batch needs
                minutes here. When absent, nothing is given up for want of quota.

        Raises:
            InvalidRequestError: `concurrency` is below 1.
            NotSentError: while iterating: the gateway was closed before every request was pulled;
                what was under way had its outcome, in doubt.
        """
        return self._many.pay(requests, concurrency, timeout)

    def refund_many(
        self,
        requests: Iterable[Refund] | AsyncIterable[Refund],
        *,
        concurrency: int = 64,
        timeout: float | None = None,
    ) -> OutcomeStream[Refund, RefundResult]:
        """Refund for every request; works like `pay_many`."""
        return self._many.refund(requests, concurrency, timeout)

    def query_many(
        self,
        out_trade_nos: Iterable[str] | AsyncIterable[str],
        *,
        concurrency: int = 64,
        timeout: float | None = None,
    ) -> OutcomeStream[str, TradeStatus]:
        """Query every order by its outTradeNo; works like `pay_many`."""
        return self._many.query(out_trade_nos, concurrency, timeout)

    def stream(
        self,
        items: Iterable[Q] | AsyncIterable[Q],
        call: Callable[[Q], Awaitable[T]],
        *,
        operation: Literal["pay", "trade", "refund", "query"],
        concurrency: int = 64,
    ) -> OutcomeStream[Q, T]:
        """Make a call of one's own for every item; works like `pay_many` (for `Batch`).

        Args:
            items: an iterable or async iterable, of any length.
            call: makes the call of one, in whose lane it says; its `WxPayError` is an outcome.
            operation: what hooks are told of pauses: pay, trade, refund or query.
            concurrency: calls at once.

        Raises:
            InvalidRequestError: `concurrency` is below 1.
        """
        return self._many.stream(items, call, concurrency, operation)

    # What has no method

    async def call(
        self,
        path: str,
        params: Parameters | None = None,
        *,
        retry_safe: bool = False,
        timeout: float | None = None,
        lane: Lane = Lane.PEOPLE,
    ) -> CallResult:
        """Call an endpoint that the SDK has no method for: signed and limited like the others.

        No store remembers it, so nothing keeps it from being executed twice when it is called
        twice. What is proven not to have been executed is tried again, as everywhere.

        Args:
            path: of the endpoint, as `/api/company/merchants`.
            params: its parameters: texts, or a dict or a list that is sent as JSON, as
                `{"bizContent": {...}}`. Amounts are texts. The gateway adds the appKey, `nonce`,
                `timestamp` and the signature.
            retry_safe: whether a second execution does no harm, as of what only reads. Then an
                attempt in doubt is tried again, too.
            timeout: seconds for the whole call; 30 when absent.
            lane: whose turn it is when the quota is short.

        Raises:
            InvalidRequestError: it is no path, or a name is none; `pay`, `trade` and `refund` have
                their methods. Nothing was sent.
            NotSentError: the request cannot have arrived.
            InDoubtError: it may have been executed; only the platform can tell.
            RefusedError: the platform refused.
            TypeError: a parameter is neither a text nor exact JSON.
        """
        return await call_endpoint(
            self._dispatcher, path, params or {}, retry_safe=retry_safe, timeout=timeout, lane=lane
        )

    # Without sending

    async def explain(
        self, request: Explained, *, against: str | bytes | None = None
    ) -> Explanation:
        """Explain how a request would be signed, and why another side's signature differs.

        Nothing is sent, and no secret is in what it returns: credentials stand as `***`.

        Args:
            request: a request or a query, an `HttpRequest` as it was sent, or all parameters of a
                call. Where it does not say under which `nonce` and `timestamp` it was signed, new
                ones are made, as for an attempt.
            against: the canonical string or the signature that the other side computed.

        Raises:
            InvalidRequestError: it cannot be signed; or a signature is to be compared, and it is
                not known under which `nonce` and `timestamp` it was made.
            NotSentError: the signer failed.
        """
        from wxpay_async.engine.explaining import explain  # noqa: PLC0415 - hardly ever needed

        return await explain(self._dispatcher, request, against)
