"""Descriptions of faults in English and Chinese, for the console."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wxpay_async.sandbox.fault_kinds import FaultKind as K

FAULT_TEXTS: Final[Mapping[K, tuple[str, str]]] = MappingProxyType(
    {
        K.DELAY: ("the reply is late", "应答延迟"),
        K.DROP_BEFORE_COMMIT: ("lost on its way, not executed", "请求丢失，未执行"),
        K.DROP_AFTER_COMMIT: ("executed, and the reply is lost", "已执行，应答丢失"),
        K.RESET: ("the connection is reset", "连接被重置"),
        K.CUT_BODY: ("half of the reply arrives", "应答只到一半"),
        K.DRIP: ("the reply comes in small pieces", "应答分小块慢慢到达"),
        K.HTML_502: ("a proxy says 502", "代理返回 502 页面"),
        K.PROXY_408: ("a proxy says 408", "代理返回 408 页面"),
        K.HTTP_500: ("status 500 without an envelope", "返回 500，没有标准应答格式"),
        K.GZIP: ("the reply is compressed unasked", "应答未经要求就压缩"),
        K.BOM: ("a byte order mark comes first", "应答前有 BOM"),
        K.RATE_LIMITED: ("too many calls", "调用频率超限"),
        K.CLOCK_OFF: ("the platform's clock is ahead", "平台时钟快了"),
        K.ERROR: ("answered with an errorCode", "返回指定的错误码"),
        K.UNKNOWN_CODE: ("an errorCode that no page lists", "返回未公布的错误码"),
        K.EXPIRED: ("the request is said to have expired", "报请求已过期"),
        K.DUPLICATE_REQUEST_ID: ("requestId repeated on first sight", "首次即报 requestId 重复"),
        K.PAY_TOKEN_REFUSED: ("the payToken is refused", "payToken 被拒绝"),
        K.WRONG_ECHO: ("the reply names another request", "应答对应另一个请求"),
        K.OTHER_REPLY: ("the reply to another caller", "收到别人的应答"),
        K.UNKNOWN_FIELDS: ("fields that no page lists", "应答含未公布的字段"),
        K.UNKNOWN_STATUS: ("a status that no page lists", "返回未公布的状态"),
        K.QUERY_LAGS: ("a query is one change behind", "查询结果滞后一步"),
        K.QUERY_LIES: ("a query says what is not so", "查询结果不实"),
        K.CALLBACK_LOST: ("a callback is never sent", "回调丢失"),
        K.CALLBACK_DOUBLED: ("a callback comes several times", "回调重复"),
        K.CALLBACK_LATE: ("a callback is late", "回调迟到"),
        K.CALLBACK_STALE: ("a callback was signed long ago", "回调签名时间过旧"),
        K.CALLBACK_REORDERED: ("callbacks out of order", "回调乱序"),
        K.CALLBACK_FORGED: ("a forged callback comes first", "先收到伪造的回调"),
    }
)
"""What a kind does: English, then Chinese."""
