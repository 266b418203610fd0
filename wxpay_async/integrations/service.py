"""The state of one run of a web app, for any framework: its gateways, and what callbacks go to."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, TypeAlias

from attrs import define, field, frozen

from wxpay_async.engine.callbacks import ANSWER_WITHIN, CallbackReceiver
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import InvalidRequestError, NotificationError
from wxpay_async.protocol.callback_body import read_fields
from wxpay_async.protocol.notify import ACK_NOT_HANDLED, MAX_BODY, MAX_FIELDS, Notifications

ACK_TYPE: Final = "application/json"
"""The content type of a callback's acknowledgement."""

MakeReceiver: TypeAlias = Callable[..., CallbackReceiver]

Gateway: TypeAlias = PayGateway | Callable[[], PayGateway]
"""A gateway, or a function that makes one, such as `PayGateway.from_env`."""

Gateways: TypeAlias = Gateway | Mapping[str, Gateway]
"""One gateway, or several by name."""


@frozen(eq=False)
class CallbackRoute:
    """What the callbacks of one address go to: for each appKey, what makes its receiver."""

    makers: Mapping[str, MakeReceiver]

    @classmethod
    def new(
        cls, notifications: Notifications | Sequence[Notifications], make: MakeReceiver
    ) -> CallbackRoute:
        """Make a route.

        Args:
            notifications: reads and verifies; one for each appKey of the address.
            make: makes a receiver of `gateway` and `notifications`.

        Raises:
            InvalidRequestError: none, or two for one appKey.
        """
        given = [notifications] if isinstance(notifications, Notifications) else notifications
        makers = {each.app_key: functools.partial(make, notifications=each) for each in given}
        if not makers or len(makers) < len(given):
            raise InvalidRequestError(
                "two for one appKey" if makers else "none",
                field="notifications",
                allowed="one, or several with an appKey of its own each",
            )
        return cls(makers)


@define(eq=False)
class Service:
    """One gateway of the run, and a receiver for each callback route."""

    gateway: PayGateway
    _receivers: dict[MakeReceiver, CallbackReceiver] = field(
        factory=dict[MakeReceiver, CallbackReceiver], init=False
    )

    def receiver(self, make: MakeReceiver) -> CallbackReceiver:
        """Return the receiver of a route; its first callback makes it."""
        if make not in self._receivers:
            self._receivers[make] = make(gateway=self.gateway)
        return self._receivers[make]

    async def aclose(self) -> None:
        """Wait for the handlers that are still running; they need the gateway."""
        for receiver in self._receivers.values():
            await receiver.aclose()


@define(eq=False)
class Services:
    """The gateways of one run, each under its name and under its appKey.

    Attributes:
        to_open: how an app gets a gateway, for the error that names this mistake.
        to_choose: how a route says which gateway it means, likewise.
    """

    to_open: str
    to_choose: str
    _services: dict[str, Service] = field(factory=dict[str, Service], init=False)

    @asynccontextmanager
    async def open(self, gateways: Gateways) -> AsyncGenerator[None]:
        """Open gateways. At the end wait for the handlers of callbacks, then close them.

        Raises:
            RuntimeError: the app has another gateway under this name or appKey.
        """
        named: Iterable[tuple[str | None, Gateway]] = (
            [(None, gateways)]
            if isinstance(gateways, PayGateway) or callable(gateways)
            else gateways.items()
        )
        async with AsyncExitStack() as stack:
            for name, gateway in named:
                await stack.enter_async_context(self._open_one(name, gateway))
            yield

    @asynccontextmanager
    async def _open_one(self, name: str | None, given: Gateway) -> AsyncGenerator[None]:
        gateway = given if isinstance(given, PayGateway) else given()
        # The appKey comes last: an app that lists its gateways shows the names.
        keys = list(dict.fromkeys([gateway.app_key if name is None else name, gateway.app_key]))
        for key in keys:
            if key in self._services:
                raise RuntimeError(f"two gateways in one app under the name or appKey {key!r}")
        async with gateway as opened:
            service = Service(opened)
            self._services |= dict.fromkeys(keys, service)
            try:
                yield
            finally:
                await service.aclose()
                for key in keys:
                    del self._services[key]

    def pick(self, key: str | None = None) -> Service:
        """Return the service of a name or appKey, or the only one.

        Raises:
            LookupError: there is none of this name or appKey.
            RuntimeError: no key, and the app has no gateway or several.
        """
        if key is not None and key in self._services:
            return self._services[key]
        names = ", ".join(repr(name) for name in self._services) or "none"
        if key is not None:
            raise LookupError(f"no gateway of the name or appKey {key!r}; there are: {names}")
        found = set(self._services.values())
        if not found:
            raise RuntimeError(f"no gateway: {self.to_open}")
        if len(found) > 1:
            raise RuntimeError(f"several gateways ({names}): say which one, {self.to_choose}")
        return found.pop()

    async def answer(
        self,
        route: CallbackRoute,
        headers: Mapping[str, str],
        chunks: AsyncIterable[bytes],
        *,
        broken: tuple[type[Exception], ...],
    ) -> bytes:
        """Read a callback and return the answer. Reading counts towards the time for the answer.

        Args:
            route: what the address's callbacks go to; the appKey of the callback chooses.
            headers: of the HTTP request.
            chunks: its body.
            broken: errors of the framework for a garbled body, or a sender that disconnects.

        Raises:
            LookupError: no gateway has an appKey of the route. No sender can cause this.
        """
        began = asyncio.get_running_loop().time()
        # First, so that the mistake shows with the first callback, whatever it is.
        receivers = {
            app_key: self.pick(app_key).receiver(make) for app_key, make in route.makers.items()
        }
        body = await _read(chunks, broken)
        if body is None:
            return ACK_NOT_HANDLED
        receiver = _choose(receivers, headers, body)
        if isinstance(receiver, CallbackReceiver):
            return await receiver.receive(headers, body, began=began)
        return next(iter(receivers.values())).refuse(receiver)


def toggle_slash(path: str) -> str:
    """Return the other spelling of a path: with a slash at its end, or without it.

    The address that is registered with the platform may have either. No platform follows a
    redirect, and a callback that is answered with 404 is lost without a trace.
    """
    return path.removesuffix("/") if path.endswith("/") else f"{path}/"


def _choose(
    receivers: Mapping[str, CallbackReceiver], headers: Mapping[str, str], body: bytes
) -> CallbackReceiver | str:
    """Return whose callback it is, or why it is refused."""
    if len(receivers) == 1:  # the address says it, also of an unsigned callback
        return next(iter(receivers.values()))
    try:
        app_key = read_fields(headers, body, at_most=MAX_FIELDS).get("appKey")
    except NotificationError as error:
        return error.reason
    if app_key is None:
        return "the callback has no appKey, and the address is for several"
    return receivers.get(app_key, "the callback is for another appKey")


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
