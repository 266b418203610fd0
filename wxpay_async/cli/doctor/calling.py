"""Make one signed call that changes nothing, explain its answer, and read the platform's clock."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import attrs

from wxpay_async import (
    Fate,
    HttpRequest,
    HttpResponse,
    Limiter,
    MemoryStore,
    PayGateway,
    QuotaExhaustedError,
    RefusedError,
    SignatureRefusedError,
    Timeouts,
    Transport,
    WxPayError,
)
from wxpay_async.batch.report_texts import TEXTS
from wxpay_async.cli.doctor.findings import (
    REFUSED,
    UNREACHABLE,
    Area,
    Finding,
    Scribe,
    Text,
    choose,
)
from wxpay_async.cli.doctor.settings import Setup
from wxpay_async.engine.environment import GatewayOptions, Parts, make_default_transport
from wxpay_async.language import Sentence, find_language
from wxpay_async.protocol.error_codes import CODES
from wxpay_async.protocol.wire import SANDBOX_MARKER

_TIMEOUT: Final = 20.0
_NOTICED: Final = 30.0
"""Seconds of difference that should be looked at."""

_EXPIRES: Final = 240.0
"""Seconds of difference with which a request is likely to expire: after 300, less its way."""

_BY_RSA: Final = Sentence(
    "; the public key to upload is printed below, its fingerprint stands above",
    "；要上传的公钥显示在下方，其指纹显示在上方",
)

_write: Final = Scribe(Area.CALL)
_write_clock: Final = Scribe(Area.CLOCK)


@attrs.define(eq=False)
class _Observer:
    """Notes the time of an answer and whether a sandbox gave it; sends through a transport."""

    transport: Transport
    offset: float | None = None
    answered: bool = False
    by_sandbox: bool = False

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Post the request once; see `Transport.send`."""
        before = time.time()
        response = await self.transport.send(request, timeout=timeout)
        after = time.time()
        self.by_sandbox = SANDBOX_MARKER in response.headers
        date = _read_date(response.headers.get("date"))
        if date is not None:
            # A Date has no fractions: it is half a second late on average.
            self.offset = date.timestamp() + 0.5 - (before + after) / 2
        self.answered = True
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self.transport.aclose()


async def check_call(setup: Setup, parts: Parts, limiter: Limiter | None) -> list[Finding]:
    """Ask for the first sub-merchant, and tell what came back and when by the platform's clock.

    Args:
        setup: the settings.
        parts: what a gateway is made of.
        limiter: counts the call; None for one of this process.
    """
    proxy = setup.settings["WXPAY_PROXY"] or None
    observer = _Observer(make_default_transport(proxy=proxy, max_connections=1))
    options: GatewayOptions = {
        **parts.options,
        "transport": observer,
        "store": MemoryStore(),
        "limiter": limiter,
    }
    gateway = PayGateway(parts.app_key, parts.signer, **options)
    try:
        async with gateway:
            found = await _ask_for_merchants(gateway)
    except WxPayError as error:
        lines = [_explain(error, setup.base_url, parts.signer.sign_type)]
    else:
        lines = [
            _write.ok("merchants", _describe_answer(by_sandbox=observer.by_sandbox, found=found))
        ]
    finally:
        await observer.aclose()
    return [*lines, *_describe_clock(observer)]


async def _ask_for_merchants(gateway: PayGateway) -> bool:
    merchants = gateway.merchants(page_size=1, timeout=_TIMEOUT)
    async for _ in merchants:
        return True
    return False


def _describe_answer(*, by_sandbox: bool, found: bool) -> Sentence:
    by = (
        Sentence("a sandbox, so no money moves", "沙箱，没有真实资金流动")
        if by_sandbox
        else Sentence("the platform", "平台")
    )
    count = (
        Sentence("it lists sub-merchants", "返回了子商户")
        if found
        else Sentence("it lists no sub-merchant", "没有子商户")
    )
    return Sentence(
        f"signed, sent, and answered by {by.en}; {count.en}",
        f"已签名并发送，应答来自{by.zh}；{count.zh}",
    )


def _explain(error: WxPayError, base_url: str | None, sign_type: str | None) -> Finding:
    code = error.code or ""
    said = f"{code:.64}: {error.message:.200}" if error.message else f"{code:.64}"
    text = f"{_find_meaning(code)} [{said}]" if code in CODES else str(error)
    advice: Text
    if isinstance(error, RefusedError):
        advice = _read_hint(error, by_rsa=sign_type == "RSA")
        return _write.fail("merchants", text, advice, exit_code=REFUSED, facts={"code": error.code})
    if isinstance(error, QuotaExhaustedError):
        advice = Sentence(
            "wait for a minute; the calls of this one are used up",
            "等一分钟；这一分钟的调用次数已用完",
        )
    elif error.fate is Fate.NOT_SENT:
        advice = Sentence(
            "do what the lines about the network say, or try again",
            "按上面关于网络的提示处理，或重试",
        )
    elif code in CODES:
        advice = _read_hint(error)
    else:
        advice = Sentence(
            f"find out what answers at {base_url}, or stands between",
            f"排查是什么在 {base_url} 应答，或位于中间",
        )
    return _write.fail("merchants", text, advice, exit_code=UNREACHABLE, facts={"code": error.code})


def _find_meaning(code: str) -> str:
    return TEXTS[find_language(os.environ)].meanings.get(code, CODES[code][1])


def _read_hint(error: WxPayError, *, by_rsa: bool = False) -> str:
    """Return the error's hint as the other advices are written: no capital, no full stop."""
    hint = error.hint.rstrip(".。")
    more = _BY_RSA if by_rsa and isinstance(error, SignatureRefusedError) else Sentence("", "")
    return hint[:1].lower() + hint[1:] + choose(more)


# The clock


def _describe_clock(observer: _Observer) -> Iterator[Finding]:
    offset = observer.offset
    if offset is None:
        if observer.answered:
            yield _write_clock.warn(
                "clock",
                Sentence(
                    "the answer has no Date to compare it with", "应答中没有 Date，无法比较时钟"
                ),
            )
        return
    seconds = abs(offset)
    text = _describe_offset(offset)
    facts = {"offset": round(offset, 1)}
    advice = Sentence("set this machine's clock, by NTP for example", "校准本机时钟，例如用 NTP")
    if seconds >= _EXPIRES:
        yield _write_clock.fail(
            "clock",
            Sentence(
                f"{text.en}: requests expire after 5 minutes", f"{text.zh}：请求 5 分钟后过期"
            ),
            advice,
            facts=facts,
        )
    elif seconds >= _NOTICED:
        yield _write_clock.warn("clock", text, advice, facts=facts)
    else:
        near = max(1, round(seconds))
        told = Sentence(f"within {near} s of the platform's", f"与平台相差不超过 {near} 秒")
        yield _write_clock.ok("clock", told, facts=facts)


def _describe_offset(offset: float) -> Sentence:
    minutes, rest = divmod(round(abs(offset)), 60)
    span = Sentence(
        f"{minutes} min {rest} s" if minutes else f"{rest} s",
        f"{minutes} 分 {rest} 秒" if minutes else f"{rest} 秒",
    )
    if offset > 0:
        return Sentence(f"{span.en} behind the platform's", f"比平台慢 {span.zh}")
    return Sentence(f"{span.en} ahead of the platform's", f"比平台快 {span.zh}")


def _read_date(text: str | None) -> datetime | None:
    with contextlib.suppress(ValueError):
        date = parsedate_to_datetime(text or "")
        return date if date.tzinfo else date.replace(tzinfo=UTC)
    return None
