"""The lines of a cassette: one exchange each, as JSON, without secrets. No I/O.

    {"version":1,"method":"POST","path":"/api/instant/query","fields":{"outTradeNo":"O-1"},
     "response":{"status":200,"headers":{},"body":{"success":true, ...}}}

In place of `response` stands `error` where the transport raised one. A body that is no JSON object
(the error page of a proxy) is written as its length only: the SDK does not read it either.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from attrs import field, frozen

from wxpay_async.adapters.transports.redaction import PLACEHOLDER, Json, Redactor
from wxpay_async.errors import (
    InDoubtError,
    InDoubtTimeoutError,
    InvalidRequestError,
    MalformedResponseError,
    NotSentError,
    NotSentTimeoutError,
    WxPayError,
)
from wxpay_async.protocol.strict_json import strict_json
from wxpay_async.protocol.wire import SANDBOX_MARKER, HttpRequest, HttpResponse

BEGINNING: Final = b'{"version":1,'
"""How every line begins."""

_VOLATILE: Final = frozenset({"appKey", "nonce", "timestamp", "sign", "signType"})
"""What each attempt has of its own, and what says and proves who sends: no part of the business."""

_KEPT_HEADERS: Final = ("date", SANDBOX_MARKER)  # a `location` may name a host of one's own
_CONTENT: Final = "bizContent"
_SHOWN: Final = 40
_Failure = type[NotSentError] | type[InDoubtError]
_ERRORS: Final[Mapping[str, _Failure]] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (
            *(NotSentError, NotSentTimeoutError),
            *(InDoubtError, InDoubtTimeoutError, MalformedResponseError),
        )
    }
)


@frozen
class Asked:
    """What is compared of a request.

    Attributes:
        path: where it is posted.
        fields: the parameters without the volatile ones; `bizContent` is decoded.
    """

    path: str
    fields: dict[str, Json] = field(repr=False)


@frozen
class Exchange:
    """A request, and what it was answered with.

    Attributes:
        asked: what is compared of the request, redacted.
        outcome: the reply or the error, as the cassette holds it.
    """

    asked: Asked
    outcome: Mapping[str, Json] = field(repr=False)


def read_request(request: HttpRequest) -> Asked:
    """Read what is compared of a request, from its form body and its query."""
    url = urlsplit(request.url)
    fields: dict[str, Json] = {}
    try:
        body = request.body.decode("utf-8")
        for text in (url.query, body):
            fields.update(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text)))
    except ValueError:  # no form: its bytes are of no use without a way to redact them
        return Asked(url.path, {"body": f"{len(request.body)} bytes"})
    named = {name: value for name, value in fields.items() if name not in _VOLATILE}
    if isinstance(content := named.get(_CONTENT), str):
        named[_CONTENT] = _read_object(content.encode(), content)
    return Asked(url.path, named)


def _read_object(body: bytes, otherwise: Json) -> Json:
    try:
        value: Json = strict_json(body)
    except ValueError:
        return otherwise
    return value if isinstance(value, dict) else otherwise


# Writing


def write_line(asked: Asked, ended: HttpResponse | WxPayError, redactor: Redactor) -> bytes:
    """Return the line of an exchange, with its line break."""
    if isinstance(ended, HttpResponse):
        name, what, body = "response", *_describe_response(ended)
    else:
        name, what, body = "error", _describe_error(ended, redactor), None
    fields, redacted = redactor.redact(asked.fields, body)
    if name == "response":
        what["body"] = redacted
    line: dict[str, Json] = {
        "version": 1,
        "method": "POST",
        "path": redactor.blank(asked.path),
        "fields": fields,
        name: what,
    }
    return f"{encode(line)}\n".encode()


def _describe_response(response: HttpResponse) -> tuple[dict[str, Json], Json]:
    headers: dict[str, Json] = {
        name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers
    }
    size = len(response.body)
    unreadable = f"redacted-body-{size}" if size else ""
    return {"status": response.status, "headers": headers}, _read_object(response.body, unreadable)


def _describe_error(error: WxPayError, redactor: Redactor) -> dict[str, Json]:
    kind = next((k.__name__ for k in type(error).__mro__ if k.__name__ in _ERRORS), "InDoubtError")
    reason = redactor.blank(error.reason)
    return {"kind": kind, "reason": reason, "retryable": error.retryable}


def encode(value: Json) -> str:
    """Encode JSON as `json` does, and numbers as they were written."""
    match value:
        case dict():
            members = (f"{encode(name)}:{encode(item)}" for name, item in value.items())
            return f"{{{','.join(members)}}}"
        case list():
            return f"[{','.join(map(encode, value))}]"
        case Decimal():
            return str(value)
        case _:
            return json.dumps(value, ensure_ascii=False)


# Reading


def read_lines(content: bytes) -> list[Exchange]:
    """Read a cassette. A last line without a line break was cut off by a crash, and is no exchange.

    Raises:
        InvalidRequestError: another line cannot be read.
    """
    *lines, _ = content.split(b"\n")
    return [_read_line(number, line) for number, line in enumerate(lines, 1)]


def _read_line(number: int, line: bytes) -> Exchange:
    try:
        if line.startswith(BEGINNING):
            value: Any = json.loads(line, parse_float=Decimal)
            outcome = _check_outcome(value)
            return Exchange(Asked(str(value["path"]), dict(value["fields"])), outcome)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass  # told below: their texts may repeat what the file holds
    raise InvalidRequestError(f"line {number} is none of a cassette", allowed="version 1")


def _check_outcome(value: Any) -> dict[str, Json]:  # noqa: ANN401 - a line that is not checked yet
    error, response = value.get("error"), value.get("response")
    if error is not None:
        return {"error": {name: error[name] for name in ("kind", "reason", "retryable")}}
    return {"response": {name: response[name] for name in ("status", "headers", "body")}}


def restore(outcome: Mapping[str, Any], own: Mapping[str, str]) -> HttpResponse | WxPayError:
    """Make the reply or the error that was recorded.

    Args:
        outcome: of the exchange.
        own: what the caller sends in place of each placeholder.
    """
    if "error" in outcome:
        error = outcome["error"]
        kind = _ERRORS.get(error["kind"], InDoubtError)
        return kind(f"recorded: {error['reason']}", retryable=bool(error["retryable"]))
    response = outcome["response"]
    body = _put_back(response["body"], own)
    text = body if isinstance(body, str) else encode(body)
    return HttpResponse(int(response["status"]), text.encode(), dict(response["headers"]))


def _put_back(value: Json, own: Mapping[str, str]) -> Json:
    match value:
        case dict():
            return {name: _put_back(item, own) for name, item in value.items()}
        case list():
            return [_put_back(item, own) for item in value]
        case str():
            return PLACEHOLDER.sub(lambda found: own.get(found[0], found[0]), value)
        case _:
            return value


# Comparing


def is_match(recorded: Asked, asked: Asked) -> bool:
    """Tell whether a request is the one that was recorded, as far as the cassette says."""
    if recorded.path != asked.path:
        return False
    was, now = dict(_list_leaves(recorded.fields)), dict(_list_leaves(asked.fields))
    return was.keys() == now.keys() and all(_is_same(was[name], now[name]) for name in was)


def list_differences(recorded: Asked, asked: Asked) -> list[str]:
    """Name each field that differs.

    A text repeats values under names that are written in clear, and no others.
    """
    was, now = dict(_list_leaves(recorded.fields)), dict(_list_leaves(asked.fields))
    (redacted,) = Redactor().redact(asked.fields)
    shown = dict(zip(now, (value for _, value in _list_leaves(redacted)), strict=True))
    found = [f"{name} is missing" for name in was if name not in now]
    found += [f"{name} was not recorded" for name in now if name not in was]
    found += [
        f"{name} is {shown[name]!r:.{_SHOWN}}, recorded {was[name]!r:.{_SHOWN}}"
        for name in was
        if name in now and not _is_same(was[name], now[name])
    ]
    return found


def learn_own(recorded: Asked, asked: Asked) -> dict[str, str]:
    """Return what the caller sends in place of each placeholder."""
    sent = dict(_list_leaves(asked.fields))
    return {
        value: str(sent[name])
        for name, value in _list_leaves(recorded.fields)
        if isinstance(value, str) and PLACEHOLDER.fullmatch(value) and name in sent
    }


def _list_leaves(value: Json, name: str = "") -> Iterator[tuple[str, Json]]:
    """Yield each value by its way: `bizContent.tradeInfo[0].price`."""
    match value:
        case dict() if value:
            for key, item in value.items():
                yield from _list_leaves(item, f"{name}.{key}" if name else key)
        case list() if value:
            for number, item in enumerate(value):
                yield from _list_leaves(item, f"{name}[{number}]")
        case _:
            yield name, value


def _is_same(recorded: Json, asked: Json) -> bool:
    if not isinstance(recorded, str) or not PLACEHOLDER.search(recorded):
        return recorded == asked and type(recorded) is type(asked)
    if PLACEHOLDER.fullmatch(recorded):
        return asked not in (None, "")
    return isinstance(asked, str) and _matches(PLACEHOLDER.split(recorded), asked)


def _matches(pieces: list[str], text: str) -> bool:
    """Tell whether a text begins and ends alike, and has what is between in this order."""
    first, *between, last = pieces
    if not (text.startswith(first) and text.endswith(last)):
        return False
    at = len(first)
    for piece in between:
        at = text.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return at <= len(text) - len(last)
