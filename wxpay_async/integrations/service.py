"""What one run of an app holds, whatever framework it is made with."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from wxpay_async.callbacks import CallbackReceiver
from wxpay_async.gateway import PayGateway

MakeReceiver = Callable[[PayGateway], CallbackReceiver]


@define(eq=False)
class Service:
    """The gateway of the run, and a receiver for each callback route."""

    gateway: PayGateway
    _receivers: dict[MakeReceiver, CallbackReceiver] = field(
        factory=dict[MakeReceiver, CallbackReceiver], init=False
    )

    def receiver(self, make: MakeReceiver) -> CallbackReceiver:
        """Return the receiver of a route, which is made with the first callback."""
        if make not in self._receivers:
            self._receivers[make] = make(self.gateway)
        return self._receivers[make]

    async def aclose(self) -> None:
        """Wait for the handlers that are still running; the gateway must outlive them."""
        for receiver in self._receivers.values():
            await receiver.aclose()
