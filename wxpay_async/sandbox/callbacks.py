"""Deliver callbacks to merchants, with retries until they are acknowledged.

A callback is a POST of a form. Only an answer in time, with status 200 and the JSON object
`{"status": 1}`, acknowledges it. After anything else (0, other bytes, another status, a redirect,
no answer, a closed port) it is sent again by the schedule, with a new nonce, timestamp and
signature. The order of callbacks is not guaranteed. Callbacks that are pending when the sandbox
closes are delivered after its next start.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

import aiohttp
from attrs import define, field, frozen
from attrs.validators import deep_iterable, ge, gt, lt, min_len

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import SANDBOX_MARKER
from wxpay_async.sandbox.auth import App
from wxpay_async.sandbox.callback_payloads import (
    Callback,
    CallbackSigner,
    Nonce,
    Pairs,
    SignFunction,
    forge_callback,
)
from wxpay_async.sandbox.fault_kinds import Forgery
from wxpay_async.sandbox.fault_queue import CallbackFault, Faults

SCHEDULE: Final = (0.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
"""Seconds before each delivery. The platform's own are not documented."""

_ACKNOWLEDGEMENT: Final = {"status": 1}
_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "application/x-www-form-urlencoded",
    SANDBOX_MARKER: "1",
}
_MAX_CONCURRENT: Final = 256
_MAX_LOGGED: Final = 1_000
_MAX_ANSWER: Final = 4_096
_MAX_PENDING: Final = 10_000


@frozen(kw_only=True)
class Delivery:
    """One POST to a merchant, and the answer.

    Attributes:
        callback: what was sent.
        attempt: 1 for the first delivery of the callback.
        pairs: the form as it was sent.
        forgery: what was wrong with it, None for a genuine one.
        status: the HTTP status of the answer, None when there was none.
        answer: the beginning of the answer's body.
        problem: why there was no answer, empty when there was one.
        at: when it was answered or given up, seconds since the epoch.
    """

    callback: Callback
    attempt: int
    pairs: tuple[tuple[str, str], ...] = field(repr=False)
    forgery: Forgery | None = None
    status: int | None = None
    answer: bytes = b""
    problem: str = ""
    at: float = 0.0

    @property
    def acknowledged(self) -> bool:
        """Whether the merchant answered exactly that the callback is handled."""
        return self.status == HTTPStatus.OK and _is_acknowledgement(self.answer)


@define(eq=False, kw_only=True)
class _Pending:
    """A callback that is not acknowledged yet; `attempts` counts its deliveries."""

    callback: Callback
    fault: CallbackFault
    forgery: Forgery | None = None
    attempts: int = 0


_Chain = list[_Pending]
"""Callbacks of which each is sent after the one before it was answered."""


def _ignore_delivery(delivery: Delivery) -> None:
    """Keep nothing more of it."""


def _ignore_fault(callback: Callback, fault: CallbackFault) -> None:
    """Keep nothing of it."""


def _as_tuple(schedule: Sequence[float]) -> tuple[float, ...]:
    return tuple(schedule)


