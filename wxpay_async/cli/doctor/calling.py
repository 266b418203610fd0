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
from wxpay_async.cli.doctor.findings import REFUSED, UNREACHABLE, Area, Finding, Scribe
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
        by = "a sandbox, so no money moves" if observer.by_sandbox else "the platform"
        count = "it lists sub-merchants" if found else "it lists no sub-merchant"
        lines = [_write.ok("merchants", f"signed, sent, and answered by {by}; {count}")]
    finally:
        await observer.aclose()
    return [*lines, *_describe_clock(observer)]


async def _ask_for_merchants(gateway: PayGateway) -> bool:
    merchants = gateway.merchants(page_size=1, timeout=_TIMEOUT)
    async for _ in merchants:
        return True
    return False


def _explain(error: WxPayError, base_url: str | None, sign_type: str | None) -> Finding:
    code = error.code or ""
    said = f"{code:.64}: {error.message:.200}" if error.message else f"{code:.64}"
    text = f"{CODES[code][1]} [{said}]" if code in CODES else str(error)
    if isinstance(error, RefusedError):
        advice = _read_hint(error, by_rsa=sign_type == "RSA")
        return _write.fail("merchants", text, advice, exit_code=REFUSED, facts={"code": error.code})
    if isinstance(error, QuotaExhaustedError):
        advice = "wait for a minute; the calls of this one are used up"
    elif error.fate is Fate.NOT_SENT:
        advice = "do what the lines about the network say, or try again"
    elif code in CODES:
        advice = _read_hint(error)
    else:
        advice = f"find out what answers at {base_url}, or stands between"
    return _write.fail("merchants", text, advice, exit_code=UNREACHABLE, facts={"code": error.code})


def _read_hint(error: WxPayError, *, by_rsa: bool = False) -> str:
    """Return the error's hint as the other advices are written: no capital, no full stop."""
    hint = error.hint.rstrip(".。")
    more = _BY_RSA if by_rsa and isinstance(error, SignatureRefusedError) else Sentence("", "")
    return hint[:1].lower() + hint[1:] + more.in_language(find_language(os.environ))


# The clock


def _describe_clock(observer: _Observer) -> Iterator[Finding]:
    offset = observer.offset
    if offset is None:
        if observer.answered:
            yield _write_clock.warn("clock", "the answer has no Date to compare it with")
        return
    seconds = abs(offset)
    way = "behind" if offset > 0 else "ahead of"
    text = f"{_show_span(seconds)} {way} the platform's"
    facts = {"offset": round(offset, 1)}
    advice = "set this machine's clock, by NTP for example"
    if seconds >= _EXPIRES:
        yield _write_clock.fail(
            "clock", f"{text}: requests expire after 5 minutes", advice, facts=facts
        )
    elif seconds >= _NOTICED:
        yield _write_clock.warn("clock", text, advice, facts=facts)
    else:
        yield _write_clock.ok(
            "clock", f"within {max(1, round(seconds))} s of the platform's", facts=facts
        )


def _show_span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _read_date(text: str | None) -> datetime | None:
    with contextlib.suppress(ValueError):
        date = parsedate_to_datetime(text or "")
        return date if date.tzinfo else date.replace(tzinfo=UTC)
    return None
