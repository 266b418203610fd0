"""Settings that all HTTP clients share, and the reason of a failed connection."""

from __future__ import annotations

import errno
import ssl
from typing import Final
from urllib.parse import urlsplit

from wxpay_async.errors import InvalidRequestError, NotSentError

KEEP_ALIVE: Final = 15.0
"""Seconds; shorter than any server's, so a kept connection is rarely dead when it is used again."""


def check_proxy(proxy: str | None) -> str | None:
    """Return a proxy's address as it is.

    Raises:
        InvalidRequestError: it is none. It is not repeated, since it may hold a password.
    """
    if proxy is None:
        return None
    try:
        parts = urlsplit(proxy)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise InvalidRequestError("no HTTP proxy", field="proxy", allowed="http://host:port")
    return proxy


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Trust the system's certificates, and those of `ca_file` beside them.

    Raises:
        NotSentError: the file cannot be read.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise NotSentError(f"ca_file: {ca_file!r}: {error}", retryable=False) from error
    return context


def os_reason(error: BaseException | None) -> str:
    """Return what the system or OpenSSL says; a driver's own text may hold the signed address."""
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    else:
        reason = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
    return f" ({reason})" if reason else ""
