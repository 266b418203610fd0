"""The state of one run of a web app, for any framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from contextlib import asynccontextmanager

from attrs import define, field

from wxpay_async.engine.callbacks import ANSWER_WITHIN, CallbackReceiver
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.protocol.notify import ACK_NOT_HANDLED, MAX_BODY

MakeReceiver = Callable[[PayGateway], CallbackReceiver]


@define(eq=False)
class Service:
    """The gateway of the run, and a receiver for each callback route."""

    gateway: PayGateway
    _receivers: dict[MakeReceiver, CallbackReceiver] = field(
        factory=dict[MakeReceiver, CallbackReceiver], init=False
    )

    async def answer(
        self,
        make: MakeReceiver,
        headers: Mapping[str, str],
        chunks: AsyncIterable[bytes],
        *,
        broken: tuple[type[Exception], ...],
    ) -> bytes:
        """Read a callback and return the answer. Reading counts towards the time for the answer.

        Args:
            make: makes the receiver of the route.
            headers: of the HTTP request.
            chunks: its body.
            broken: errors of the framework for a garbled body, or a sender that disconnects.
        """
        began = asyncio.get_running_loop().time()
        body = await _read(chunks, broken)
        if body is None:
            return ACK_NOT_HANDLED
        return await self.receiver(make).receive(headers, body, began=began)

    def receiver(self, make: MakeReceiver) -> CallbackReceiver:
        """Return the receiver of a route; its first callback makes it."""
        if make not in self._receivers:
            self._receivers[make] = make(self.gateway)
        return self._receivers[make]

    async def aclose(self) -> None:
        """Wait for the handlers that are still running; they need the gateway."""
        for receiver in self._receivers.values():
            await receiver.aclose()


def toggle_slash(path: str) -> str:
    """Return the other spelling of a path: with a slash at its end, or without it.

    The address that is registered with the platform may have either. No platform follows a
    redirect, and a callback that is answered with 404 is lost without a trace.
    """
    return path.removesuffix("/") if path.endswith("/") else f"{path}/"


@asynccontextmanager
async def open_service(gateway: PayGateway | Callable[[], PayGateway]) -> AsyncGenerator[Service]:
    """Open a gateway. At the end wait for the handlers of callbacks, then close it.

    Args:
        gateway: a gateway, or a function that makes one.
    """
    made = gateway if isinstance(gateway, PayGateway) else gateway()
    async with made as opened:
        service = Service(opened)
        try:
            yield service
        finally:
            await service.aclose()


async def _read(chunks: AsyncIterable[bytes], broken: tuple[type[Exception], ...]) -> bytes | None:
    """Read the raw body; None if it is too large, too slow or broken."""
    body = bytearray()
    failures: tuple[type[Exception], ...] = (TimeoutError, *broken)
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_BODY:
                    return None
    except failures:
        return None
    return bytes(body)
