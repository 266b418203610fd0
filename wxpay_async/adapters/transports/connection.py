"""Settings that all HTTP clients share, and the reason of a failed connection."""

from __future__ import annotations

import errno
import socket
import ssl
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from wxpay_async.errors import InvalidRequestError, NotSentError
from wxpay_async.protocol.validators import number

KEEP_ALIVE: Final = 15.0
"""Seconds; shorter than any server's, so a kept connection is rarely dead when it is used again."""

CONNECTIONS: Final = number("a whole number, 1 or above", least=1, whole=True)
_PORTS: Final = MappingProxyType({"http": 80, "https": 443})
_LOOKUPS: Final = MappingProxyType(
    {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}
)
"""Why a name could not be looked up: number -> its name."""


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


def name_place(url: str, proxy: str | None = None) -> str:
    """Say where a request went: host and port, and the proxy's; never a query, path or password."""
    place = _host_and_port(url)
    return f", to {place}" + (f" through the proxy {_host_and_port(proxy)}" if proxy else "")


def _host_and_port(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "no host", parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return "a malformed address"
    shown = f"[{host}]" if ":" in host else host
    return f"{shown:.200}:{port}" if port else f"{shown:.200}"


def os_reason(error: BaseException | None) -> str:
    """Return what the system or OpenSSL says; a driver's own text may hold the signed address."""
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    else:
        names = _LOOKUPS if isinstance(error, socket.gaierror) else errno.errorcode
        reason = names.get(error.errno or 0) if isinstance(error, OSError) else None
    return f" ({reason})" if reason else ""
