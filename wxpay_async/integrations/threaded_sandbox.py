"""A sandbox that serves in a thread of its own, so that tests of any kind can use it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from wxpay_async.sandbox.callbacks import Delivery
from wxpay_async.sandbox.fault_kinds import Forgery
from wxpay_async.sandbox.server import Sandbox

S = TypeVar("S")
T = TypeVar("T")


class _LoopThread:
    """An event loop that runs in a thread of its own, from `start` to `close`."""

    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._running = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main()), name="wxpay-sandbox", daemon=True
        )

    def start(self) -> None:
        self._thread.start()
        self._running.wait()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._running.set()
        await self._stop.wait()

    def is_current(self) -> bool:
        return threading.current_thread() is self._thread

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


class ThreadedSandbox(Sandbox):
    """A sandbox that serves in a thread of its own, within `with`.

    So it answers tests of any kind: synchronous ones, asynchronous ones under any runner, and those
    whose app runs in the event loop of a `TestClient`. Its methods may be called from any thread
    and awaited in any event loop.
    """

    _thread: _LoopThread | None = None

    def __enter__(self) -> Self:
        self._thread = _LoopThread()
        self._thread.start()
        try:
            self.run(super().start())
        except BaseException:  # also Ctrl-C: the thread would keep the process alive
            self._end_thread()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.run(super().aclose())
        finally:
            self._end_thread()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the sandbox's event loop, from another thread, and return its result.

        Raises:
            RuntimeError: outside `with`, or called in that event loop, which would wait for itself.
        """
        if self._thread and self._thread.is_current():
            work.close()
            raise RuntimeError("this is the sandbox's own event loop: await it")
        return self._submit(work).result()

    async def start(self) -> None:
        """Listen again after `aclose`, on another port unless one was given."""
        await self._await(super().start())

    async def aclose(self) -> None:
        """Stop listening: the platform is away. It keeps its orders."""
        await self._await(super().aclose())

    async def callbacks_idle(self) -> None:
        """Wait until no callback is pending; see `Sandbox`."""
        await self._await(super().callbacks_idle())

    async def send_forged(self, kind: Forgery | str, out_trade_no: str) -> Delivery:
        """Send one forged callback; see `Sandbox`."""
        return await self._await(super().send_forged(kind, out_trade_no))

    def confirm(self, out_trade_no: str) -> None:
        """Let the payer confirm; see `Sandbox`."""
        self._act(super().confirm, out_trade_no)

    def cancel(self, out_trade_no: str) -> None:
        """Let the payer decline; see `Sandbox`."""
        self._act(super().cancel, out_trade_no)

    def expire(self, out_trade_no: str) -> None:
        """Let the order's time run out; see `Sandbox`."""
        self._act(super().expire, out_trade_no)

    def advance(self, seconds: float) -> None:
        """Let orders and prepays become older; see `Sandbox`. `SettableClock.move` moves all."""
        self._act(super().advance, seconds)

    def _act(self, action: Callable[[S], None], argument: S) -> None:
        if self._thread and self._thread.is_current():
            action(argument)  # called by what `run` runs: to wait for the loop would be for ever
        else:
            self.run(_call(action, argument))

    def _end_thread(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()

    async def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(self._submit(work))

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if self._thread is None:
            work.close()
            raise RuntimeError("the sandbox serves within `with`")
        return asyncio.run_coroutine_threadsafe(work, self._thread.loop)


async def _call(action: Callable[[S], None], argument: S) -> None:
    action(argument)
