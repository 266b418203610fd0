"""Decide what a callback may do to its order: each has one effect, and states move forward.

The inbox keeps one `Progress` for each order and each refund, a document of a few hundred bytes.
The rules (`docs/money-safety.md` §7):

- an endpoint handles each platform number and status once;
- it handles one callback of an order at a time. Who handles one holds a claim, which runs out: a
  process may be killed;
- its states move forward: closed is further than failed, paid is further than closed;
- endpoints have effects of their own, and do not wait for each other.

Every method is pure, and may be repeated: what is done or released already stays as it is. So a
caller whose write got lost, or whose answer did, loads the document and goes through the same step
again.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen

from wxpay_async.errors import NotSentError
from wxpay_async.policy.confirmation import REFUND_STATES, TRADE_STATES
from wxpay_async.protocol.notify import Notification, TradeNotification
from wxpay_async.protocol.results import TradeState

if TYPE_CHECKING:
    from cattrs.preconf.json import JsonConverter

MAX_DONE: Final = 32
"""Callbacks of one order that an endpoint recognises when they come again.

The oldest are forgotten first. Their states are reached, so they are late when they come again;
only those with a status of unknown meaning are handled again.
"""

_DIGITS: Final = 32
_ORDER: Final = (*TRADE_STATES, *REFUND_STATES)
"""No document has states of both."""


class Obstacle(enum.StrEnum):
    """Why a callback may not be handled now.

    DONE and LATE may be acknowledged: nothing is left to do. BUSY has to come again.
    """

    DONE = "done"
    LATE = "late"
    BUSY = "busy"


@frozen
class Claim:
    """The right to handle a callback.

    Attributes:
        token: a text that cannot be guessed, new for each claim.
        until: seconds since the epoch, when the handler counts as dead.
    """

    token: str
    until: float


@frozen(kw_only=True)
class Message:
    """What a callback is for one endpoint.

    Attributes:
        endpoint: the name of the endpoint.
        state: what it says of the order.
        identity: a hash of its platform number and status.
    """

    endpoint: str
    state: TradeState
    identity: str


@frozen(kw_only=True)
class EndpointProgress:
    """How far one endpoint has come with an order.

    Attributes:
        reached: the furthest state whose handler ran.
        done: the identities of the callbacks that are handled, the oldest first.
        claim: who handles one now, or did when the process was killed.
    """

    reached: TradeState | None
    done: tuple[str, ...] = ()
    claim: Claim | None = None


_NONE: Final = EndpointProgress(reached=None)


@frozen(kw_only=True)
class Progress:
    """What is known of the callbacks of one order, or of one refund.

    Attributes:
        told: the furthest state that a believed callback told, whichever endpoint it came to, and
            whether or not its handler has ended.
        endpoints: how far each endpoint has come, by its name.
    """

    told: TradeState | None = None
    endpoints: Mapping[str, EndpointProgress] = field(factory=dict[str, EndpointProgress])

    def obstacle(self, message: Message, *, now: float) -> Obstacle | None:
        """Tell why the callback may not be handled now; None if it may.

        Args:
            message: the callback.
            now: seconds since the epoch.
        """
        endpoint = self._endpoint(message.endpoint)
        if message.identity in endpoint.done:
            return Obstacle.DONE
        if not _may_be_further(message.state, endpoint.reached):
            return Obstacle.LATE
        if endpoint.claim is not None and endpoint.claim.until > now:
            return Obstacle.BUSY
        return None

    def begin(self, message: Message, claim: Claim, *, now: float) -> Progress | Obstacle:
        """Claim the right to handle a callback that is believed.

        Args:
            message: the callback.
            claim: the right; one whose token is the stored one is held already.
            now: seconds since the epoch.
        """
        endpoint = self._endpoint(message.endpoint)
        if endpoint.claim is not None and endpoint.claim.token == claim.token:
            return self
        obstacle = self.obstacle(message, now=now)
        if obstacle is not None:
            return obstacle
        told = _furthest(self.told, message.state)
        return evolve(self._with(message.endpoint, evolve(endpoint, claim=claim)), told=told)

    def complete(self, message: Message, token: str) -> Progress:
        """Note that the callback's handler ran, and give its claim back.

        The effect has happened, so it is noted also when the claim is lost.
        """
        endpoint = self._endpoint(message.endpoint)
        done = endpoint.done
        if message.identity not in done:
            done = (*done, message.identity)[-MAX_DONE:]
        return self._with(
            message.endpoint,
            EndpointProgress(
                reached=_furthest(endpoint.reached, message.state),
                done=done,
                claim=_without(endpoint.claim, token),
            ),
        )

    def release(self, message: Message, token: str) -> Progress:
        """Give the claim back: the handler failed, and the callback has to come again."""
        endpoint = self._endpoint(message.endpoint)
        claim = _without(endpoint.claim, token)
        return self._with(message.endpoint, evolve(endpoint, claim=claim))

    def _endpoint(self, name: str) -> EndpointProgress:
        return self.endpoints.get(name, _NONE)

    def _with(self, name: str, endpoint: EndpointProgress) -> Progress:
        return evolve(self, endpoints={**self.endpoints, name: endpoint})

    def encode(self) -> str:
        """Return it as JSON in ASCII."""
        return _converter().dumps(self, separators=(",", ":"))

    @classmethod
    def decode(cls, document: str) -> Progress:
        """Read what `encode` made.

        Raises:
            NotSentError: it is damaged, or of a later release.
        """
        from cattrs.errors import BaseValidationError  # noqa: PLC0415 - as below

        try:
            return _converter().loads(document, cls)
        except (
            BaseValidationError,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise NotSentError(
                "what the store holds of an order's callbacks cannot be read"
            ) from error


def order_key(app_key: str, kind: str, number: str) -> str:
    """Return the key of an order's, or a refund's, progress in the inbox.

    Args:
        app_key: whose order.
        kind: "trade" or "refund".
        number: the merchant's number of the order or the refund.
    """
    # JSON, because the sender chooses the number, and no separator is safe in it.
    return json.dumps([app_key, kind, number])


def key_of(app_key: str, notification: Notification) -> str:
    """Return the key for what a notification tells of."""
    kind = "trade" if isinstance(notification, TradeNotification) else "refund"
    return order_key(app_key, kind, notification.out_trade_no)


def message_of(notification: Notification, endpoint: str) -> Message:
    """Return what a notification is for an endpoint."""
    if isinstance(notification, TradeNotification):
        status = notification.trade_status
    else:
        status = notification.refund_status
    names = json.dumps([notification.inner_trade_no, status])  # texts of any length
    identity = hashlib.sha256(names.encode()).hexdigest()[:_DIGITS]
    return Message(endpoint=endpoint, state=notification.state, identity=identity)


def _may_be_further(state: TradeState, than: TradeState | None) -> bool:
    """Tell whether a state is further; one of unknown meaning may always be."""
    if than not in _ORDER or state not in _ORDER:
        return True
    return _ORDER.index(state) > _ORDER.index(than)


def _furthest(known: TradeState | None, told: TradeState) -> TradeState | None:
    return told if told in _ORDER and _may_be_further(told, known) else known


def _without(claim: Claim | None, token: str) -> Claim | None:
    return None if claim is not None and claim.token == token else claim


@functools.cache
def _converter() -> JsonConverter:
    from cattrs.preconf.json import make_converter  # noqa: PLC0415 - cattrs can wait

    return make_converter(omit_if_default=True, forbid_extra_keys=True)
