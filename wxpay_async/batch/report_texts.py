"""The words of the report, in English and Chinese.

The English advice for an error is part of its docstring; `docs/errors.zh.md` lists the Chinese.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal

from attrs import frozen

from wxpay_async.batch.tally import OTHER_CODES, Label, Reason
from wxpay_async.errors import WxPayError
from wxpay_async.protocol.error_codes import CODES

Language = Literal["zh", "en"]

_ADVICE: Final = re.compile(r"^What to do: (.+?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)

_SPACE: Final = "\N{NO-BREAK SPACE}"
_SECONDS_WITH_DIGITS: Final = 10


@frozen(kw_only=True)
class Texts:
    """The words of one language.

    Attributes:
        name: of the language, in itself.
        tag: for the attribute `lang`.
        words: single words and sentences, by name.
        labels: how lines ended.
        notes: what that means, and what to do.
        operations: what lines ask for.
        sections: headings and first sentences.
        meanings: of the platform's codes.
        format_lines: says how many lines.
        format_duration: says how long, in seconds.
        find_advice: says what a merchant does about an error.
    """

    name: str
    tag: str
    words: Mapping[str, str]
    labels: Mapping[Label, str]
    notes: Mapping[Label, str]
    operations: Mapping[str, str]
    sections: Mapping[str, tuple[str, str]]
    meanings: Mapping[str, str]
    format_lines: Callable[[int], str]
    format_duration: Callable[[float], str]
    find_advice: Callable[[type[WxPayError]], str]

    def explain(self, reason: Reason) -> str:
        """Return what a reason's code means; empty for one that is not documented."""
        if reason.code == OTHER_CODES:
            return self.words["other_codes"]
        return self.meanings.get(reason.code, "")


def read_advice(kind: type[WxPayError]) -> str:
    """Return what an error's docstring tells a merchant to do; nothing under `python -OO`."""
    found = _ADVICE.search(inspect.cleandoc(kind.__doc__ or ""))
    return " ".join(found[1].split()).removesuffix(".") if found else ""


def _find_english_advice(kind: type[WxPayError]) -> str:
    """Return the advice of the nearest class that has one, as a sentence."""
    texts = (read_advice(parent) for parent in kind.__mro__ if issubclass(parent, WxPayError))
    text = next(filter(None, texts), "")
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _format_duration(seconds: float, units: tuple[str, str, str, str]) -> str:
    """Write a duration: below 10 s with two decimals, else in its two largest units."""
    if seconds < _SECONDS_WITH_DIGITS:
        return f"{seconds:.2f}{_SPACE}{units[-1]}"
    sizes, left = (24 * 3600, 3600, 60, 1), round(seconds)
    parts: list[str] = []
    for unit, size in zip(units, sizes, strict=True):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{_SPACE}{unit}")
    return _SPACE.join(parts[:2])


def _format_english(seconds: float) -> str:
    return _format_duration(seconds, ("d", "h", "min", "s"))


def _format_chinese(seconds: float) -> str:
    return _format_duration(seconds, ("天", "小时", "分钟", "秒"))


ENGLISH: Final = Texts(
    name="English",
    tag="en",
    words=MappingProxyType(
        {
            "report": "Batch report",
            "all_well": "All {lines} ended well.",
            "some_well": "{well} of {lines} ended well.",
            "none": "No line was counted.",
            "outcome": "Outcome",
            "lines": "Lines",
            "meaning": "What it means",
            "by_time": "When lines ended",
            "bar": "A bar is {span}; the highest is {most}. Times are {zone}.",
            "untimed": "Without a time: {lines}.",
            "no_time": "No line has an end with a time yet.",
            "latency": "How long lines took",
            "latency_note": "From a line's first record in the store to its end. It includes "
            "the wait for the quota. Measured to 2\N{NO-BREAK SPACE}%; the longest is exact.",
            "max": "longest",
            "line": "Line",
            "order": "Order number",
            "words": "Message",
            "todo": "What to do",
            "more": "And {lines} more: see the outcomes file.",
            "other_codes": "further codes, counted together",
            "app_key": "appKey",
            "operation": "Operation",
            "store": "Store",
            "begun": "Began",
            "read": "Read",
            "same": "“Call again with the same request” means here: run the same command again. "
            "“The next generation” means: put the line into a new file, with a requestId of its "
            "own.",
            "file": "After a run the outcomes file has every line. This page is made from the "
            "store, and holds no credential.",
        }
    ),
    labels=MappingProxyType(
        {
            "ok": "Done",
            "pending": "Under way",
            "issued_earlier": "Issued earlier",
            "already_paid": "Already paid",
            "refused": "Refused",
            "not_sent": "Not sent",
            "in_doubt": "In doubt",
            "open": "No end yet",
        }
    ),
    notes=MappingProxyType(
        {
            "ok": "Nothing to do.",
            "pending": "The platform accepted these refunds and has not finished them. A query "
            "shows how they end.",
            "issued_earlier": "An earlier run issued these payments, and their credentials have "
            "expired since. This is no failure.",
            "already_paid": "The answer with the credential was lost, and the order was found paid "
            "since. It needs no credential: do not charge again.",
            "refused": "The platform said no, and nothing was executed. The reasons are below.",
            "not_sent": "Nothing was sent. Run the same command again, unless a line needs a "
            "person.",
            "in_doubt": "They may have been executed. Never use a new requestId; a person must "
            "look. The list is below.",
            "open": "Not begun, or the outcome is still being queried. Run the same command "
            "again: it sends nothing twice.",
        }
    ),
    operations=MappingProxyType(
        {"pay": "pay", "trade": "trade", "refund": "refund", "query": "query"}
    ),
    sections=MappingProxyType(
        {
            "person": (
                "Needs a person",
                (
                    "Another run alone does not bring these lines to an end. Ask the platform what "
                    "became of those in doubt, and tell the store: "
                    "`gateway.resolve(request_id, verdict=...)`."
                ),
            ),
            "refused": (
                "Refused",
                "Nothing was executed by these lines. The first lines of each reason are shown.",
            ),
            "not_sent": (
                "Not sent",
                "Run the same command again. The first lines of each reason are shown.",
            ),
        }
    ),
    meanings=MappingProxyType({code: meaning for code, (_, meaning) in CODES.items()}),
    format_lines=lambda count: "1 line" if count == 1 else f"{count:,} lines",
    format_duration=_format_english,
    find_advice=_find_english_advice,
)

