"""What all HTTP clients share: the check of a proxy, trust, and the reason of a failure."""

from __future__ import annotations

import errno
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from wxpay_async.adapters.transports.connection import (
    check_proxy,
    name_place,
    os_reason,
    tls_context,
)
from wxpay_async.errors import InvalidRequestError, NotSentError

# Proxies


@pytest.mark.parametrize(
    "proxy",
    [
        None,
        "http://127.0.0.1:3128",
        "https://proxy.example",
        "http://user:secret@proxy.example:8080",
        "http://[::1]:3128",
    ],
)
def test_proxy_with_a_host_is_returned_as_it_is(proxy: str | None) -> None:
    """Nothing is added or rewritten."""
    assert proxy == check_proxy(proxy)


@pytest.mark.parametrize(
    "proxy",
    [
        "",
        "127.0.0.1:3128",
        "proxy.example",
        "socks5://user:CANARY@proxy.example",
        "http://",
        "http://user:CANARY@",
        "http://user:CANARY@proxy.example:0",
        "http://user:CANARY@proxy.example:port",
        "http://user:CANARY@proxy.example:99999",
        "http://user:CANARY@[::1",
    ],
)
def test_what_is_no_proxy_is_refused_and_not_repeated(proxy: str) -> None:
    """It may hold a password."""
    with pytest.raises(InvalidRequestError) as caught:
        check_proxy(proxy)

    error = caught.value
    assert ("proxy", "http://host:port") == (error.field, error.allowed)
    assert "CANARY" not in f"{error} {error!r} {error.__cause__} {error.__context__}"


# Certificates


def test_own_authority_is_trusted_beside_the_system(tmp_path: Path) -> None:
    """And certificates and host names are checked."""
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))

    context, system = tls_context(str(path)), tls_context(None)

    assert 1 == context.cert_store_stats()["x509_ca"] - system.cert_store_stats()["x509_ca"]
    assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_file_without_a_certificate_is_not_sent_and_not_retried(
    tmp_path: Path, content: str | None
) -> None:
    """The error names the file."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)

    with pytest.raises(NotSentError, match=r"ca_file: .*ca\.pem") as caught:
        tls_context(str(path))

    assert not caught.value.retryable


# Reasons


def _make_untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "CANARY")
    error.verify_message = "certificate has expired"
    return error


def _make_broken() -> ssl.SSLError:
    error = ssl.SSLError(1, "CANARY")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, ""),
        (OSError("CANARY"), ""),
        (OSError(errno.ECONNREFUSED, "CANARY"), " (ECONNREFUSED)"),
        (OSError(123_456, "CANARY"), ""),
        (socket.gaierror(socket.EAI_NONAME, "CANARY"), " (EAI_NONAME)"),
        (ssl.SSLError(1, "CANARY"), ""),
        (_make_broken(), " (WRONG_VERSION_NUMBER)"),
        (_make_untrusted(), " (certificate has expired)"),
        (ValueError("CANARY"), ""),
    ],
)
def test_reason_is_the_system_s_name_and_never_the_driver_s_text(
    error: BaseException | None, reason: str
) -> None:
    """A driver's text may hold the address, and the address may be signed."""
    assert reason == os_reason(error)


@pytest.mark.parametrize(
    ("url", "proxy", "said"),
    [
        ("https://pay.example/api/x?sign=CANARY", None, "pay.example:443"),
        ("http://127.0.0.1:9", None, "127.0.0.1:9"),
        ("https://CANARY:CANARY@[::1]:8443/CANARY#CANARY", None, "[::1]:8443"),
        (
            "https://pay.example/",
            "http://CANARY:CANARY@proxy.example:3128",
            "pay.example:443 through the proxy proxy.example:3128",
        ),
        ("https://[::1/CANARY", None, "a malformed address"),
        ("https://pay.example:99999/CANARY", None, "a malformed address"),
        ("ftp://pay.example/CANARY", None, "pay.example"),
        ("CANARY", None, "no host"),
    ],
)
def test_place_is_host_and_port_and_nothing_else(url: str, proxy: str | None, said: str) -> None:
    """No path, query or login, which may hold what is secret; and it never fails."""
    assert f", to {said}" == name_place(url, proxy)