@define(eq=False, kw_only=True)
class CallbackSender:
    """Deliver callbacks.

    Attributes:
        apps: the merchants, by appKey.
        clock: seconds since the epoch, for timestamps.
        token: returns a new nonce.
        sign_rsa: signs by the platform's key, in Base64.
        schedule: real seconds before each delivery of a callback; after the last it is given up.
        timeout: real seconds in which a merchant must answer.
        faults: the faults to apply.
        delivered: how many POSTs were answered, those of forgeries included.
        acknowledged: how many genuine callbacks were acknowledged.
        given_up: how many were not acknowledged in the whole schedule.
        dropped: how many were never sent, because 10,000 others were pending.
        lost: how many were never sent, by a fault.
        forgeries_acknowledged: how many forgeries were acknowledged: a fault of the merchant.
        log: the last 1,000 deliveries, in the order of their answers.
        on_delivery: called with each delivery.
        on_fault: called with each callback whose sending a fault changes.
    """

    apps: Mapping[str, App] = field(repr=False)
    clock: Callable[[], float] = field(repr=False)
    token: Callable[[], str] = field(repr=False)
    sign_rsa: SignFunction = field(repr=False)
    schedule: tuple[float, ...] = field(
        default=SCHEDULE,
        converter=_as_tuple,
        validator=[min_len(1), deep_iterable([ge(0.0), lt(math.inf)])],
    )
    timeout: float = field(default=5.0, validator=[gt(0.0), lt(math.inf)])
    faults: Faults = field(factory=Faults, repr=False)
    delivered: int = field(init=False, default=0)
    acknowledged: int = field(init=False, default=0)
    given_up: int = field(init=False, default=0)
    dropped: int = field(init=False, default=0)
    lost: int = field(init=False, default=0)
    forgeries_acknowledged: int = field(init=False, default=0)
    log: deque[Delivery] = field(
        init=False, factory=lambda: deque[Delivery](maxlen=_MAX_LOGGED), repr=False
    )
    on_delivery: Callable[[Delivery], None] = field(default=_ignore_delivery, repr=False)
    on_fault: Callable[[Callback, CallbackFault], None] = field(default=_ignore_fault, repr=False)
    _pending: dict[_Pending, None] = field(init=False, factory=dict[_Pending, None], repr=False)
    _held: list[_Chain] = field(init=False, factory=list[_Chain], repr=False)
    _tasks: set[asyncio.Task[None]] = field(init=False, factory=set[asyncio.Task[None]], repr=False)
    _slots: asyncio.Semaphore = field(init=False, factory=asyncio.Semaphore, repr=False)
    _loop: asyncio.AbstractEventLoop | None = field(init=False, default=None, repr=False)
    _session: aiohttp.ClientSession | None = field(init=False, default=None, repr=False)

    @property
    def waiting(self) -> int:
        """How many callbacks are neither acknowledged nor given up yet."""
        return len(self._pending)

    async def start(self) -> None:
        """Begin to deliver, including the callbacks that were pending before."""
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)
        self._session = aiohttp.ClientSession(
            # A kept connection would break when the merchant restarts, and cost a delivery.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        held = {pending for chain in self._held for pending in chain}
        for pending in self._pending:
            if pending not in held:
                self._spawn([pending])

    async def aclose(self) -> None:
        """Stop delivering. May be called twice."""
        session, self._session, self._loop = self._session, None, None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if session is not None:
            await session.close()

    async def wait_until_idle(self) -> None:
        """Wait until no callback is pending; callbacks that `reorder` holds back are sent.

        Raises:
            RuntimeError: one is pending, and the sandbox is not running.
        """
        while self._pending:
            self._release_held()
            await asyncio.sleep(0)  # a callback that was just enqueued becomes a task
            if not self._tasks:
                raise RuntimeError("callbacks are waiting, and the sandbox is not running")
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    def enqueue(self, callback: Callback) -> None:
        """Send a callback as soon as the sandbox runs, if the merchant has an address."""
        if self.apps[callback.app_key].notify_url is None:
            return
        if len(self._pending) >= _MAX_PENDING:
            self.dropped += 1
            return
        fault = self.faults.take_callback_fault(callback.fault)
        if fault != CallbackFault():
            self.on_fault(callback, fault)
        if fault.lost:
            self.lost += 1
            return
        chains = _plan_chains(callback, fault)
        self._pending.update((pending, None) for chain in chains for pending in chain)
        if fault.held or fault.releases:
            self._held.extend(chains)
        else:
            self._start_chains(chains)
        if fault.releases:
            self._release_held()

    async def send_once(self, callback: Callback, *, forgery: Forgery | None = None) -> Delivery:
        """Deliver a callback or a forgery of it once, now, outside the schedule.

        Raises:
            RuntimeError: the sandbox is not running.
            InvalidRequestError: the merchant has no address.
        """
        if self._session is None:
            raise RuntimeError("the sandbox is not running")
        if self.apps[callback.app_key].notify_url is None:
            raise InvalidRequestError("is not set", field="notify_url", allowed="an address")
        return await self._deliver(
            _Pending(callback=callback, fault=CallbackFault(), forgery=forgery)
        )

    def _release_held(self) -> None:
        """Send what was held back: the last first, one after the other."""
        held, self._held = self._held, []
        if held:
            self._start_chains([[pending for chain in reversed(held) for pending in chain]])

    def _start_chains(self, chains: Iterable[_Chain]) -> None:
        """Start them in the sandbox's loop: the payer may act in another thread."""
        if self._loop is not None:
            for chain in chains:
                self._loop.call_soon_threadsafe(self._spawn, chain)

    def _spawn(self, chain: _Chain) -> None:
        if self._loop is None:  # closed in the meantime; the callbacks stay pending
            return
        task = self._loop.create_task(self._run_chain(chain))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_chain(self, chain: _Chain) -> None:
        """Deliver each once, one after the other; retries do not delay the rest of the chain."""
        for pending in chain:
            await asyncio.sleep(self._choose_delay(pending))
            delivery = await self._deliver(pending)
            if delivery.acknowledged or delivery.forgery:
                del self._pending[pending]
            elif pending.attempts >= len(self.schedule):
                self.given_up += 1
                del self._pending[pending]
            else:
                self._spawn([pending])

    def _choose_delay(self, pending: _Pending) -> float:
        if pending.forgery:
            return 0.0
        pause = 0.0 if pending.attempts else pending.fault.pause
        return pause + self.schedule[pending.attempts]

    async def _deliver(self, pending: _Pending) -> Delivery:
        async with self._slots:
            pairs = self._build_pairs(pending)
            status, answer, problem = await self._post(self.apps[pending.callback.app_key], pairs)
        pending.attempts += 1
        delivery = Delivery(
            callback=pending.callback,
            attempt=pending.attempts,
            pairs=tuple(pairs),
            forgery=pending.forgery,
            status=status,
            answer=answer,
            problem=problem,
            at=self.clock(),
        )
        self._count(delivery)
        return delivery

    def _count(self, delivery: Delivery) -> None:
        self.log.append(delivery)
        self.delivered += delivery.status is not None
        if delivery.forgery:
            self.forgeries_acknowledged += delivery.acknowledged
        else:
            self.acknowledged += delivery.acknowledged
        self.on_delivery(delivery)

    def _build_pairs(self, pending: _Pending) -> Pairs:
        app = self.apps[pending.callback.app_key]
        signer = CallbackSigner(
            scheme=app.notify_scheme,
            signers={"md5": Md5Signer(app.app_secret).sign, "rsa": self.sign_rsa},
        )
        at = self.clock() - pending.fault.stale
        nonce = Nonce(value=self.token(), timestamp=round(at * 1000))
        if pending.forgery:
            return forge_callback(pending.forgery, pending.callback, signer=signer, nonce=nonce)
        return list(signer.sign(pending.callback, nonce).items())

    async def _post(self, app: App, pairs: Pairs) -> tuple[int | None, bytes, str]:
        if self._session is None or app.notify_url is None:
            return None, b"", "no address"
        try:
            async with self._session.post(
                app.notify_url,
                data=urlencode(pairs).encode("ascii"),
                headers=_HEADERS,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self.timeout),
            ) as response:
                return response.status, await _read_beginning(response.content), ""
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            return None, b"", type(error).__name__


def _plan_chains(callback: Callback, fault: CallbackFault) -> list[_Chain]:
    """Return a chain for each copy; the forgery is sent before the first genuine copy."""
    chains = [[_Pending(callback=callback, fault=fault)] for _ in range(fault.copies)]
    if fault.forgery:
        forgery = _Pending(callback=callback, fault=fault, forgery=fault.forgery)
        chains[0].insert(0, forgery)
    return chains


async def _read_beginning(content: aiohttp.StreamReader) -> bytes:
    """Read as much of a body as an acknowledgement could need."""
    body = b""
    while len(body) < _MAX_ANSWER and (chunk := await content.read(_MAX_ANSWER - len(body))):
        body += chunk
    return body


def _is_acknowledgement(answer: bytes) -> bool:
    if len(answer) >= _MAX_ANSWER:  # the rest of it was not read, and may contain anything
        return False
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    # In Python True and 1.0 equal 1. The platform's documentation shows the integer only.
    return value == _ACKNOWLEDGEMENT and type(value["status"]) is int
