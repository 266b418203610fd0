"""Tells merchants what became of their orders, again and again until they say `{"status": 1}`.

A callback is a POST of a form. Only status 200 with the JSON object `{"status": 1}`, in time, ends
it; after anything else (0, other bytes, another status, a redirect, silence, a closed port) it is
sent again by the schedule, with a fresh nonce, timestamp and signature. No order among callbacks
is promised. What still waits when the sandbox closes goes on when it is started again.
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
from wxpay_async.sandbox.callback_payloads import Notice, Pairs, Seal, Sign, Stamp, forged
from wxpay_async.sandbox.faults import CallbackFault, Faults, Forgery

SCHEDULE: Final = (0.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
"""Seconds before each delivery. The platform's own are not documented."""

_ACKNOWLEDGEMENT: Final = {"status": 1}
_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "application/x-www-form-urlencoded",
    SANDBOX_MARKER: "1",
}
_AT_ONCE: Final = 256
_LOGGED: Final = 1_000
_MAX_ANSWER: Final = 4_096
_MAX_WAITING: Final = 10_000


@frozen(kw_only=True)
class Delivery:
    """One POST to a merchant, and what came of it.

    Attributes:
        notice: what was told.
        attempt: 1 for the first delivery of the callback.
        pairs: the form as it was sent.
        forgery: what was wrong with it, None for a genuine one.
        status: the HTTP status of the answer, None when there was none.
        answer: the beginning of the answer's body.
        problem: why there was no answer, empty when there was one.
    """

    notice: Notice
    attempt: int
    pairs: tuple[tuple[str, str], ...] = field(repr=False)
    forgery: Forgery | None = None
    status: int | None = None
    answer: bytes = b""
    problem: str = ""

    @property
    def acknowledged(self) -> bool:
        """Whether the merchant said exactly that it was handled."""
        return self.status == HTTPStatus.OK and _says_handled(self.answer)


@define(eq=False, kw_only=True)
class _Waiting:
    """A callback that is not acknowledged yet; `tries` counts its deliveries."""

    notice: Notice
    mischief: CallbackFault
    forgery: Forgery | None = None
    tries: int = 0


_Lane = list[_Waiting]


def _as_tuple(schedule: Sequence[float]) -> tuple[float, ...]:
    return tuple(schedule)


