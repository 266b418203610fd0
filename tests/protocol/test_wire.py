"""Addresses, timeouts, and the repr of requests and responses."""

import math

import attrs
import pytest

from wxpay_async.errors import Fate, InvalidRequestError
from wxpay_async.protocol.wire import (
    PRODUCTION,
    TEST,
    HttpRequest,
    HttpResponse,
    Timeouts,
    check_base_url,
    is_loopback,
)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (PRODUCTION, "https://openapi.gongmall.com"),
        (TEST, "https://openapi-qa.gongmall.com"),
        ("https://pay.example/", "https://pay.example"),
        ("https://pay.example:8443//", "https://pay.example:8443"),
        ("HTTPS://Pay.Example", "HTTPS://Pay.Example"),
        ("https://10.0.0.7", "https://10.0.0.7"),
        ("https://[2001:db8::1]:65535", "https://[2001:db8::1]:65535"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.8.8.8", "http://127.8.8.8"),
        ("http://localhost:1/", "http://localhost:1"),
        ("http://[::1]", "http://[::1]"),
        ("https://front.example/gongmall", "https://front.example/gongmall"),
        ("https://front.example:8443/a.b/~c_d-1//", "https://front.example:8443/a.b/~c_d-1"),
        ("https://front.example/..a/b..", "https://front.example/..a/b.."),
        ("http://127.0.0.1:8080/api", "http://127.0.0.1:8080/api"),
    ],
)
def test_address_is_accepted(url: str, expected: str) -> None:
    """HTTPS is accepted anywhere, HTTP on loopback, each with a path; a slash at the end goes."""
    assert expected == check_base_url(url)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("test", TEST), ("production", PRODUCTION), ("TEST", TEST), ("Production", PRODUCTION)],
)
def test_host_of_the_platform_has_a_name(name: str, expected: str) -> None:
    """Its address need not be known."""
    assert expected == check_base_url(name)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "pay.example",
            "//pay.example",
            "//https://pay.example",
            "https://",
            "https:///",
            "https://:443",
            "https:x",
        ),
        *("ftp://pay.example", "file:///etc/passwd", "ws://127.0.0.1", "unix:///run/x"),
        *("https://u@pay.example", "https://u:p@pay.example", "https://@pay.example"),
        *("https://:@pay.example", "https://pay.example?", "https://pay.example?a", "https://a#"),
        *(
            "https://pay.example#a",
            "https://pay.example/?",
            "https://a/;",
            "https://a/b?c",
            "https://a/b#c",
            "https://a/b;c",
            "https://a/b:c@d",
        ),
        *("https://a//b", "https://a/b//c", "https://a/.", "https://a/../b", "https://a/b/.."),
        *(
            "https://a/b%2fc",
            "https://a/b c",
            "https://a/b\n",
            "https://a/\u00fc",
            "https://a/b\\c",
        ),
        *("tset", "test/", "test.", "prod", "/test", "https://test/test/../x"),
        *(
            "https://a/%2e%2e",
            "https://a/b|c",
        ),
        *("https://pay.example:0", "https://pay.example:65536", "https://pay.example:-1"),
        *(
            "https://pay.example:",
            "https://pay.example:x",
            "https://pay.example:８",
            "https://a:1:2",
        ),
        *("https://[::1", "https://::1", "https://[::1]x", "https://[::g]", "https://[1.2.3.4]"),
        *(
            "https://[fe80::1%25eth0]",
            "https://[:::]",
            " https://pay.example",
            "https://pay.example ",
        ),
        *(
            "https://pay\n.example",
            "https://pay.example\n",
            "https://pay\\.example",
            "https://pay .a",
        ),
        *("https://-pay.example", "https://pay.example.", "https://пример.example", "https://a%2e"),
    ],
)
def test_address_of_no_platform_is_refused(url: str) -> None:
    """A query would swallow the endpoint's path; what else is refused could hold a password."""
    with pytest.raises(InvalidRequestError, match="not the address of a platform") as caught:
        check_base_url(url)

    assert "base_url" == caught.value.field
    assert "https://host[:port][/path], test or production" in caught.value.allowed
    assert Fate.NOT_SENT == caught.value.fate


@pytest.mark.parametrize(
    "url",
    [
        *("http://pay.example", "HTTP://pay.example", "http://10.0.0.7", "http://0.0.0.0"),
        *("http://localhost.example", "http://127.0.0.1.example", "http://[::2]", "http://127.1"),
    ],
)
def test_plain_http_beyond_loopback_is_refused(url: str) -> None:
    """Others on the network could read the payment; the error names the switch."""
    for address in (url, f"{url}/gongmall"):
        with pytest.raises(InvalidRequestError, match="plain HTTP") as caught:
            check_base_url(address)

        assert "allow_insecure=True" in caught.value.allowed
        assert "WXPAY_ALLOW_INSECURE=1" in caught.value.allowed
        assert address == check_base_url(address, allow_insecure=True)


@pytest.mark.parametrize("value", [None, 443, b"https://pay.example"])
def test_address_that_is_no_text_is_refused(value: object) -> None:
    """The error names the setting, the type, and what is allowed."""
    with pytest.raises(InvalidRequestError, match=f"not {type(value).__name__}") as caught:
        check_base_url(value)  # type: ignore[arg-type] # what is tested

    assert "base_url" == caught.value.field


@pytest.mark.parametrize("url", ["ftp://a", "http://u:p@a", "http://a?b", "ws://a", "a:80", ""])
def test_switch_for_plain_http_allows_nothing_else(url: str) -> None:
    """It is about one thing."""
    with pytest.raises(InvalidRequestError, match="not the address of a platform"):
        check_base_url(url, allow_insecure=True)


@pytest.mark.parametrize("password", ["canary", "ca/nary", "ca#nary", "canary:x", "1/nary"])
def test_password_in_an_address_is_not_repeated(password: str) -> None:
    """Addresses come from the environment, errors go to logs."""
    with pytest.raises(InvalidRequestError) as caught:
        check_base_url(f"https://user:{password}@pay.example")

    assert "nary" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8080/api", True),
        ("http://LOCALHOST/", True),
        ("http://[::1]:1", True),
        ("https://openapi.gongmall.com", False),
        ("http://localhost.example", False),
        ("http://localhost@evil.example", False),
        ("http://10.0.0.7", False),
        ("", False),
    ],
)
def test_loopback_is_recognised_by_the_host_alone(url: str, *, expected: bool) -> None:
    """A name that only begins like loopback is another host."""
    assert expected == is_loopback(url)


def test_repr_of_a_request_shows_its_address_only() -> None:
    """Body and query string may hold a payToken and the signature."""
    request = HttpRequest("https://a.example/api?x=canary", b"canary", {"X": "canary"})

    assert "HttpRequest(url='https://a.example/api')" == repr(request)


def test_repr_of_a_response_shows_its_status_only() -> None:
    """The body may hold a paySign."""
    assert "HttpResponse(status=200)" == repr(HttpResponse(200, b"canary", {"date": "canary"}))


def test_no_timeout_is_endless() -> None:
    """Every timeout is above zero and finite."""
    assert (5.0, 10.0, 15.0, 30.0) == attrs.astuple(Timeouts())
    for name in ("connect", "read", "attempt", "call"):
        for value in (0, -1, math.inf, math.nan):
            with pytest.raises(ValueError, match=name):
                Timeouts(**{name: value})
