"""Read the status texts of queries by the merchant's table, and tell of a text that is unknown."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import attrs
from attrs import define, field

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.results import DOCUMENTED_STATE, TradeState, TradeStatus

_MAX_TOLD: Final = 100
"""Texts that are remembered as told; a platform that makes up texts must not fill the memory."""

_LOG: Final = logging.getLogger("wxpay_async")


def _check_states(states: Mapping[Any, Any]) -> dict[str, TradeState]:
    checked = dict[str, TradeState]()
    for text, state in states.items():
        usable = isinstance(text, str) and text not in {"", DOCUMENTED_STATE}
        if not usable or state not in set(TradeState):
            raise InvalidRequestError(
                f"{text!r:.40}: {state!r:.40}",
                field="trade_states",
                allowed="a mapping from texts of a query to states of TradeState "
                f"({', '.join(TradeState)}); {DOCUMENTED_STATE} is documented and stays",
            )
        checked[text] = TradeState(state)
    return checked


@define(eq=False)
class StatusTexts:
    """Knows the texts that a merchant has taught.

    Attributes:
        states: a text, and the state that it stands for; wins over the table of the SDK.
    """

    states: Mapping[str, TradeState] = field(converter=_check_states)
    _told: set[str] = field(factory=set[str], init=False)

    def read(self, status: TradeStatus) -> TradeStatus:
        """Return the answer with the state of its text; warn of an unknown text, once."""
        text = status.status
        if text in self.states:
            return attrs.evolve(status, taught=self.states[text])
        if status.state is TradeState.UNKNOWN and text not in self._told:
            self._warn(text)
        return status

    def _warn(self, text: str) -> None:
        if len(self._told) < _MAX_TOLD:
            self._told.add(text)
            _LOG.warning(
                "a query says %.64r, which no table explains: it proves nothing; find out what it "
                "means and teach it: PayGateway(trade_states={text: TradeState.…})",
                text,
            )