@define(eq=False, kw_only=True)
class Callbacks:
    """Deliver notices.

    Attributes:
        apps: whom to tell, by appKey.
        clock: seconds since the epoch, for timestamps.
        token: gives nonces.
        sign_rsa: signs by the platform's key, in Base64.
        schedule: real seconds before each delivery of a callback; it is given up after the last.
        timeout: real seconds in which a merchant must have answered.
        faults: what shall go wrong.
        delivered: how many POSTs were answered, forged ones included.
        acknowledged: how many genuine callbacks were.
        given_up: how many went unacknowledged through the whole schedule.
        dropped: how many were never sent, since 10,000 others were waiting.
        believed: how many forgeries were acknowledged.
        log: the last 1,000 deliveries, each as its answer came.
    """

    apps: Mapping[str, App] = field(repr=False)
    clock: Callable[[], float] = field(repr=False)
    token: Callable[[], str] = field(repr=False)
    sign_rsa: Sign = field(repr=False)
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
    believed: int = field(init=False, default=0)
    log: deque[Delivery] = field(
        init=False, factory=lambda: deque[Delivery](maxlen=_LOGGED), repr=False
    )
    _waiting: dict[_Waiting, None] = field(init=False, factory=dict[_Waiting, None], repr=False)
    _held: list[_Lane] = field(init=False, factory=list[_Lane], repr=False)
    _tasks: set[asyncio.Task[None]] = field(init=False, factory=set[asyncio.Task[None]], repr=False)
    _slots: asyncio.Semaphore = field(init=False, factory=asyncio.Semaphore, repr=False)
    _loop: asyncio.AbstractEventLoop | None = field(init=False, default=None, repr=False)
    _session: aiohttp.ClientSession | None = field(init=False, default=None, repr=False)

    @property
    def waiting(self) -> int:
        """How many callbacks are not acknowledged and not given up yet."""
        return len(self._waiting)

    async def start(self) -> None:
        """Begin to deliver, with what waited before."""
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._session = aiohttp.ClientSession(
            # A kept connection would die with the merchant's worker and cost a delivery.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        held = {waiting for lane in self._held for waiting in lane}
        for waiting in self._waiting:
            if waiting not in held:
                self._spawn([waiting])

    async def aclose(self) -> None:
        """Stop delivering. May be called twice."""
        session, self._session, self._loop = self._session, None, None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if session is not None:
            await session.close()

    async def idle(self) -> None:
        """Wait until nothing is waiting; what `reorder` holds back goes out.

        Raises:
            RuntimeError: something waits, and the sandbox is not running.
        """
        while self._waiting:
            self._release()
            await asyncio.sleep(0)  # what was told in this very moment becomes a task
            if not self._tasks:
                raise RuntimeError("callbacks are waiting, and the sandbox is not running")
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    def tell(self, notice: Notice) -> None:
        """Send a callback as soon as the sandbox runs, if the merchant has an address."""
        if self.apps[notice.app_key].notify_url is None:
            return
        if len(self._waiting) >= _MAX_WAITING:
            self.dropped += 1
            return
        mischief = self.faults.next_callback()
        lanes = _lanes(notice, mischief)
        self._waiting.update((waiting, None) for lane in lanes for waiting in lane)
        if mischief.held or mischief.turns:
            self._held.extend(lanes)
        else:
            self._carry_soon(lanes)
        if mischief.turns:
            self._release()

    async def send(self, notice: Notice, *, forgery: Forgery | None = None) -> Delivery:
        """Deliver something once, now, outside the schedule.

        Raises:
            RuntimeError: the sandbox is not running.
            InvalidRequestError: the merchant has no address.
        """
        if self._session is None:
            raise RuntimeError("the sandbox is not running")
        if self.apps[notice.app_key].notify_url is None:
            raise InvalidRequestError("is not set", field="notify_url", allowed="an address")
        return await self._try(_Waiting(notice=notice, mischief=CallbackFault(), forgery=forgery))

    def _release(self) -> None:
        """Let go what was held back: the last first, one after the other."""
        held, self._held = self._held, []
        if held:
            self._carry_soon([[waiting for lane in reversed(held) for waiting in lane]])

    def _carry_soon(self, lanes: Iterable[_Lane]) -> None:
        """Begin in the sandbox's loop: the payer may have acted in another thread."""
        if self._loop is not None:
            for lane in lanes:
                self._loop.call_soon_threadsafe(self._spawn, lane)

    def _spawn(self, lane: _Lane) -> None:
        if self._loop is None:  # closed in the meantime; the callbacks stay waiting
            return
        task = self._loop.create_task(self._carry(lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, lane: _Lane) -> None:
        """Deliver each once, in turn; what is not acknowledged gets a lane of its own."""
        for waiting in lane:
            await asyncio.sleep(self._pause(waiting))
            delivery = await self._try(waiting)
            if delivery.acknowledged or delivery.forgery:
                del self._waiting[waiting]
            elif waiting.tries >= len(self.schedule):
                self.given_up += 1
                del self._waiting[waiting]
            else:
                self._spawn([waiting])

    def _pause(self, waiting: _Waiting) -> float:
        if waiting.forgery:
            return 0.0
        extra = 0.0 if waiting.tries else waiting.mischief.pause
        return extra + self.schedule[waiting.tries]

    async def _try(self, waiting: _Waiting) -> Delivery:
        async with self._slots:
            pairs = self._pairs(waiting)
            status, answer, problem = await self._post(self.apps[waiting.notice.app_key], pairs)
        waiting.tries += 1
        delivery = Delivery(
            notice=waiting.notice,
            attempt=waiting.tries,
            pairs=tuple(pairs),
            forgery=waiting.forgery,
            status=status,
            answer=answer,
            problem=problem,
        )
        self._count(delivery)
        return delivery

    def _count(self, delivery: Delivery) -> None:
        self.log.append(delivery)
        self.delivered += delivery.status is not None
        if delivery.forgery:
            self.believed += delivery.acknowledged
        else:
            self.acknowledged += delivery.acknowledged

    def _pairs(self, waiting: _Waiting) -> Pairs:
        app = self.apps[waiting.notice.app_key]
        seal = Seal(
            scheme=app.notify_scheme,
            signs={"md5": Md5Signer(app.app_secret).sign, "rsa": self.sign_rsa},
        )
        at = self.clock() - waiting.mischief.stale
        stamp = Stamp(nonce=self.token(), timestamp=round(at * 1000))
        if waiting.forgery:
            return forged(waiting.forgery, waiting.notice, seal=seal, stamp=stamp)
        return list(seal.close(waiting.notice, stamp).items())

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
                return response.status, await _read(response.content), ""
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            return None, b"", type(error).__name__


def _lanes(notice: Notice, mischief: CallbackFault) -> list[_Lane]:
    """Lay out what is sent at once; the forgery goes before the first genuine copy."""
    lanes = [[_Waiting(notice=notice, mischief=mischief)] for _ in range(mischief.copies)]
    if mischief.forgery:
        before = _Waiting(notice=notice, mischief=mischief, forgery=mischief.forgery)
        lanes[0].insert(0, before)
    return lanes


async def _read(content: aiohttp.StreamReader) -> bytes:
    """Read the beginning of a body, as much as an acknowledgement could need."""
    body = b""
    while len(body) < _MAX_ANSWER and (chunk := await content.read(_MAX_ANSWER - len(body))):
        body += chunk
    return body


def _says_handled(answer: bytes) -> bool:
    if len(answer) >= _MAX_ANSWER:  # the rest of it was not read, and may say anything
        return False
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    # In Python True equals 1, and so does 1.0; the platform's people wrote neither.
    return said == _ACKNOWLEDGEMENT and type(said["status"]) is int
