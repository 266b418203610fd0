"""What one run of an app holds, whatever framework it is made with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Mapping

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
        """Read a callback and return what to answer. Reading takes of the time for the answer.

        Args:
            make: makes the receiver of the route.
            headers: of the HTTP request.
            chunks: its body.
            broken: what the framework raises when the body is garbled or its sender goes away.
        """
        began = asyncio.get_running_loop().time()
        body = await _read(chunks, broken)
        if body is None:
            return ACK_NOT_HANDLED
        return await self.receiver(make).receive(headers, body, began=began)

    def receiver(self, make: MakeReceiver) -> CallbackReceiver:
        """Return the receiver of a route, which is made with the first callback."""
        if make not in self._receivers:
            self._receivers[make] = make(self.gateway)
        return self._receivers[make]

    async def aclose(self) -> None:
        """Wait for the handlers that are still running; the gateway must outlive them."""
        for receiver in self._receivers.values():
            await receiver.aclose()


async def _read(chunks: AsyncIterable[bytes], broken: tuple[type[Exception], ...]) -> bytes | None:
    """Read the body as it came; None if it is too large, too slow or broken."""
    body = bytearray()
    given_up: tuple[type[Exception], ...] = (TimeoutError, *broken)
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_BODY:
                    return None
    except given_up:
        return None
    return bytes(body)
