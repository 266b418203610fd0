"""A call without a method: which paths and parameters are taken, and what is made of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.builder import OPERATIONS, QUERY, Operation
from wxpay_async.protocol.endpoint import make_endpoint, write_parameters
from wxpay_async.protocol.wire import check_base_url


@pytest.mark.parametrize("path", ["/api/x", "/a", "/api/v1.2/x_y/z-0~", QUERY.path, "/a/..b/.c"])
def test_path_is_taken_as_it_is(path: str) -> None:
    """An endpoint that only reads has a method, too: calling it twice does no harm."""
    assert Operation("call", path, moves_money=True) == make_endpoint(path, retry_safe=False)
    assert not make_endpoint(path, retry_safe=True).moves_money


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "api/x", "//api/x", "/api//x", "/api/x/", "/api/../x", "/api/.", "/./api"),
        *("/api/x?sign=1", "/api/x#f", "/api/%2e%2e/x", "/api/x y", "/api/x\n", "/接口", "/a\\b"),
        *("https://evil.example/api/x", "@evil.example/x", "/a;b", "/a:b", "/a@b", None, b"/a", 7),
    ],
)
def test_path_that_could_lead_elsewhere_is_refused(path: Any) -> None:  # noqa: ANN401 - anything
    """To another host, another endpoint, or to parameters that are not signed."""
    with pytest.raises(InvalidRequestError, match="as /api/company/merchants") as caught:
        make_endpoint(path, retry_safe=True)

    assert "path" == caught.value.field
    assert "evil" not in str(caught.value)


@given(path=st.from_regex(r"(?:/[A-Za-z0-9._~%;?#-]{1,8}){1,3}", fullmatch=True))
def test_path_that_is_taken_could_stand_in_a_base_url(path: str) -> None:
    """Both are held to the same rule."""
    try:
        make_endpoint(path, retry_safe=True)
    except InvalidRequestError:
        return
    assert f"https://example.com{path}" == check_base_url(f"https://example.com{path}")


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
@pytest.mark.parametrize("spell", [str, str.upper])
def test_path_of_a_method_with_a_request_id_is_refused(operation: Operation, spell: Any) -> None:  # noqa: ANN401 - a function
    """Sent past the store, it could be executed twice; however a server reads its letters."""
    with pytest.raises(InvalidRequestError, match=rf"PayGateway\.{operation.name} calls it"):
        make_endpoint(spell(operation.path), retry_safe=False)


def test_parameters_are_texts_and_json() -> None:
    """JSON is written once, and compactly, as in the methods."""
    params = {
        "outTradeNo": "O-1",
        "bizContent": {"a": "商", "n": [1, None]},
        "list": ["x"],
        "e": "",
    }
    written = {
        "outTradeNo": "O-1",
        "bizContent": '{"a":"商","n":[1,null]}',
        "list": '["x"]',
        "e": "",
    }

    assert written == write_parameters(params)


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a&b", "a=b", "接口", "a\n", "x" * 65, "appKey", "nonce", "timestamp", "sign"],
)
def test_name_of_a_parameter_that_is_none_is_refused(name: str) -> None:
    """It would change the form; and what the gateway fills in is not for the caller."""
    with pytest.raises(InvalidRequestError):
        write_parameters({name: ""})


@pytest.mark.parametrize("value", [1.5, Decimal(1), 7, True, None, b"x"])
def test_value_that_is_neither_text_nor_json_is_refused(value: Any) -> None:  # noqa: ANN401 - anything
    """Python's text of it may be no one else's; the error names the parameter and the type."""
    with pytest.raises(TypeError, match=f"amount: a str, or JSON.*{type(value).__name__}"):
        write_parameters({"amount": value})


@pytest.mark.parametrize("value", [1.5, Decimal(1)])
def test_amount_that_is_no_text_is_refused_in_json(value: Any) -> None:  # noqa: ANN401 - anything
    """A JSON number loses digits on its way."""
    with pytest.raises(TypeError, match="write amounts as str"):
        write_parameters({"bizContent": {"amount": value}})
