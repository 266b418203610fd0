"""The one seam to HTTP: what is posted, what comes back, and who carries it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

import attrs

from wxpay_async.errors import InvalidRequestError

PRODUCTION: Final = "https://openapi.gongmall.com"
TEST: Final = "https://openapi-qa.gongmall.com"

MAX_BODY: Final = 1 << 20
"""Bytes of a response body that a transport reads; a longer one is in doubt."""

SANDBOX_MARKER: Final = "x-wxpay-sandbox"
"""The response header by which a sandbox says that no money moves."""


@attrs.frozen
class HttpRequest:
    """A signed POST. The body holds credentials, so it is not part of the `repr`."""

    url: str
    body: bytes = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)


@attrs.frozen
class HttpResponse:
    """An answer of any status.

    Attributes:
        status: the HTTP status.
        body: the raw bytes, at most `MAX_BODY` of them, never decompressed.
        headers: the headers that matter, under lower-case names.
    """

    status: int
    body: bytes = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long each phase may take, in seconds. All are finite: nothing may hang for ever.

    Attributes:
        connect: until the connection (and its TLS handshake) stands.
        read: between two reads of the answer.
        attempt: one attempt as a whole, the backstop over both.
        call: one operation of the gateway as a whole: quota, retries, sleeps and attempts.
    """

    connect: float = attrs.field(default=5.0, validator=attrs.validators.gt(0))
    read: float = attrs.field(default=10.0, validator=attrs.validators.gt(0))
    attempt: float = attrs.field(default=15.0, validator=attrs.validators.gt(0))
    call: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))


class Transport(Protocol):
    """Carries one request. Wrap one to add behaviour; there is no middleware.

    Any status is a response, redirects included: they are never followed. A transport keeps no
    cookies, decompresses nothing, reads at most `MAX_BODY` bytes and uses no proxy that it was
    not given.
    """

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Post the request once.

        Raises:
            NotSentError: proof that no byte of the request arrived.
            InDoubtError: everything else; the request may have been executed.
        """
        ...

    async def aclose(self) -> None:
        """Release connections. May be called twice; `send` opens them anew."""
        ...


def is_loopback(url: str) -> bool:
    """Tell whether a URL's host is this machine by its very name or address."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked_base_url(url: str) -> str:
    """Return a platform address without a trailing slash.

    Raises:
        InvalidRequestError: not HTTPS (plain HTTP is for loopback only), or more than an origin.
    """
    allowed = "https://host[:port], or http:// on loopback"
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError as error:
        raise InvalidRequestError(str(error), field="base_url", allowed=allowed) from error
    if not parts.hostname or not port_is_valid or parts.scheme not in {"https", "http"}:
        raise InvalidRequestError("not an address", field="base_url", allowed=allowed)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidRequestError("more than an origin", field="base_url", allowed=allowed)
    if parts.scheme == "http" and not is_loopback(url):
        raise InvalidRequestError(
            "plain HTTP would show the payment to everybody", field="base_url", allowed=allowed
        )
    return url.rstrip("/")
