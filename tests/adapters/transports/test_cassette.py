"""The lines of a cassette: what is read of a request, what is written, and how both compare."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from wxpay_async.adapters.transports.cassette import (
    Asked,
    is_match,
    list_differences,
    read_lines,
    read_request,
    restore,
    write_line,
)
from wxpay_async.adapters.transports.redaction import Json, Redactor
from wxpay_async.errors import (
    InDoubtError,
    InvalidRequestError,
    MalformedResponseError,
    NotSentError,
    NotSentTimeoutError,
    WxPayError,
)
from wxpay_async.protocol.wire import HttpRequest, HttpResponse

URL = "https://platform.example/api/instant/query"
ENVELOPE = {"appKey": "k", "nonce": "n", "timestamp": "1", "sign": "s", "signType": "RSA"}


def make_request(**params: str) -> HttpRequest:
    """Make a signed request with these parameters in its body."""
    return HttpRequest(URL, urlencode(ENVELOPE | params).encode())


def ask(**fields: Json) -> Asked:
    """Make what is compared of a request."""
    return Asked("/api/instant/query", fields)


def replay(ended: HttpResponse | WxPayError, **own: str) -> HttpResponse | WxPayError:
    """Write what a request ended with, and read it again."""
    (exchange,) = read_lines(write_line(ask(), ended, Redactor()))
    return restore(exchange.outcome, own)


@pytest.mark.parametrize("placement", ["body", "query"])
def test_request_is_read_from_body_and_query(placement: str) -> None:
    """Without what each attempt has of its own; `bizContent` is decoded."""
    params = urlencode(ENVELOPE | {"bizContent": '{"requestId":"1"}', "empty": ""})
    in_body = HttpRequest(URL, params.encode())
    asked = read_request(in_body if placement == "body" else HttpRequest(f"{URL}?{params}", b""))

    expected = Asked("/api/instant/query", {"bizContent": {"requestId": "1"}, "empty": ""})
    assert expected == asked


@pytest.mark.parametrize("body", [b"\xff=1", b"no pairs"])
def test_body_that_is_no_form_is_known_by_its_length(body: bytes) -> None:
    """It cannot be redacted field by field."""
    assert {"body": f"{len(body)} bytes"} == read_request(HttpRequest(URL, body)).fields


@pytest.mark.parametrize("content", ["no JSON", "[1]"])
def test_content_that_is_no_object_is_redacted_whole(content: str) -> None:
    """Its fields have no names."""
    line = write_line(read_request(make_request(bizContent=content)), InDoubtError("x"), Redactor())

    assert {"bizContent": "redacted-bizContent-1"} == json.loads(line)["fields"]


def test_reply_is_replayed_as_it_was_written() -> None:
    """Status, amounts to the last digit, and the headers that may be kept."""
    body = '{"success":true,"data":{"amount":1.10,"quantity":2,"subject":"茶","none":null}}'
    headers = {"date": "Sat, 28 Nov 2026 00:00:00 GMT", "location": "https://intranet/"}

    replayed = replay(HttpResponse(201, body.encode(), headers))

    assert HttpResponse(201, body.encode(), {"date": headers["date"]}) == replayed


@pytest.mark.parametrize(
    "body", [b"<html>oops, openid oX</html>", b'{"success":tr', b'{"a":1,"a":2}', b"[1]", b"\xff"]
)
def test_body_that_is_no_object_is_replaced_by_one_that_is_none_either(body: bytes) -> None:
    """The SDK reads neither."""
    assert HttpResponse(502, f"redacted-body-{len(body)}".encode()) == replay(
        HttpResponse(502, body)
    )


def test_empty_body_is_replayed_empty() -> None:
    """A proxy that gave up sends none."""
    assert HttpResponse(504, b"") == replay(HttpResponse(504, b""))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotSentError("refused"), NotSentError),
        (NotSentError("a certificate", retryable=False), NotSentError),
        (NotSentTimeoutError("late"), NotSentTimeoutError),
        (InDoubtError("reset"), InDoubtError),
        (MalformedResponseError("too large"), MalformedResponseError),
        (InvalidRequestError("of a transport of one's own"), InDoubtError),
    ],
    ids=lambda value: value.reason if isinstance(value, WxPayError) else "",
)
def test_error_is_replayed_with_its_fate(error: WxPayError, kind: type[WxPayError]) -> None:
    """An error whose class proves nothing is in doubt, as it is for the gateway."""
    replayed = replay(error)

    assert isinstance(replayed, WxPayError)
    assert (kind, f"recorded: {error.reason}", error.retryable) == (
        type(replayed),
        replayed.reason,
        replayed.retryable,
    )


def test_reply_repeats_the_value_of_the_caller() -> None:
    """Where the request held what was redacted, the echo is the caller's own."""
    reply = HttpResponse(200, b'{"openId":"oRecorded1","list":["oRecorded1"],"other":"oRecorded2"}')

    replayed = replay(reply, **{"redacted-openId-1": "oMine"})

    assert HttpResponse(200, b'{"openId":"oMine","list":["oMine"],"other":"redacted-other-1"}') == (
        replayed
    )


