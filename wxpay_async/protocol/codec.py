"""Values to wire and back: bizContent, strict JSON, the envelope, and what an error code means.

A reply is read in one place and in one order: it is the envelope, or it proves nothing. Every
limit here (size of numbers, depth, duplicate names) closes a way to make two readers of the same
bytes see different things.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast, get_args, get_origin
from urllib.parse import urlsplit

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from wxpay_async.errors import (
    AccessDeniedError,
    ClockSkewError,
    DuplicateRequestError,
    FailedError,
    InDoubtError,
    MalformedResponseError,
    RateLimitedError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.protocol.fields import ReadOnly, SecretBytes, wire_name
from wxpay_async.protocol.requests import Request
from wxpay_async.protocol.results import (
    Merchant,
    MerchantPage,
    PayResult,
    RefundResult,
    RoyaltyShare,
    TradeRef,
    TradeResult,
    TradeStatus,
)
from wxpay_async.protocol.wire import SANDBOX_MARKER, HttpResponse, is_loopback

T = TypeVar("T")

MAX_DEPTH: Final = 32
MAX_NUMBER: Final = 20
_PREFIX: Final = "$"  # no name of the platform's begins like this

CODES: Final[Mapping[str, tuple[type[WxPayError], str]]] = MappingProxyType(
    {
        "CO_MSG_000001": (RefusedError, "malformed parameters"),
        "CO_MSG_000002": (InDoubtError, "the platform's data operation failed"),
        "CO_MSG_000003": (InDoubtError, "the platform was interrupted"),
        "CO_MSG_000004": (AccessDeniedError, "the appKey does not exist"),
        "CO_MSG_000005": (ClockSkewError, "the request had expired on arrival"),
        "CO_MSG_000006": (SignatureRefusedError, "the signature was refused"),
        "CO_MSG_000007": (RateLimitedError, "more than 400 calls in 60 s for the appKey"),
        "CO_MSG_000008": (AccessDeniedError, "the appKey is no longer valid"),
        "CO_MSG_0000011": (AccessDeniedError, "the token is no longer valid"),
        "CO_MSG_0000015": (RefusedError, "unsupported media type"),
        "CO_MSG_0000016": (RefusedError, "unsupported request method"),
        "CO_MSG_0000017": (AccessDeniedError, "the caller's address is not on the allow-list"),
        "GM_API_BUS_000005": (RefusedError, "the requestId is empty"),
        "GM_API_BUS_000007": (RefusedError, "the requestId has expired"),
        "GM_API_BUS_0000015": (DuplicateRequestError, "the requestId was used before"),
    }
)
"""errorCode -> (what is raised, what it means). See `protocol.md`, "Error codes"."""

_BUSINESS: Final = re.compile(r"GM_API_BUS_[0-9]+", re.ASCII)
_AMOUNT: Final = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,4})?", re.ASCII)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ESCAPED_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def biz_content(request: Request) -> bytes:
    """Serialise a request once; these very bytes are signed, sent, and sent again."""
    return encoded(wire_fields(request))


def encoded(fields: Mapping[str, Any]) -> bytes:
    """Serialise the business fields of a request."""
    return SecretBytes(_ENCODER.encode(fields), "utf-8")


def wire_fields(request: Request) -> dict[str, Any]:
    """Return the business fields under the platform's names, without local and absent ones."""
    fields: dict[str, Any] = _converter().unstructure(request)
    return fields


def decode(
    response: HttpResponse,
    into: type[T],
    *,
    url: str,
    moves_money: bool,
    local: Mapping[str, Any] | None = None,
) -> T:
    """Read a reply.

    Args:
        response: what came back.
        into: the result class.
        url: where the request went, for the checks on redirects and sandboxes.
        moves_money: whether an undocumented error code leaves the request in doubt.
        local: fields of the result that the SDK knows and the platform does not.

    Raises:
        RefusedError: the platform refused.
        InDoubtError: the reply does not say what became of the request.
    """
    try:
        return _decoded(response, into, url=url, moves_money=moves_money, local=local)
    except WxPayError as error:
        failure = error.with_traceback(None)
    # Raised anew: the frames below hold what was decoded, credentials included.
    raise failure


def _decoded(
    response: HttpResponse,
    into: type[T],
    *,
    url: str,
    moves_money: bool,
    local: Mapping[str, Any] | None,
) -> T:
    if SANDBOX_MARKER in response.headers and not is_loopback(url):
        raise MalformedResponseError(
            "a sandbox answered from a host that is not loopback", retryable=False
        )
    data = _data_of(response, moves_money=moves_money)
    fields = {**data, "$raw": ReadOnly(data)}
    if _PREFIX in "".join(data):
        # The platform must not be able to set what only we know, e.g. when the prepay was signed.
        fields = {
            name: value for name, value in fields.items() if name == "$raw" or _PREFIX not in name
        }
    for name, value in (local or {}).items():
        fields[_PREFIX + name] = value
    result = _structured(fields, into)
    _check_not_failed(result)
    return result


