"""Change what the platform answers: the faults that happen inside of it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wxpay_async.sandbox.error_codes import Code, RefusalError
from wxpay_async.sandbox.fault_kinds import FaultKind, Says
from wxpay_async.sandbox.faults import Fault
from wxpay_async.sandbox.responses import Reply
from wxpay_async.sandbox.state import REFUNDED, Status

REFUSALS: Final = frozenset(
    {
        FaultKind.ERROR,
        FaultKind.UNKNOWN_CODE,
        FaultKind.EXPIRED,
        FaultKind.DUPLICATE_REQUEST_ID,
        FaultKind.PAY_TOKEN_REFUSED,
    }
)
"""Faults that answer with an errorCode."""

_TEXTS: Final[Mapping[Says, Status]] = MappingProxyType(
    {
        Says.AWAITING: Status.AWAITING,
        Says.PAID: Status.PAID,
        Says.FAILED: Status.FAILED,
        Says.CLOSED: Status.CLOSED,
    }
)
_IDENTIFYING: Final = ("requestId", "outTradeNo", "tradeNo", "payToken", "prepayId", "nonceStr")
_OTHER: Final = "another"


def change_data(fault: Fault, data: Reply, former: Reply | None) -> Reply:
    """Return the data of a reply with a fault in it.

    Args:
        fault: what happens; faults of other places change nothing.
        data: of the reply as it should be.
        former: of the last reply to the same path, None if there was none.

    Raises:
        RefusalError: the fault makes a query say that the order does not exist.
    """
    changed = data
    match fault.kind:
        case FaultKind.WRONG_ECHO:
            changed = _set(data, "requestId" if "requestId" in data else "outTradeNo", _OTHER)
        case FaultKind.OTHER_REPLY:
            changed = _choose_other(data, former)
        case FaultKind.UNKNOWN_FIELDS:
            changed = {**data, "riskLevel": "LOW", "extInfo": {"channel": ["A", "B"]}}
        case FaultKind.UNKNOWN_STATUS:
            changed = _set(data, "status", fault.text)
        case FaultKind.QUERY_LAGS:
            changed = _go_back(data)
        case FaultKind.QUERY_LIES:
            changed = _tell_lie(fault.says, data)
        case _:
            pass
    return changed


def change_envelope(fault: Fault, reply: Reply) -> Reply:
    """Return a reply with a fault outside of its data."""
    if fault.kind is FaultKind.UNKNOWN_FIELDS:
        return {**reply, "traceId": "7f3a", "serverTime": 1700000000000}
    return reply


def _set(data: Reply, name: str, value: str) -> Reply:
    """Return the data with one field changed, if it has it."""
    return {**data, name: value} if name in data else data


def _choose_other(data: Reply, former: Reply | None) -> Reply:
    """Return the reply to another request: a real one if there was one, else a made-up one."""
    names = ("requestId", "outTradeNo")
    if former is not None and any(former.get(name) != data.get(name) for name in names):
        return former
    return {name: _OTHER if name in _IDENTIFYING else value for name, value in data.items()}


def _go_back(data: Reply) -> Reply:
    """Return what a replica says that has not seen the last change."""
    status = data.get("status")
    if status in {Status.AWAITING, REFUNDED}:  # its creation is what it has not seen
        raise RefusalError(Code.UNKNOWN_ORDER, str(data.get("outTradeNo", "")))
    return _set(data, "status", str(Status.AWAITING))


def _tell_lie(says: Says, data: Reply) -> Reply:
    if says is Says.ABSENT:
        raise RefusalError(Code.UNKNOWN_ORDER, str(data.get("outTradeNo", "")))
    return {**data, "status": str(_TEXTS[says])}
