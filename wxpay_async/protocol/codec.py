"""Values to wire and back: bizContent, the envelope, and what an error code means.

A reply is read in one place and in one order: it is the envelope, or it proves nothing.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import urlsplit

from wxpay_async.errors import (
    ConfigurationRefusedError,
    FailedError,
    InDoubtError,
    MalformedResponseError,
    RateLimitedError,
    RefusedError,
    WxPayError,
)
from wxpay_async.protocol.error_codes import CODES, is_business_code
from wxpay_async.protocol.requests import MiniProgramPay, Request
from wxpay_async.protocol.results import (
    CallResult,
    PayResult,
    RefundResult,
    TradeRef,
    TradeResult,
    TradeStatus,
)
from wxpay_async.protocol.secrets import SecretBytes
from wxpay_async.protocol.strict_json import describe_body, strict_json
from wxpay_async.protocol.validators import ReadOnly
from wxpay_async.protocol.wire import SANDBOX_MARKER, HttpResponse, is_loopback

if TYPE_CHECKING:
    from cattrs import Converter

    from wxpay_async.protocol.converter import Reader

T = TypeVar("T")

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

_REFUSED_UNREAD: Final = frozenset(
    {400, 401, 403, 404, 405, 411, 413, 414, 415, 417, 421, 425, 431}
)
"""HTTP statuses that prove that nothing was executed. A proxy that gave up waiting says others."""


def serialize(request: Request) -> bytes:
    """Serialise a request once; these very bytes are signed, sent, and sent again."""
    return encode_fields(wire_fields(request))


def encode_fields(fields: Mapping[str, Any]) -> bytes:
    """Serialise what `wire_fields` returned."""
    return SecretBytes(_ENCODER.encode(fields), "utf-8")


def parse_pay(content: bytes, *, request_id: str, out_trade_no: str | None) -> MiniProgramPay:
    """Return the payment that a `bizContent` asks for, under another requestId.

    Args:
        content: what `serialize` made of a payment.
        request_id: in place of the one in the content.
        out_trade_no: the order, which the content does not name.
    """
    known = dict(strict_json(content))
    known.pop("requestId")
    return MiniProgramPay(
        request_id=request_id,
        pay_token=known.pop("payToken"),
        terminal_payer_id=known.pop("terminalPayerId"),
        app_id=known.pop("appId", None),
        target_organization=known.pop("targetOrganization"),
        out_trade_no=out_trade_no,
        extra=known,
    )


@functools.cache
def _converter() -> Converter:
    from wxpay_async.protocol.converter import make_converter  # noqa: PLC0415 - cattrs can wait

    return make_converter()


@functools.cache
def _reader(kind: Hashable) -> Reader[Any]:
    from wxpay_async.protocol.converter import make_reader  # noqa: PLC0415 - as above

    return make_reader(_converter(), cast("type[Any]", kind))


@functools.cache
def _unstructure_hook(kind: Hashable) -> Callable[[object], Any]:
    return _converter().get_unstructure_hook(kind)


def wire_fields(request: Request) -> dict[str, Any]:
    """Return the business fields under the platform's names, without local and absent ones."""
    kind: type = type(request)
    fields: dict[str, Any] = _unstructure_hook(kind)(request)
    return fields


def decode(
    response: HttpResponse,
    into: type[T],
    *,
    url: str,
    moves_money: bool,
    signed_at: datetime | None = None,
    attempts: int = 1,
    replayed: bool = False,
) -> T:
    """Read a reply.

    Args:
        response: what came back.
        into: the result class.
        url: where the request went, for the checks on redirects and sandboxes.
        moves_money: whether an undocumented error code leaves the request in doubt.
        signed_at: when the request was signed: for the result, like the next two.
        attempts: the attempts that the reply took.
        replayed: whether it is an earlier call's.

    Raises:
        RefusedError: the platform refused.
        InDoubtError: the reply does not say what became of the request.
    """
    if SANDBOX_MARKER in response.headers and not is_loopback(url):
        raise MalformedResponseError(
            "a sandbox answered from a host that is not loopback", retryable=False
        )
    known: dict[str, Any] = {"attempts": attempts, "replayed": replayed}
    if into is PayResult:
        known["signed_at"] = signed_at
    elif into is TradeStatus:
        known["taught"] = None
    try:
        return _decode(response, into, known, url=url, moves_money=moves_money)
    except WxPayError as error:
        failure = error.with_traceback(None)
    # Raised out here: the frames below hold what was decoded, credentials included.
    raise failure


def _decode(
    response: HttpResponse, into: type[T], known: dict[str, Any], *, url: str, moves_money: bool
) -> T:
    data: Any = _read_data(response, url=url, moves_money=moves_money)
    if into is CallResult:
        return cast("T", CallResult(data=data, **known))
    if not isinstance(data, dict):
        raise MalformedResponseError("success without data", retryable=False)
    data = cast("dict[str, Any]", data)
    # Not added to `known`, which is a local of the frame that a traceback shows.
    result = _structure(data, {"raw": ReadOnly(data), **known}, into)
    _check_not_failed(result)
    return result


