"""The parameters of a call, as an integrator has them."""

from __future__ import annotations

import json

import pytest

from tests.protocol.samples import pay
from wxpay_async import InvalidRequestError
from wxpay_async.cli.sign_input import read_parameters
from wxpay_async.protocol.codec import serialize

CONTENT = '{"requestId":"r-1","subject":"春茶 a/b","n":1}'


@pytest.mark.parametrize("indent", [None, 2])
def test_biz_content_is_written_as_the_sdk_writes_it(indent: int | None) -> None:
    """However a person wrote it."""
    content = serialize(pay()).decode()
    written = json.dumps(json.loads(content), indent=indent)

    assert {"bizContent": content} == read_parameters(written.encode())


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("a=1&b=", {"a": "1", "b": ""}),
        ("a=%E8%8C%B6+x", {"a": "茶 x"}),
        (f"appKey=g+m%&bizContent={CONTENT}&nonce=n", {"appKey": "g+m%", "nonce": "n"}),
        ('{"outTradeNo":"O-1"}', {"outTradeNo": "O-1"}),
        ('{"a":null,"b":2,"c":true,"d":[1]}', {"a": "", "b": "2", "c": "true", "d": "[1]"}),
        (f'{{"bizContent":{CONTENT}}}', {"bizContent": CONTENT}),
        (' {"a": "1"}\n', {"a": "1"}),
        ('\ufeff{"a": "1"}', {"a": "1"}),
    ],
)
def test_parameters_are_read_from_json_and_forms(text: str, params: dict[str, str]) -> None:
    """Texts stay as they are, and empty ones are kept."""
    assert params.items() <= read_parameters(text.encode()).items()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"canary",
        b"a=1&a=2",
        b"[1]",
        b'{"canary"',
        b'{"a":1,"a":2}',
        b"a=\xff",
        b"\xff",
        b"a=%FF",
    ],
)
def test_other_text_is_refused_and_not_repeated(data: bytes) -> None:
    """It may hold credentials."""
    with pytest.raises(InvalidRequestError, match="request: cannot be read") as caught:
        read_parameters(data)

    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_number_with_a_fraction_is_refused() -> None:
    """No two languages write it alike."""
    with pytest.raises(InvalidRequestError, match="fraction"):
        read_parameters(b'{"requestId":"1","amount":1.10}')