def _structured(fields: Mapping[str, Any], into: type[T]) -> T:
    try:
        return _converter().structure(fields, into)
    except KeyError as error:
        problem = f"{error.args[0]} is missing"
    except ValueError as error:
        problem = str(error)
    # Raised out here: a cause would carry what was decoded, credentials included, into tracebacks.
    raise MalformedResponseError(
        f"the data does not hold a {into.__name__}: {problem}", retryable=False
    )


def _data_of(response: HttpResponse, *, moves_money: bool) -> dict[str, Any]:
    status = response.status
    if 300 <= status < 400:  # noqa: PLR2004 - the redirection class
        raise _redirected(response)
    envelope = _envelope_of(response)
    if not envelope["success"]:
        raise _refusal(response, envelope, moves_money=moves_money)
    if not 200 <= status < 300 or envelope.get("errorCode"):  # noqa: PLR2004 - the success class
        raise MalformedResponseError(f"HTTP {status} contradicts the success in the envelope")
    data = envelope.get("data")
    if not isinstance(data, dict):
        raise MalformedResponseError("success without data")
    return cast("dict[str, Any]", data)


def _envelope_of(response: HttpResponse) -> dict[str, Any]:
    problem = "no envelope"
    try:
        value = strict_json(response.body)
    except ValueError as error:
        problem = str(error)  # and not the error itself: it carries the whole body
    else:
        envelope = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        if isinstance(envelope.get("success"), bool):
            return envelope
    raise _without_envelope(response, problem)


def _redirected(response: HttpResponse) -> InDoubtError:
    # The host only: a redirect's query may echo what was sent.
    try:
        host = urlsplit(response.headers.get("location", "")).hostname or "nowhere"
    except ValueError:
        host = "nowhere"
    return InDoubtError(
        f"HTTP {response.status} to {host:.80}; redirects are never followed", retryable=False
    )


def _without_envelope(response: HttpResponse, why: str) -> WxPayError:
    status = response.status
    if status == 429:  # noqa: PLR2004 - Too Many Requests
        return RateLimitedError("HTTP 429")
    if 400 <= status < 500:  # noqa: PLR2004 - the client error class
        return RefusedError(f"HTTP {status} without an envelope")
    return MalformedResponseError(f"HTTP {status}: {why}")


def _refusal(
    response: HttpResponse, envelope: Mapping[str, Any], *, moves_money: bool
) -> WxPayError:
    code, message = (_text_of(envelope.get(name)) for name in ("errorCode", "errorMsg"))
    doubtful = moves_money or response.status >= 500  # noqa: PLR2004 - the server error class
    kind, meaning = CODES.get(code) or _undocumented(code, doubtful=doubtful)
    error = kind(meaning, code=code or None, message=message or None)
    if code not in CODES:
        error.retryable = False
    if isinstance(error, ClockSkewError):
        error.server_time = server_time(response)
    return error


def _undocumented(code: str, *, doubtful: bool) -> tuple[type[WxPayError], str]:
    if doubtful and not _BUSINESS.fullmatch(code):
        return InDoubtError, "a refusal without a documented error code"
    return RefusedError, "the platform refused"


def _check_not_failed(result: object) -> None:
    """Raise where a success envelope reports that all of it failed (status F)."""
    if isinstance(result, RefundResult):
        statuses = {result.status}
    elif isinstance(result, PayResult | TradeResult):
        statuses = {row.status for row in result.trade_res_list}
    else:
        return
    if statuses == {"F"}:
        raise FailedError("the platform reports failure (status F)")


def server_time(response: HttpResponse) -> datetime | None:
    """Return the platform's time from the `Date` header, None when there is none to trust."""
    try:
        date = parsedate_to_datetime(response.headers.get("date", ""))
        return date.astimezone(UTC) if date.tzinfo else None
    except (ValueError, OverflowError):
        return None


def strict_json(body: bytes) -> Any:  # noqa: ANN401 - JSON is what it is
    """Decode JSON that every reader understands alike.

    Raises:
        ValueError: not UTF-8, a name twice, NaN or Infinity, a number of over 20 characters, a
            lone surrogate, or deeper than 32.
    """
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except RecursionError:
        raise ValueError(f"JSON deeper than {MAX_DEPTH}") from None
    # Counting brackets is cheap and nearly always enough; only a candidate is walked.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        _check_depth(value, MAX_DEPTH)
    if b"\\" in body and _ESCAPED_SURROGATE.search(body):
        # Halves of a pair were joined by now; what is left cannot be encoded, stored or printed.
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    return value