def _structure(fields: Mapping[str, Any], known: Mapping[str, Any], into: type[T]) -> T:
    try:
        result: T = _reader(cast("Hashable", into))(fields, known)
    except KeyError as error:
        problem = f"{error.args[0]} is missing"
    except ValueError as error:
        problem = str(error)
    else:
        return result
    # Raised out here: a cause would carry what was decoded, credentials included, into tracebacks.
    raise MalformedResponseError(
        f"the data does not hold a {into.__name__}: {problem}", retryable=False
    )


def _read_data(response: HttpResponse, *, url: str, moves_money: bool) -> object:
    status = response.status
    if 300 <= status < 400:  # noqa: PLR2004 - the redirection class
        raise _make_redirect_error(response)
    envelope = _read_envelope(response, url)
    if not envelope["success"]:
        raise _make_refusal(response, envelope, moves_money=moves_money)
    if not 200 <= status < 300 or envelope.get("errorCode"):  # noqa: PLR2004 - the success class
        raise MalformedResponseError(
            f"HTTP {status} from {_host_of(url)} contradicts the success in the envelope"
        )
    return envelope.get("data")


def _read_envelope(response: HttpResponse, url: str) -> dict[str, Any]:
    try:
        value = strict_json(response.body)
    except ValueError as error:
        # And not the error itself: it carries the whole body.
        problem = describe_body(response.body, error)
    else:
        envelope = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        if isinstance(envelope.get("success"), bool):
            return envelope
        problem = "JSON without the platform's field success"
    raise _make_envelope_error(response, problem, url)


def _make_redirect_error(response: HttpResponse) -> InDoubtError:
    # The host only: a redirect's query may echo what was sent.
    try:
        host = urlsplit(response.headers.get("location", "")).hostname or "nowhere"
    except ValueError:
        host = "nowhere"
    return InDoubtError(
        f"HTTP {response.status} to {host:.80}; redirects are never followed", retryable=False
    )


def _make_envelope_error(response: HttpResponse, why: str, url: str) -> WxPayError:
    """Make the error of an answer in the platform's place (`money-safety.md` §4)."""
    status = response.status
    if status == 429:  # noqa: PLR2004 - Too Many Requests
        return RateLimitedError(f"HTTP 429 from {_host_of(url)}: {why}")
    if status in _REFUSED_UNREAD:
        place = urlsplit(url)
        return ConfigurationRefusedError(
            f"HTTP {status} without an envelope from {place.hostname}{place.path}: {why}"
        )
    return MalformedResponseError(
        f"HTTP {status} from {_host_of(url)}: {why}, in place of the platform's envelope"
    )


def _host_of(url: str) -> str:
    """Return the host that a request went to: its path and its query may hold credentials."""
    return urlsplit(url).hostname or "nowhere"


def _make_refusal(
    response: HttpResponse, envelope: Mapping[str, Any], *, moves_money: bool
) -> WxPayError:
    code, message = (_to_text(envelope.get(name)) for name in ("errorCode", "errorMsg"))
    # An undocumented refusal under another status may be a proxy's, which cannot know.
    said_by_platform = response.status < 300 or response.status in _REFUSED_UNREAD  # noqa: PLR2004 - the success class
    doubtful = moves_money or not said_by_platform
    kind, meaning = CODES.get(code) or _read_undocumented(code, doubtful=doubtful)
    error = kind(meaning, code=code or None, message=message or None)
    if code not in CODES:
        error.retryable = False
    if isinstance(error, RefusedError):
        error.server_time = server_time(response)
    return error


def _read_undocumented(code: str, *, doubtful: bool) -> tuple[type[WxPayError], str]:
    if doubtful and not is_business_code(code):
        return InDoubtError, "a refusal without a documented error code"
    return RefusedError, "the platform refused"


def _check_not_failed(result: object) -> None:
    """Raise where a success envelope reports that all of it failed (status F)."""
    rows: tuple[TradeRef | RefundResult, ...] = ()
    if isinstance(result, (PayResult, TradeResult)):
        rows = result.trade_res_list
    elif isinstance(result, RefundResult):
        rows = (result,)
    for row in rows:
        if row.status != "F":
            return
    if rows:
        raise FailedError("the platform reports failure (status F)")


def server_time(response: HttpResponse) -> datetime | None:
    """Return the platform's time from the `Date` header, None when there is none to trust."""
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - hardly ever needed

    try:
        date = parsedate_to_datetime(response.headers.get("date", ""))
        return date.astimezone(UTC) if date.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _to_text(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""
