"""Magic values: openids and amounts that always lead to the same end. No I/O.

The openid is that of `pay` (terminalPayerId), the amount that of the order that is paid, or of a
refund. A value acts on each order and each refund by itself: its fault meets the first request for
it, so that a resend or a new prepay finds what the first one left. Where the payer does something,
that happens as soon as `pay` was executed.

The whole yuan of a magic amount is 9999, since 0.01 is what merchants test with.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from attrs import define, field, frozen

from wxpay_async.sandbox.fault_kinds import RateLimit
from wxpay_async.sandbox.faults import Fault

_YUAN: Final = 9999
_MAX_MET: Final = 100_000


class PayerEnd(enum.StrEnum):
    """What the payer does without being asked."""

    CONFIRM = "confirm"
    CANCEL = "cancel"
    INSUFFICIENT = "insufficient"
    EXPIRE = "expire"


@frozen(kw_only=True)
class MagicValue:
    """An end, and the values that lead to it.

    Attributes:
        openid: of the payer.
        cents: of the amount; the amount is 9999 yuan and these.
        text: what happens, in English and Chinese.
        fault: what goes wrong with the first request, None for nothing.
        callback: what goes wrong with the callback, None for nothing.
        payer: what the payer does after `pay`, None for nothing.
    """

    openid: str
    cents: int
    text: tuple[str, str]
    fault: Fault | None = None
    callback: Fault | None = None
    payer: PayerEnd | None = None

    @property
    def amount(self) -> Decimal:
        """The amount that leads there, in yuan."""
        return Decimal(f"{_YUAN}.{self.cents:02}")


def _list_values() -> Sequence[MagicValue]:
    confirm = PayerEnd.CONFIRM
    return (
        MagicValue(
            openid="o_paid",
            cents=0,
            text=("the payer confirms at once", "付款人立即支付成功"),
            payer=confirm,
        ),
        MagicValue(
            openid="o_insufficient",
            cents=1,
            text=("the payer has not enough money", "付款人余额不足"),
            payer=PayerEnd.INSUFFICIENT,
        ),
        MagicValue(
            openid="o_cancelled",
            cents=2,
            text=("the payer cancels", "付款人取消支付"),
            payer=PayerEnd.CANCEL,
        ),
        MagicValue(
            openid="o_closed",
            cents=3,
            text=("the order closes unpaid", "订单未支付即关闭"),
            payer=PayerEnd.EXPIRE,
        ),
        MagicValue(
            openid="o_timeout_after_commit",
            cents=4,
            text=("executed, and the reply is lost", "已执行，但应答丢失"),
            fault=Fault.drop_after_commit(),
        ),
        MagicValue(
            openid="o_timeout_before_commit",
            cents=5,
            text=("lost on its way; a resend works", "请求丢失，重发后成功"),
            fault=Fault.drop_before_commit(),
        ),
        MagicValue(
            openid="o_slow",
            cents=6,
            text=("the reply takes 5 seconds", "应答延迟 5 秒"),
            fault=Fault.delay(seconds=5.0),
        ),
        MagicValue(
            openid="o_bad_gateway",
            cents=7,
            text=("executed, and a proxy says 502", "已执行，但代理返回 502"),
            fault=Fault.html_502(),
        ),
        MagicValue(
            openid="o_interrupted",
            cents=8,
            text=("executed, and the code says CO_MSG_000003", "已执行，但返回 CO_MSG_000003"),
            fault=Fault.error(code="CO_MSG_000003", executed=True),
        ),
        MagicValue(
            openid="o_refused",
            cents=9,
            text=("refused by a business code", "被业务错误码拒绝"),
            fault=Fault.error(code="GM_API_BUS_0000099"),
        ),
        MagicValue(
            openid="o_duplicate",
            cents=10,
            text=("the requestId is repeated on first sight", "首次请求即报 requestId 重复"),
            fault=Fault.duplicate_request_id(),
        ),
        MagicValue(
            openid="o_rate_limited",
            cents=11,
            text=("too many calls", "调用频率超限"),
            fault=Fault.rate_limited(variant=RateLimit.ENVELOPE),
        ),
        MagicValue(
            openid="o_wrong_echo",
            cents=12,
            text=("the reply names another request", "应答对应另一个请求"),
            fault=Fault.wrong_echo(),
        ),
        MagicValue(
            openid="o_paid_callback_lost",
            cents=13,
            text=("paid at once, and the callback is lost", "立即支付成功，但回调丢失"),
            callback=Fault.callback_lost(),
            payer=confirm,
        ),
        MagicValue(
            openid="o_paid_callback_doubled",
            cents=14,
            text=("paid at once, and the callback comes twice", "立即支付成功，回调重复"),
            callback=Fault.callback_doubled(),
            payer=confirm,
        ),
        MagicValue(
            openid="o_paid_callback_late",
            cents=15,
            text=("paid at once, and the callback is 5 seconds late", "立即支付成功，回调晚 5 秒"),
            callback=Fault.callback_late(seconds=5.0),
            payer=confirm,
        ),
        MagicValue(
            openid="o_paid_callback_forged",
            cents=16,
            text=(
                "paid at once, and a forged callback comes first",
                "立即支付成功，先收到伪造回调",
            ),
            callback=Fault.callback_forged(),
            payer=confirm,
        ),
    )


MAGIC_VALUES: Final[Sequence[MagicValue]] = _list_values()
"""All of them, in the order of their amounts."""

_BY_OPENID: Final[Mapping[str, MagicValue]] = {each.openid: each for each in MAGIC_VALUES}
_BY_AMOUNT: Final[Mapping[Decimal, MagicValue]] = {each.amount: each for each in MAGIC_VALUES}


def find_magic(*, openid: str = "", amount: Decimal) -> MagicValue | None:
    """Return the magic value of a request; that of the openid wins. None for an ordinary one."""
    return _BY_OPENID.get(openid) or _BY_AMOUNT.get(amount)


@define(eq=False)
class MetOrders:
    """The orders and refunds whose first request has met its fault."""

    _met: dict[tuple[str, str], None] = field(factory=dict[tuple[str, str], None], repr=False)

    def meet(self, app_key: str, key: str) -> bool:
        """Note a request; return whether it is the first for its key."""
        first = (app_key, key) not in self._met
        if first:
            self._met[app_key, key] = None
            if len(self._met) > _MAX_MET:
                del self._met[next(iter(self._met))]
        return first