def test_line_that_was_cut_off_is_no_exchange() -> None:
    """A crash leaves the whole lines readable."""
    line = write_line(ask(outTradeNo="O-1"), HttpResponse(200, b""), Redactor())

    exchanges = read_lines(line * 2 + line[:-1])

    assert [ask(outTradeNo="O-1")] * 2 == [exchange.asked for exchange in exchanges]
    assert [] == read_lines(b"")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"a text",
        b'{"version":2,"path":"/","fields":{},"response":{"status":1,"headers":{},"body":""}}',
        b'{"version":1,"path":"/","fields":{}}',
        b'{"version":1,"path":"/","fields":{},"response":{"status":200}}',
        b'{"version":1,"fields":{},"error":{"kind":"x","reason":"","retryable":true}}',
        b'{"version":1,"path":"/","fields":7,"error":{"kind":"x","reason":"","retryable":true}}',
    ],
)
def test_line_of_another_kind_is_named(line: bytes) -> None:
    """By its number; what it holds is not repeated."""
    good = write_line(ask(), HttpResponse(200, b""), Redactor())

    with pytest.raises(InvalidRequestError, match="line 2 is none of a cassette") as caught:
        read_lines(good + line + b"\n")
    assert caught.value.__cause__ is caught.value.__context__ is None


CASES: list[tuple[dict[str, Json], dict[str, Json], list[str]]] = [
    ({"a": "1"}, {"a": "1"}, []),
    ({"status": "S"}, {"status": "F"}, ["status is 'F', recorded 'S'"]),
    ({"a": "1", "b": ""}, {"a": "1"}, ["b is missing"]),
    ({"a": "1"}, {"a": "1", "b": ""}, ["b was not recorded"]),
    ({"amount": 1}, {"amount": "1"}, ["amount is '1', recorded 1"]),
    ({"total": 1}, {"total": True}, ["total is True, recorded 1"]),
    ({"x": [{"price": "1"}]}, {"x": [{"price": "2"}]}, ["x[0].price is '2', recorded '1'"]),
    ({"x": ["1"]}, {"x": ["1", "2"]}, ["x[1] was not recorded"]),
    ({"x": {}}, {"x": []}, ["x is [], recorded {}"]),
    ({"openId": "redacted-openId-1"}, {"openId": "oMine"}, []),
    ({"phone": "redacted-phone-1"}, {"phone": 138}, []),
    (
        {"openId": "redacted-openId-1"},
        {"openId": ""},
        ["openId is '', recorded 'redacted-openId-1'"],
    ),
    ({"subject": "for redacted-openId-1!"}, {"subject": "for oMine!"}, []),
    ({"subject": "redacted-a-1, redacted-a-2."}, {"subject": "x, y."}, []),
    ({"subject": "redacted-a-1 and redacted-a-2"}, {"subject": "x, y"}, ["subject"]),
    ({"subject": "ab redacted-a-1 bc"}, {"subject": "ab bc"}, ["subject"]),
    ({"subject": "for redacted-openId-1!"}, {"subject": "of oMine!"}, ["subject"]),
    ({"subject": "for redacted-openId-1"}, {"subject": 7}, ["subject"]),
]


@pytest.mark.parametrize(("recorded", "asked", "expected"), CASES)
def test_difference_is_named(
    recorded: dict[str, Json], asked: dict[str, Json], expected: list[str]
) -> None:
    """By the way to the field; what was redacted has only to be there."""
    found = list_differences(ask(**recorded), ask(**asked))

    assert (not expected) == is_match(ask(**recorded), ask(**asked))
    assert expected == [text[: len(start)] for text, start in zip(found, expected, strict=True)]


def test_difference_repeats_no_secret() -> None:
    """It stands in an error, and errors are logged."""
    secret: dict[str, Any] = {
        "openId": "oCanary-openid",
        "subject": "for oCanary-openid",
        "b": "oC",
    }

    told = "; ".join(list_differences(ask(subject="tea", openId="", b="1"), ask(**secret)))

    assert "subject is 'for redacted-openId-1', recorded 'tea'" in told
    assert "oC" not in told


def test_another_path_does_not_match() -> None:
    """The fields of two operations may be the same."""
    assert not is_match(Asked("/a", {}), Asked("/b", {}))
