"""The way to the platform: its name, the connection or the proxy, and its certificate."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
import trustme

from tests.contract.transports import Certificates
from tests.support.server import Listen, Peer, Seen, answer
from tests.support.servers import find_free_port
from wxpay_async.cli.doctor import network
from wxpay_async.cli.doctor.findings import UNREACHABLE, Finding, Status
from wxpay_async.cli.doctor.network import check_network

SECRET = "canary-password-3f9"


async def check(base_url: str, proxy: str = "") -> dict[str, Finding]:
    """Return the lines by their names; all of them failed at most once, and show no secret."""
    lines = [line async for line in check_network(base_url, proxy)]
    assert [] == [line for line in lines[:-1] if line.status is Status.FAILED]
    assert SECRET not in str([line.to_json() for line in lines])
    return {line.name: line for line in lines}


def assert_failed(line: Finding, words: str, advice: str) -> None:
    """Check a failure to reach something."""
    assert (Status.FAILED, UNREACHABLE) == (line.status, line.exit_code)
    assert words in line.text
    assert advice in line.advice


async def test_plain_server_on_loopback_is_reached(listen: Listen) -> None:
    """Nothing is said to it."""
    server = await listen(answer)
    lines = await check(server.url)
    assert {"DNS": Status.OK, "connection": Status.OK, "TLS": Status.OK} == {
        name: line.status for name, line in lines.items()
    }
    assert f"127.0.0.1:{server.port} answers in" in lines["connection"].text
    assert (1, []) == (server.connections, server.requests)


async def test_name_is_looked_up(listen: Listen) -> None:
    """The addresses are told."""
    server = await listen(answer)
    lines = await check(f"http://localhost:{server.port}")
    assert "127.0.0.1" in lines["DNS"].text


async def test_name_that_is_not_found_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends there."""

    def find_nothing(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", find_nothing)
    for proxy, what in (("", "the platform's name, p.example"), ("http://q:1", "the proxy's name")):
        lines = await check("https://p.example", proxy)
        assert ["DNS"] == list(lines)
        assert_failed(lines["DNS"], what, "DNS")
        assert "Name or service not known" in lines["DNS"].text


async def test_closed_port_is_a_failure_that_names_the_address() -> None:
    """With what to do, by the variable."""
    port = find_free_port()
    lines = await check(f"http://127.0.0.1:{port}")
    assert_failed(lines["connection"], f"127.0.0.1:{port} cannot be reached", "WXPAY_BASE_URL")
    assert "ECONNREFUSED" in lines["connection"].text
    lines = await check("https://p.example", f"http://127.0.0.1:{port}")
    assert_failed(lines["proxy"], f"127.0.0.1:{port} cannot be reached", "WXPAY_PROXY")


# TLS


async def test_trusted_certificate_is_described(
    listen: Listen, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who signed it, and until when it lasts."""
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca_file)
    server = await listen(answer, tls=certificates.good)
    line = (await check(server.url))["TLS"]
    assert Status.OK is line.status
    assert line.text.startswith("TLSv1.3, the certificate is trusted, issued by trustme")
    assert "trustme" in str(line.facts["issuer"])


async def test_certificate_that_ends_soon_is_a_warning(
    listen: Listen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Payments end with it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    soon = datetime.now(UTC) + timedelta(days=3, hours=1)
    authority.issue_cert("127.0.0.1", not_after=soon).configure_cert(context)
    server = await listen(answer, tls=context)
    line = (await check(server.url))["TLS"]
    assert (Status.WARNING, True) == (line.status, "in 3 days" in line.advice)


@pytest.mark.parametrize(
    ("flaw", "words", "advice"),
    [
        ("self_signed", "self-signed certificate", "SSL_CERT_FILE"),
        ("unknown_authority", "unable to get local issuer", "SSL_CERT_FILE"),
        ("expired", "certificate has expired", "clock"),
        ("wrong_host", "certificate is not valid for", "for another one"),
    ],
)
async def test_certificate_that_is_refused_is_a_failure_with_its_reason(
    listen: Listen,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    flaw: str,
    words: str,
    advice: str,
) -> None:
    """Nothing is sent to such a server."""
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca_file)
    server = await listen(answer, tls=getattr(certificates, flaw))
    lines = await check(server.url)
    assert_failed(lines["TLS"], f"the certificate of 127.0.0.1:{server.port} is refused", advice)
    assert words in lines["TLS"].text
    assert [] == server.requests


async def test_plain_server_at_an_https_address_is_a_failure() -> None:
    """The port speaks no TLS."""

    async def speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(speak_plainly, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    lines = await check(f"https://127.0.0.1:{port}")
    server.close()
    assert_failed(lines["TLS"], f"no handshake with 127.0.0.1:{port}", "speaks TLS")


async def test_server_that_hangs_in_the_handshake_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is given up in time, with or without a proxy before it."""
    monkeypatch.setattr(network, "_PATIENCE", 0.2)
    gone = asyncio.Semaphore(0)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass
        writer.close()
        await writer.wait_closed()
        gone.release()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for url, proxy in ((f"https://{address}", ""), ("https://p.example", f"http://{address}")):
        lines = await check(url, proxy)
        assert_failed(lines["TLS"], "no answer in", "stands between")
    server.close()
    for _ in range(4):  # a port is tried before a handshake
        await gone.acquire()


# A proxy


class Proxy:
    """A proxy that opens tunnels to one port, whatever host is asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.refusal = ""
        self.heads: list[bytes] = []

    async def act(self, peer: Peer, seen: Seen) -> bool:
        """Open a tunnel, or refuse to."""
        self.heads.append(seen.head)
        if self.refusal == "disconnect":
            return False
        if self.refusal == "noise":
            await peer.send(b"220 mail.example ESMTP\r\n\r\n")
            return False
        if self.refusal:
            return await peer.answer(b"", status=self.refusal)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pump(reader, peer.writer), _pump(peer.reader, writer))
        return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_certificate_is_checked_through_the_proxy(
    listen: Listen, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy looks the platform's name up, and gets its login."""
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca_file)
    server = await listen(answer, tls=certificates.good)
    proxy = Proxy(server.port)
    door = await listen(proxy.act)
    lines = await check(
        f"https://localhost:{server.port}", f"http://user:{SECRET}@127.0.0.1:{door.port}"
    )
    assert ["DNS", "proxy", "TLS"] == list(lines)
    assert Status.OK is lines["TLS"].status
    [head] = proxy.heads
    assert head.startswith(f"CONNECT localhost:{server.port} HTTP/1.1\r\n".encode())
    assert base64.b64encode(f"user:{SECRET}".encode()) in head


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ("407 Proxy Authentication Required", "it answers 407"),
        ("403 Forbidden", "it answers 403"),
        ("disconnect", "it ended the connection without an answer"),
        ("noise", "it is no HTTP proxy"),
    ],
)
async def test_proxy_that_opens_no_tunnel_is_a_failure(
    listen: Listen, refusal: str, words: str
) -> None:
    """With what it said."""
    proxy = Proxy(0)
    proxy.refusal = refusal
    door = await listen(proxy.act)
    lines = await check("https://p.example", f"http://127.0.0.1:{door.port}")
    assert ["DNS", "proxy"] == list(lines)
    assert_failed(lines["proxy"], f"does not lead to p.example:443: {words}", "WXPAY_PROXY")


async def test_proxy_by_https_leads_on(
    listen: Listen, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform's TLS goes within that of the proxy."""
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca_file)
    server = await listen(answer, tls=certificates.good)
    door = await listen(Proxy(server.port).act, tls=certificates.good)
    lines = await check(f"https://localhost:{server.port}", f"https://127.0.0.1:{door.port}")
    assert (["DNS", "proxy", "TLS"], Status.OK) == (list(lines), lines["TLS"].status)


async def test_proxy_whose_certificate_is_refused_does_not_get_its_login(
    listen: Listen, certificates: Certificates
) -> None:
    """It may be anybody's."""
    proxy = Proxy(0)
    door = await listen(proxy.act, tls=certificates.self_signed)
    lines = await check("https://p.example", f"https://user:{SECRET}@127.0.0.1:{door.port}")
    assert_failed(lines["proxy"], "its certificate is refused: self-signed", "WXPAY_PROXY")
    assert [] == proxy.heads
