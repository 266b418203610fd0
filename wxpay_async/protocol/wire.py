"""The boundary to HTTP: request, response, timeouts, and the protocol of a transport."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

import attrs

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.validators import number

PRODUCTION: Final = "https://openapi.gongmall.com"
TEST: Final = "https://openapi-qa.gongmall.com"

MAX_BODY: Final = 1 << 20
"""Bytes of a response body that a transport reads; a longer one is in doubt."""

SANDBOX_MARKER: Final = "x-wxpay-sandbox"
"""The response header by which a sandbox says that no money moves."""

KEPT_HEADERS: Final = ("date", "location", SANDBOX_MARKER)
"""The response headers that are used; a transport returns no others."""

_HOSTS: Final = MappingProxyType({"production": PRODUCTION, "test": TEST})
_ADDRESSES: Final = (
    "https://host[:port][/path], test or production; http:// on loopback, and elsewhere in a "
    "network of your own by allow_insecure=True (WXPAY_ALLOW_INSECURE=1)"
)
# A query would swallow the endpoint's path that is appended, and other text may be a password.
# Clients resolve `.` and `..`, and servers differ about `%` and `//`.
_ADDRESS: Final = re.compile(
    r"(?P<scheme>https?)://(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[(?P<v6>[0-9a-f:.]+)\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/(?!\.{1,2}(?:/|\Z))[a-z0-9._~-]+)*",
    re.ASCII | re.IGNORECASE,
)
_MAX_PORT: Final = 65535
_SECONDS: Final = number("seconds, above 0 and finite", above=True, finite=True)


def _no_headers() -> dict[str, str]:
    return {}  # a call of `dict[str, str]` takes ten times as long


def _without_query(url: str) -> str:
    return repr(url.partition("?")[0])


@attrs.frozen
class HttpRequest:
    """A signed POST. Body and query hold credentials, so the `repr` does not show them."""

    url: str = attrs.field(repr=_without_query)
    body: bytes = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=_no_headers, repr=False)


@attrs.frozen
class HttpResponse:
    """A response of any status.

    Attributes:
        status: the HTTP status.
        body: the raw bytes, at most `MAX_BODY` of them, never decompressed.
        headers: those in `KEPT_HEADERS`, under lower-case names.
    """

    status: int
    body: bytes = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=_no_headers, repr=False)


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long each phase may take, in seconds. All are finite: nothing may hang for ever.

    Attributes:
        connect: making the connection, TLS handshake included.
        read: between two reads of the response.
        attempt: one attempt as a whole, a limit over both.
        call: one operation of the gateway as a whole: quota, retries, sleeps and attempts. A
            request of a batch waits for its quota for up to a day.
    """

    connect: float = attrs.field(default=5.0, validator=_SECONDS)
    read: float = attrs.field(default=10.0, validator=_SECONDS)
    attempt: float = attrs.field(default=15.0, validator=_SECONDS)
    call: float = attrs.field(default=30.0, validator=_SECONDS)


class Transport(Protocol):
    """Sends one request. Wrap a transport to add behaviour; there is no middleware.

    Any status is a response. Redirects are responses too, and are never followed. A transport keeps
    no cookies, decompresses nothing, reads at most `MAX_BODY` bytes and uses no proxy but the one
    that it was given.
    """

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Post the request once.

        Raises:
            NotSentError: it is proven that no byte of the request arrived.
            InDoubtError: any other failure; the request may have been executed.
        """
        ...

    async def aclose(self) -> None:
        """Release connections. May be called twice; `send` opens new ones."""
        ...


def is_loopback(url: str) -> bool:
    """Tell whether a URL's host is this machine, by its name or address alone."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_base_url(url: str, *, allow_insecure: bool = False) -> str:
    """Return where requests go, without a slash at its end.

    Args:
        url: an address; its path comes before that of each endpoint. Or `test` or `production`.
        allow_insecure: take plain HTTP beyond loopback.

    Raises:
        InvalidRequestError: not HTTPS (plain HTTP is for loopback), or with more than a path.
    """
    if not isinstance(cast("object", url), str):
        raise InvalidRequestError(
            f"a text, not {type(url).__name__}", field="base_url", allowed=_ADDRESSES
        )
    address = _HOSTS.get(url.lower(), url).rstrip("/")
    match = _ADDRESS.fullmatch(address)
    # The error does not repeat the address, which may hold a password.
    if not match or not _is_port(match["port"]) or not _is_host(match["v6"]):
        raise InvalidRequestError(
            "not the address of a platform", field="base_url", allowed=_ADDRESSES
        )
    if match["scheme"].lower() == "http" and not (allow_insecure or is_loopback(address)):
        raise InvalidRequestError(
            "plain HTTP would show the payment to everybody", field="base_url", allowed=_ADDRESSES
        )
    return address


def _is_port(port: str | None) -> bool:
    return port is None or 0 < int(port) <= _MAX_PORT


def _is_host(v6: str | None) -> bool:
    try:
        return v6 is None or bool(ipaddress.IPv6Address(v6))
    except ValueError:
        return False
