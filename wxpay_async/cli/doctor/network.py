"""Try the way to the platform: its name, the connection or the proxy, and its certificate.

Nothing is sent but the handshakes. What is trusted is what the default transport trusts.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Final, cast
from urllib.parse import unquote, urlsplit

import attrs

from wxpay_async.cli.doctor.findings import (
    UNREACHABLE,
    Area,
    Finding,
    Scribe,
    Text,
    choose,
    has_failed,
)
from wxpay_async.language import Sentence

_PATIENCE: Final = 5.0
"""Seconds for each step, as a transport has them for its connection."""

_DAYS: Final = 14
_DAY: Final = 86_400.0
_PORTS: Final = {"http": 80, "https": 443}
_HEAD: Final = 16_384
_OK: Final = 200
_MANY: Final = 3
_SELF_SIGNED: Final = frozenset({18, 19, 20, 21})
"""OpenSSL: the issuer is the certificate itself, or is not known here."""

_NOT_IN_TIME: Final = frozenset({9, 10})
"""OpenSSL: not valid yet, and not valid any more."""

_UNNAMED: Final = Sentence("an unnamed authority", "未署名的 CA")
_write: Final = Scribe(Area.NETWORK)


@attrs.frozen
class _Place:
    """A host and a port, and whether TLS is spoken there."""

    host: str
    port: int
    is_tls: bool
    login: str = attrs.field(default="", repr=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _ProxyError(Exception):
    """The proxy does not lead to the platform; the text says what it answered."""


def _read_place(url: str) -> _Place:
    parts = urlsplit(url)
    login = ""
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    port = parts.port or _PORTS[parts.scheme]
    return _Place(parts.hostname or "", port, parts.scheme == "https", login)


async def check_network(base_url: str, proxy: str) -> AsyncIterator[Finding]:
    """Go step by step, and stop where it does not go on.

    Args:
        base_url: the platform's address, which was checked.
        proxy: the proxy's, which was checked; empty for none.
    """
    platform = _read_place(base_url)
    first = _read_place(proxy) if proxy else platform
    for check in (_check_name, _check_port):
        finding = await check(first, by_proxy=bool(proxy))
        yield finding
        if has_failed([finding]):
            return
    if platform.is_tls:
        yield await _check_tls(platform, first if proxy else None)
    else:
        yield _write.ok("TLS", Sentence("not used: plain HTTP", "未使用：明文 HTTP"))


async def _check_name(place: _Place, *, by_proxy: bool) -> Finding:
    what = (
        Sentence("the proxy's name", "代理的主机名")
        if by_proxy
        else Sentence("the platform's name", "平台的主机名")
    )
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(place.host)
        return _write.ok(
            "DNS",
            Sentence(f"not used: {place.host} is an address", f"未使用：{place.host} 是 IP 地址"),
        )
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_PATIENCE):
            found = await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # a TimeoutError is one
        reason = getattr(error, "strerror", None) or choose(Sentence("no answer", "没有应答"))
        return _write.fail(
            "DNS",
            Sentence(
                f"{what.en}, {place.host}, cannot be looked up ({reason})",
                f"{what.zh} {place.host} 无法解析（{reason}）",
            ),
            Sentence(
                "check the name in the address, and this machine's DNS",
                "检查地址中的主机名和本机的 DNS",
            ),
            exit_code=UNREACHABLE,
        )
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    shown = ", ".join(addresses[:_MANY]) + (" …" if len(addresses) > _MANY else "")
    return _write.ok(
        "DNS",
        Sentence(f"{place.host} is {shown}", f"{place.host} 解析为 {shown}"),
        facts={"addresses": addresses},
    )


async def _check_port(place: _Place, *, by_proxy: bool) -> Finding:
    name = "proxy" if by_proxy else "connection"
    began = time.monotonic()
    try:
        async with asyncio.timeout(_PATIENCE), _connect(place):
            took = (time.monotonic() - began) * 1000
    except OSError as error:
        return _write.fail(
            name,
            Sentence(
                f"{place} cannot be reached ({_name_reason(error)})",
                f"无法连接 {place}（{_name_reason(error)}）",
            ),
            _advise_connection(error, name),
            exit_code=UNREACHABLE,
        )
    ms = max(1, round(took))
    return _write.ok(name, Sentence(f"{place} answers in {ms} ms", f"{place} 在 {ms} ms 内应答"))


def _name_reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        seconds = f"{_PATIENCE:.0f}"
        return choose(Sentence(f"no answer in {seconds} s", f"{seconds} 秒内没有应答"))
    return errno.errorcode.get(error.errno or 0) or error.strerror or type(error).__name__


def _advise_connection(error: OSError, name: str) -> Text:
    variable = "WXPAY_PROXY" if name == "proxy" else "WXPAY_BASE_URL"
    if error.errno == errno.ECONNREFUSED:
        return Sentence(
            f"nothing listens there: check the port in {variable}, or start what should listen",
            f"那里没有程序在监听：检查 {variable} 中的端口，或启动应在那里监听的程序",
        )
    return Sentence(
        f"check {variable}, and whether a firewall lets this machine out",
        f"检查 {variable}，以及防火墙是否允许本机访问外网",
    )


# TLS


async def _check_tls(platform: _Place, proxy: _Place | None) -> Finding:
    context = ssl.create_default_context()
    try:
        async with asyncio.timeout(2 * _PATIENCE), _open_tls(platform, proxy, context) as tls:
            version, certificate = tls.version(), tls.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return _write.fail(
            "TLS",
            Sentence(
                f"the certificate of {platform} is refused: {error.verify_message}",
                f"{platform} 的证书不被信任：{error.verify_message}",
            ),
            _advise_certificate(error),
            exit_code=UNREACHABLE,
        )
    except _ProxyError as error:
        return _write.fail(
            "proxy",
            Sentence(
                f"the proxy does not lead to {platform}: {error}",
                f"通过代理无法到达 {platform}：{error}",
            ),
            Sentence(
                "check the login and the port in WXPAY_PROXY, and what the proxy lets through",
                "检查 WXPAY_PROXY 的登录信息和端口，以及代理是否放行",
            ),
            exit_code=UNREACHABLE,
        )
    except OSError as error:  # an SSLError is one
        reason = error.reason if isinstance(error, ssl.SSLError) else _name_reason(error)
        return _write.fail(
            "TLS",
            Sentence(
                f"no handshake with {platform} ({reason})",
                f"与 {platform} 的 TLS 握手失败（{reason}）",
            ),
            Sentence(
                "check that the port speaks TLS, and what stands between",
                "检查该端口是否提供 TLS，以及中间是否有其他设备",
            ),
            exit_code=UNREACHABLE,
        )
    return _describe_certificate(version or "TLS", certificate)


@contextlib.asynccontextmanager
async def _open_tls(
    platform: _Place, proxy: _Place | None, context: ssl.SSLContext
) -> AsyncGenerator[ssl.SSLObject]:
    async with _connect(proxy or platform) as (reader, writer):
        if proxy is not None:
            await _open_tunnel(reader, writer, platform, proxy)
        await writer.start_tls(context, server_hostname=platform.host)
        found = writer.get_extra_info("ssl_object")
        yield found


@contextlib.asynccontextmanager
async def _connect(
    place: _Place,
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect by TCP alone: a proxy by https is spoken to as by http until it answers."""
    reader, writer = await asyncio.open_connection(place.host, place.port)
    try:
        yield reader, writer
    finally:
        # Not waited for: after a handshake that hangs, it would never be told as closed.
        writer.transport.abort()
        await asyncio.sleep(0)