CHINESE_ADVICE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "WxPayError": "看 `fate`",
        "InvalidRequestError": "改正它指出的字段",
        "InvalidKeyError": "更换密钥，原因写在文字里",
        "IdempotencyConflictError": "查明是谁重复使用了这个 requestId",
        "NotSentError": "用同一个请求再次调用；证书或地址有误时不会自动重试，请先改正",
        "NotSentTimeoutError": "用同一个请求再次调用，或为这次调用设置更长的 `timeout`",
        "QuotaExhaustedError": "等 `retry_after` 秒后再次调用，或为这次调用设置更长的 `timeout`",
        "NotificationError": "不要信任这个回调；有疑问时查询订单",
        "InDoubtError": (
            "绝不更换 requestId；用同一个请求再次调用，或查询订单。遇到重定向不会自动重试，请先改正"
            "地址。保存的应答无法解密时，写明以前的密钥（`seal_keys=`、`WXPAY_FORMER_SECRETS`）"
        ),
        "InDoubtTimeoutError": "绝不更换 requestId；用同一个请求再次调用，或查询订单",
        "AlreadyPaidError": "什么也不用做：订单已支付，不要再次收款",
        "DuplicateRequestError": "先查询订单；绝不更换 requestId",
        "InProgressError": "另一个进程正在处理，稍后用同一个请求再次调用；租约是 45 秒",
        "MalformedResponseError": (
            "用同一个请求再次调用，或查询订单。应答不对应时不会自动重试，请查询订单"
        ),
        "PlatformConflictError": "平台记录的内容不同，需人工介入；在此之前绝不更换 requestId",
        "OtherPayerError": "另一位付款人持有有效凭证；`retry_at` 之后再调用 `checkout`",
        "PrepayExpiredError": (
            "先查询订单；没有支付时，递增 generation，用得到的新 requestId 重新发起支付"
        ),
        "TradeUnusableError": (
            "等到 `retry_at` 订单关闭之后再重新下单；给 `checkout` 传入 `reorder=` 时由它自动完成"
        ),
        "RefusedError": (
            "看 `code` 和 `message`。拒绝是最终的，重放的应答会说明何时被拒绝；"
            "可以递增 generation，改用新的 requestId"
        ),
        "ClockSkewError": "校准时钟，然后用同一个请求再次调用",
        "ConfigurationRefusedError": "改正它指出的配置（地址、代理），然后用同一个请求再次调用",
        "AccessDeniedError": "改正 appKey、token 或 IP 白名单，然后用同一个请求再次调用",
        "SignatureRefusedError": "比对 `canonical_string(...)` 和密钥，然后用同一个请求再次调用",
        "FailedError": "查明原因；可以递增 generation，改用新的 requestId",
        "NotExecutedError": "可以递增 generation，改用新的 requestId",
        "NotPaidError": "仍然需要时重新下单",
        "RateLimitedError": (
            "时间允许时什么也不用做，它会等到平台的时间窗过去；之后用同一个请求再次调用"
        ),
    }
)
"""What to do after each error, as `docs/errors.zh.md` lists it."""