def _check_depth(value: object, left: int) -> None:
    if isinstance(value, dict):
        items = list(cast("dict[str, object]", value).values())
    elif isinstance(value, list):
        items = cast("list[object]", value)
    else:
        return
    if not left:
        raise ValueError(f"JSON deeper than {MAX_DEPTH}")
    for item in items:
        _check_depth(item, left - 1)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one JSON object")
    return members


def _no_constant(name: str) -> Any:  # noqa: ANN401 - json's own signature
    raise ValueError(f"{name} is no JSON number")


def _decimal(digits: str) -> Decimal:
    _check_length(digits)
    return Decimal(digits)


def _integer(digits: str) -> int:
    _check_length(digits)
    return int(digits)


def _check_length(digits: str) -> None:
    if len(digits) > MAX_NUMBER:
        raise ValueError(f"a number of {len(digits)} characters")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_constant=_no_constant,
    parse_float=_decimal,
    parse_int=_integer,
)


def _text_of(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


# The converter


def _structure_text(value: object, _: object) -> str:
    """Accept text, and the integers that a lenient platform might send for digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError("no text")


def _structure_amount(value: object, _: object) -> Decimal:
    """Accept an amount as text or as a JSON number, which `strict_json` read exactly."""
    # The digits decide, whatever they came as: 1E+999999999 is a Decimal too.
    digits = str(value) if isinstance(value, Decimal | int) else value
    if isinstance(digits, str) and _AMOUNT.fullmatch(digits):
        return Decimal(digits)
    raise ValueError("no amount")


def _structure_int(value: object, _: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MAX_NUMBER:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("no integer")


def _optional(structure: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Read null and the empty text as absent, as the platform does."""
    return lambda value, kind: None if value is None or value == "" else structure(value, kind)


def _rows(converter: Converter, row: type[T]) -> Callable[[Any, Any], tuple[T, ...]]:
    """Accept a list, or its JSON text: the page says the one and shows the other."""
    structure_row = converter.get_structure_hook(row)

    def structure(value: object, _: object) -> tuple[T, ...]:
        if value is None or value == "":
            return ()
        if isinstance(value, str):
            value = strict_json(value.encode())
        if not isinstance(value, list):
            raise ValueError("no list")  # noqa: TRY004 - the data is bad, not the call
        items = cast("list[object]", value)
        if not all(isinstance(item, dict) for item in items):
            raise ValueError("a row that is no object")
        return tuple(structure_row(item, row) for item in items)

    return structure


def _has_extra(cls: type) -> bool:
    return attrs.has(cls) and "extra" in attrs.fields_dict(cls)


def _is_rows_of(row: type) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is tuple and get_args(kind) == (row, ...)


def _structure_by_wire_name(converter: Converter, cls: type[T]) -> Callable[[Any, Any], T]:
    overrides: dict[str, Any] = {
        attribute.name: override(rename=_PREFIX + attribute.name, struct_hook=_as_it_is)
        if attribute.metadata.get("local")
        else override(rename=wire_name(attribute))
        for attribute in attrs.fields(cast("type[attrs.AttrsInstance]", cls))
    }
    return make_dict_structure_fn(cls, converter, **overrides)


def _as_it_is(value: object, _: object) -> object:
    return value


def _unstructure_request(converter: Converter, cls: type) -> Callable[[Any], dict[str, Any]]:
    overrides: dict[str, Any] = {
        attribute.name: override(
            rename=wire_name(attribute),
            omit=attribute.name == "extra" or bool(attribute.metadata.get("local")),
            omit_if_default=attribute.default is None or attribute.default == (),
        )
        for attribute in attrs.fields(cls)
    }
    unstructure: Callable[[Any], dict[str, Any]] = make_dict_unstructure_fn(
        cls, converter, **overrides
    )

    def with_extra(request: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the request classes
        fields = unstructure(request)
        if request.extra:
            fields.update(request.extra)
        return fields

    return with_extra


@functools.cache
def _converter() -> Converter:
    """Make the converter on first use: it compiles a function for each class."""
    converter = Converter(detailed_validation=False)
    converter.register_unstructure_hook(Decimal, lambda amount: f"{amount:.2f}")
    converter.register_unstructure_hook(int, str)
    converter.register_unstructure_hook_factory(
        _has_extra, functools.partial(_unstructure_request, converter)
    )
    for kind, structure in (
        (str, _structure_text),
        (Decimal, _structure_amount),
        (int, _structure_int),
    ):
        converter.register_structure_hook(kind, structure)
        converter.register_structure_hook(kind | None, _optional(structure))
    rows: tuple[type, ...] = (RoyaltyShare, TradeRef, Merchant)
    for row in rows:
        converter.register_structure_hook(row, _structure_by_wire_name(converter, row))
        converter.register_structure_hook_func(_is_rows_of(row), _rows(converter, row))
    results: tuple[type, ...] = (PayResult, TradeResult, TradeStatus, RefundResult, MerchantPage)
    for result in results:
        converter.register_structure_hook(result, _structure_by_wire_name(converter, result))
    return converter