async def _open_tunnel(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, platform: _Place, proxy: _Place
) -> None:
    if proxy.is_tls:
        try:
            await writer.start_tls(ssl.create_default_context(), server_hostname=proxy.host)
        except ssl.SSLCertVerificationError as error:
            said = choose(Sentence("its certificate is refused", "代理的证书不被信任"))
            raise _ProxyError(f"{said}: {error.verify_message}") from error
    lines = [f"CONNECT {platform} HTTP/1.1", f"Host: {platform}"]
    if proxy.login:
        token = base64.b64encode(proxy.login.encode()).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {token}")
    writer.write("\r\n".join([*lines, "", ""]).encode())
    await writer.drain()
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        ended = Sentence("it ended the connection without an answer", "代理没有应答就断开了连接")
        raise _ProxyError(choose(ended)) from None
    words = head[:_HEAD].split(b"\r\n")[0].split(b" ")
    status = words[1].decode("ascii", "replace") if len(words) > 1 else ""
    if status != str(_OK):
        answer = (
            Sentence(f"it answers {status:.16}", f"代理返回 {status:.16}")
            if status.isdigit()
            else Sentence("it is no HTTP proxy", "那里不是 HTTP 代理")
        )
        raise _ProxyError(choose(answer))


def _advise_certificate(error: ssl.SSLCertVerificationError) -> Text:
    if error.verify_code in _SELF_SIGNED:
        return Sentence(
            "no authority that this machine trusts has signed it: check the address; where a"
            " firewall of yours opens TLS, let SSL_CERT_FILE name its authority",
            "签发者不受本机信任：检查地址；如果是自己的防火墙解密 TLS，"
            "用 SSL_CERT_FILE 指定它的 CA",
        )
    if error.verify_code in _NOT_IN_TIME:
        return Sentence(
            "check this machine's clock; if it is right, the platform has to renew it",
            "检查本机时钟；如果时钟正确，需由平台更新证书",
        )
    return Sentence(
        "check the host in WXPAY_BASE_URL: the certificate is for another one",
        "检查 WXPAY_BASE_URL 中的主机名：证书属于另一个主机",
    )


def _describe_certificate(version: str, certificate: Mapping[str, object]) -> Finding:
    until = str(certificate.get("notAfter", ""))
    issuer = _find_organization(certificate.get("issuer"))
    text = Sentence(
        f"{version}, the certificate is trusted, issued by {issuer}, until {until}",
        f"{version}，证书可信，由 {issuer} 签发，有效期至 {until}",
    )
    left = (ssl.cert_time_to_seconds(until) - time.time()) / _DAY if until else _DAYS
    facts = {"version": version, "issuer": issuer, "until": until}
    if left < _DAYS:
        advice = Sentence(
            f"it ends in {left:.0f} days: the platform has to renew it",
            f"{left:.0f} 天后到期：需由平台更新证书",
        )
        return _write.warn("TLS", text, advice, facts=facts)
    return _write.ok("TLS", text, facts=facts)


def _find_organization(issuer: object) -> str:
    """Return who signed, as `getpeercert` tells it: a tuple of tuples of pairs."""
    parts = cast("tuple[tuple[tuple[str, str], ...], ...]", issuer or ())
    pairs = dict(pair for part in parts for pair in part)
    return str(pairs.get("organizationName") or pairs.get("commonName") or choose(_UNNAMED))