def _find_chinese_advice(kind: type[WxPayError]) -> str:
    """Return the advice of the error's class, or of the nearest class above it that has one."""
    names = (parent.__name__ for parent in kind.__mro__)
    return f"{next(CHINESE_ADVICE[name] for name in names if name in CHINESE_ADVICE)}。"


CHINESE: Final = Texts(
    name="中文",
    tag="zh-Hans",
    words=MappingProxyType(
        {
            "report": "批处理报告",
            "all_well": "全部 {lines}，均已顺利结束。",
            "some_well": "{lines}中有 {well} 行顺利结束。",
            "none": "没有任何一行。",
            "outcome": "结果",
            "lines": "行数",
            "meaning": "含义与处理",
            "by_time": "各行何时结束",
            "bar": "每根柱代表 {span}，最高一根为 {most}。时间均为 {zone}。",
            "untimed": "没有时间记录的：{lines}。",
            "no_time": "还没有任何一行带有结束时间。",
            "latency": "每行用时",
            "latency_note": "从存储首次记下这一行到它结束，包括等待配额的时间。误差不超过 2%，最长"
            "用时是精确值。",
            "max": "最长",
            "line": "行",
            "order": "订单号",
            "words": "消息",
            "todo": "怎么做",
            "more": "另有 {lines}，见结果文件。",
            "other_codes": "其余错误码，合并计数",
            "app_key": "appKey",
            "operation": "操作",
            "store": "存储",
            "begun": "开始于",
            "read": "读取于",
            "same": "“用同一个请求再次调用”在这里是指：再次运行同一条命令。“递增 generation”在这里"
            "是指：把这一行放进新文件，并给它一个新的 requestId。",
            "file": "运行结束后，结果文件包含每一行。本页根据存储生成，不含任何凭证。",
        }
    ),
    labels=MappingProxyType(
        {
            "ok": "成功",
            "pending": "处理中",
            "issued_earlier": "早先已发起",
            "already_paid": "订单已支付",
            "refused": "被拒绝",
            "not_sent": "没有发出",
            "in_doubt": "结果未知",
            "open": "未了结",
        }
    ),
    notes=MappingProxyType(
        {
            "ok": "什么也不用做。",
            "pending": "平台已受理这些退款，尚未完成。查询可知最终结果。",
            "issued_earlier": "这些支付由之前的运行发起，其凭证此后已过期。这不是失败。",
            "already_paid": "带有凭证的应答丢失了，此后查明订单已支付，无需凭证。不要再次收款。",
            "refused": "平台拒绝，什么也没有执行。原因见下文。",
            "not_sent": "什么也没有发出。除非某一行需要人工处理，再次运行同一条命令即可。",
            "in_doubt": "可能已经执行。绝不更换 requestId，需人工介入，清单见下文。",
            "open": "尚未开始，或仍在查询。再次运行同一条命令：不会重复发送。",
        }
    ),
    operations=MappingProxyType(
        {"pay": "支付", "trade": "下单", "refund": "退款", "query": "查询"}
    ),
    sections=MappingProxyType(
        {
            "person": (
                "需要人工处理",
                (
                    "只是再次运行，不能了结这些行。对结果未知的行，请向平台查明结果，然后告诉存储："
                    "`gateway.resolve(request_id, verdict=...)`。"
                ),
            ),
            "refused": ("被拒绝", "这些行什么也没有执行。每种原因列出最前面的几行。"),
            "not_sent": ("没有发出", "再次运行同一条命令即可。每种原因列出最前面的几行。"),
        }
    ),
    meanings=MappingProxyType(
        {
            "CO_MSG_000001": "参数格式有误",
            "CO_MSG_000002": "平台数据操作失败",
            "CO_MSG_000003": "平台处理中断",
            "CO_MSG_000004": "appKey 不存在",
            "CO_MSG_000005": "请求到达时已过期",
            "CO_MSG_000006": "签名未通过",
            "CO_MSG_000007": "该 appKey 在 60 秒内超过 400 次调用",
            "CO_MSG_000008": "appKey 已失效",
            "CO_MSG_0000011": "token 已失效",
            "CO_MSG_0000015": "不支持的媒体类型",
            "CO_MSG_0000016": "不支持的请求方法",
            "CO_MSG_0000017": "调用方的 IP 不在白名单中",
            "GM_API_BUS_000005": "requestId 为空",
            "GM_API_BUS_000007": "requestId 已过期",
            "GM_API_BUS_0000015": "requestId 已被使用过",
        }
    ),
    format_lines=lambda count: f"{count:,} 行",
    format_duration=_format_chinese,
    find_advice=_find_chinese_advice,
)

TEXTS: Final[Mapping[Language, Texts]] = MappingProxyType({"zh": CHINESE, "en": ENGLISH})
